"""The project's exceptions: one small tree, by who can act on them.

Each class carries its gRPC status code by name, a ``reason`` that programs can
compare (sent as the ``mq-reason`` trailing metadata), and whether sending the
same call again can help. Fields named in ``detail_fields`` travel as further
``mq-…`` trailing metadata, so that a client raises the same exception, with
the same numbers, as the broker did. This module imports no gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

REASON_KEY = "mq-reason"
DETAIL_PREFIX = "mq-"


class MQError(Exception):
    """Base of all errors that mq raises on purpose. The message says what to do."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "internal"
    retriable: ClassVar[bool] = False
    detail_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def details(self) -> dict[str, int]:
        """The numbers that belong to this error, by field name."""
        return {name: getattr(self, name) for name in self.detail_fields}

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Trailing metadata that lets a client rebuild this exception."""
        pairs = [(REASON_KEY, self.reason)]
        for name, value in self.details().items():
            pairs.append((DETAIL_PREFIX + name.replace("_", "-"), str(value)))
        return tuple(pairs)


class InvalidArgument(MQError):
    """The caller's request can never succeed as it is."""

    code = "INVALID_ARGUMENT"
    reason = "invalid-argument"


class BadChecksum(InvalidArgument):
    """Records arrived with another CRC32C than the producer computed."""

    reason = "bad-checksum"


class ConfigError(MQError):
    """A setting that can't be used; names it."""

    code = "INVALID_ARGUMENT"
    reason = "config"


class ChannelNotFound(MQError):
    """No such channel. Publish and Subscribe tell it as `ChannelMissing`."""

    code = "NOT_FOUND"
    reason = "channel-not-found"


class FailedPrecondition(MQError):
    """Not in this state: something has to be changed first."""

    code = "FAILED_PRECONDITION"
    reason = "failed-precondition"


class GroupNotFound(MQError):
    """No such consumer group."""

    code = "NOT_FOUND"
    reason = "group-not-found"


class ChannelMissing(FailedPrecondition):
    """No such channel, as Publish and Subscribe tell it."""

    reason = "channel-missing"


class ChannelReadOnly(FailedPrecondition):
    """The channel takes no publishes: a failed sync, or damage at its end."""

    reason = "channel-read-only"


class ChannelFailed(FailedPrecondition):
    """The channel could not be opened."""

    reason = "channel-failed"


class DataDirError(FailedPrecondition):
    """The data directory is in use, not ours, of a newer format, or not writable."""

    reason = "data-dir"


class SequenceGap(FailedPrecondition):
    """A batch arrived before the one with the sequence preceding its own."""

    reason = "sequence-gap"
    detail_fields = ("expected_sequence",)

    def __init__(self, message: str, expected_sequence: int = 0) -> None:
        super().__init__(message)
        self.expected_sequence = expected_sequence


class SequenceTooOld(FailedPrecondition):
    """A repeated batch whose receipt is no longer remembered."""

    reason = "sequence-too-old"


class Fenced(FailedPrecondition):
    """Another consumer, or a later epoch of this one, is active in an exclusive group."""

    reason = "fenced"


class LeaseLost(FailedPrecondition):
    """What was to be settled is no longer this consumer's; it may be delivered again.

    ``refusal`` says why: ``"expired"``, ``"other-consumer"``, ``"already-acked"``,
    ``"never-delivered"`` (a broker that restarts forgets leases) or ``"fenced"``.
    """

    reason = "lease-lost"
    detail_fields = ("first_offset", "next_offset")

    def __init__(
        self, message: str, first_offset: int = 0, next_offset: int = 0, refusal: str = "unknown"
    ) -> None:
        super().__init__(message)
        self.first_offset = first_offset
        self.next_offset = next_offset
        self.refusal = refusal


