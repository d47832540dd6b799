"""mq: a durable, pull-based message broker for one machine, and its client.

The names below are all there is to the client. They are imported when they are
first used, so that ``import mq.errors`` or ``import mq.log`` stays cheap and
needs no gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mq.client.aio import AsyncClient
    from mq.client.aio_group import AsyncGroupBatch, AsyncGroupConsumer, AsyncGroupMessage
    from mq.client.aio_producer import AsyncProducer, PendingReceipt
    from mq.client.aio_subscription import AsyncSubscription
    from mq.client.batch import Batch, Message
    from mq.client.group_options import GroupStats
    from mq.client.group_types import ConsumerInfo, GroupConfig, GroupInfo, PurgedSegment
    from mq.client.pulled import PullResult
    from mq.client.sync import Client
    from mq.client.sync_group import GroupBatch, GroupConsumer, GroupMessage
    from mq.client.sync_producer import Producer, SyncPendingReceipt
    from mq.client.sync_subscription import Subscription
    from mq.client.types import BatchReceipt, ChannelConfig, ChannelInfo, Receipt
    from mq.errors import (
        BadChecksum,
        Cancelled,
        ChannelFailed,
        ChannelMissing,
        ChannelNotFound,
        ChannelReadOnly,
        ConfigError,
        DataDirError,
        DataLoss,
        DeadlineExceeded,
        DiskFull,
        FailedPrecondition,
        Fenced,
        GroupNotFound,
        Internal,
        InvalidArgument,
        LeaseLost,
        MessageTooLarge,
        MQError,
        OffsetOutOfRange,
        Overloaded,
        PermissionDenied,
        ResourceExhausted,
        SequenceGap,
        SequenceTooOld,
        Unauthenticated,
        Unavailable,
    )

    __version__: str

_HOMES = {
    "AsyncClient": "mq.client.aio",
    "AsyncGroupBatch": "mq.client.aio_group",
    "AsyncGroupConsumer": "mq.client.aio_group",
    "AsyncGroupMessage": "mq.client.aio_group",
    "AsyncProducer": "mq.client.aio_producer",
    "AsyncSubscription": "mq.client.aio_subscription",
    "Batch": "mq.client.batch",
    "BatchReceipt": "mq.client.types",
    "ChannelConfig": "mq.client.types",
    "ChannelInfo": "mq.client.types",
    "Client": "mq.client.sync",
    "ConsumerInfo": "mq.client.group_types",
    "GroupBatch": "mq.client.sync_group",
    "GroupConfig": "mq.client.group_types",
    "GroupConsumer": "mq.client.sync_group",
    "GroupInfo": "mq.client.group_types",
    "GroupMessage": "mq.client.sync_group",
    "GroupStats": "mq.client.group_options",
    "Message": "mq.client.batch",
    "PendingReceipt": "mq.client.aio_producer",
    "Producer": "mq.client.sync_producer",
    "PullResult": "mq.client.pulled",
    "PurgedSegment": "mq.client.group_types",
    "Receipt": "mq.client.types",
    "Subscription": "mq.client.sync_subscription",
    "SyncPendingReceipt": "mq.client.sync_producer",
}

_DISTRIBUTION = "mq-broker"

__all__ = [
    "AsyncClient",
    "AsyncGroupBatch",
    "AsyncGroupConsumer",
    "AsyncGroupMessage",
    "AsyncProducer",
    "AsyncSubscription",
    "BadChecksum",
    "Batch",
    "BatchReceipt",
    "Cancelled",
    "ChannelConfig",
    "ChannelFailed",
    "ChannelInfo",
    "ChannelMissing",
    "ChannelNotFound",
    "ChannelReadOnly",
    "Client",
    "ConfigError",
    "ConsumerInfo",
    "DataDirError",
    "DataLoss",
    "DeadlineExceeded",
    "DiskFull",
    "FailedPrecondition",
    "Fenced",
    "GroupBatch",
    "GroupConfig",
    "GroupConsumer",
    "GroupInfo",
    "GroupMessage",
    "GroupNotFound",
    "GroupStats",
    "Internal",
    "InvalidArgument",
    "LeaseLost",
    "MQError",
    "Message",
    "MessageTooLarge",
    "OffsetOutOfRange",
    "Overloaded",
    "PendingReceipt",
    "PermissionDenied",
    "Producer",
    "PullResult",
    "PurgedSegment",
    "Receipt",
    "ResourceExhausted",
    "SequenceGap",
    "SequenceTooOld",
    "Subscription",
    "SyncPendingReceipt",
    "Unauthenticated",
    "Unavailable",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name on its first use, and keep it."""
    if name == "__version__":
        value: object = _version()
    elif name in __all__:
        value = getattr(importlib.import_module(_HOMES.get(name, "mq.errors")), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow to import, and seldom wanted

    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+unknown"  # run from a source tree that isn't installed