class OffsetOutOfRange(MQError):
    """An offset or time outside ``[log_start_offset, next_offset]``."""

    code = "OUT_OF_RANGE"
    reason = "offset-out-of-range"
    detail_fields = ("log_start_offset", "next_offset")

    def __init__(self, message: str, log_start_offset: int = 0, next_offset: int = 0) -> None:
        super().__init__(message)
        self.log_start_offset = log_start_offset
        self.next_offset = next_offset


class ResourceExhausted(MQError):
    """A limit or quota was met; nothing was written."""

    code = "RESOURCE_EXHAUSTED"
    reason = "resource-exhausted"


class MessageTooLarge(ResourceExhausted):
    """A message or batch is over the size limit."""

    reason = "message-too-large"


class DiskFull(ResourceExhausted):
    """No room on the device; publishing works again once there is."""

    reason = "disk-full"


class Overloaded(ResourceExhausted):
    """Too many calls, waiting pulls or unsynced bytes; slow down and try again."""

    reason = "overloaded"
    retriable = True


class DataLoss(MQError):
    """Records ``[first_offset, next_offset)`` are damaged; reading can go on after."""

    code = "DATA_LOSS"
    reason = "data-loss"
    detail_fields = ("first_offset", "next_offset")

    def __init__(self, message: str, first_offset: int = 0, next_offset: int = 0) -> None:
        super().__init__(message)
        self.first_offset = first_offset
        self.next_offset = next_offset


class RecordsLost(DataLoss):
    """The same of records that a repair has marked as lost. Clients are told `DataLoss`."""


class Unavailable(MQError):
    """The broker can't be reached or is stopping; the same call may work later."""

    code = "UNAVAILABLE"
    reason = "unavailable"
    retriable = True


class DeadlineExceeded(MQError):
    """No answer within the time given; a publish may have happened all the same."""

    code = "DEADLINE_EXCEEDED"
    reason = "deadline-exceeded"
    retriable = True


class Cancelled(MQError):
    """The call was given up by the caller."""

    code = "CANCELLED"
    reason = "cancelled"


class Unauthenticated(MQError):
    """No valid credentials."""

    code = "UNAUTHENTICATED"
    reason = "unauthenticated"


class PermissionDenied(MQError):
    """The credentials don't allow this."""

    code = "PERMISSION_DENIED"
    reason = "permission-denied"


class Internal(MQError):
    """A bug in mq, or an answer that is not one of a broker's."""


def _tree(root: type[MQError]) -> list[type[MQError]]:
    return [root, *(leaf for sub in root.__subclasses__() for leaf in _tree(sub))]


_BY_REASON = {cls.reason: cls for cls in reversed(_tree(MQError))}
_BY_CODE = {
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": ChannelNotFound,
    "FAILED_PRECONDITION": FailedPrecondition,
    "OUT_OF_RANGE": OffsetOutOfRange,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "DATA_LOSS": DataLoss,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
}


# What gRPC's core says, without a reason, of a call that is over the broker's limit.
_CALL_TOO_LARGE = re.compile(r"SERVER: Received message larger than max \((\d+) vs\. (\d+)\)")


def from_status(code: str, message: str, metadata: Mapping[str, str]) -> MQError:
    """Rebuild the broker's exception from a gRPC status.

    Args:
        code: The status code's name, such as ``"OUT_OF_RANGE"``.
        message: The status message.
        metadata: The trailing metadata; unknown keys are ignored.

    Returns:
        The exception named by ``mq-reason``, or by the code where that is absent.
    """
    cls = _BY_REASON.get(metadata.get(REASON_KEY, ""), _BY_CODE.get(code, Internal))
    if cls is ResourceExhausted and (sizes := _CALL_TOO_LARGE.match(message)):
        return MessageTooLarge(
            f"a call of {sizes[1]} bytes is over the broker's max_recv_bytes, {sizes[2]}: send "
            "less at a time, or raise it"
        )
    details = {}
    for name in cls.detail_fields:
        value = metadata.get(DETAIL_PREFIX + name.replace("_", "-"), "")
        if value.isdecimal():
            details[name] = int(value)
    return cls(message, **details)
