"""The method table of `mq.MQService`."""

from __future__ import annotations

import asyncio

from mq.broker.broker import Broker
from mq.server.call import Method
from mq.server.service.admin import AdminHandlers
from mq.server.service.groups import GroupHandlers
from mq.server.service.publish import PublishHandlers
from mq.server.service.pull import PullHandlers
from mq.server.service.subscribe import SubscribeHandler

SERVICE = "mq.MQService"


def methods(broker: Broker, batch_size: int, stopping: asyncio.Event) -> list[Method]:
    """Every method of the service, bound to a broker.

    Args:
        broker: A started broker.
        batch_size: Most messages in a batch of Subscribe.
        stopping: Set when the broker stops; ends the streams.
    """
    publish = PublishHandlers(broker)
    groups = GroupHandlers(broker)
    admin = AdminHandlers(broker)
    unary = {
        "CreateChannel": admin.create_channel,
        "Publish": publish.publish,
        "PublishBatch": publish.publish_batch,
        "Pull": PullHandlers(broker).pull,
        "ListChannels": admin.list_channels,
        "DescribeChannel": admin.describe_channel,
        "ConfigureChannel": admin.configure_channel,
        "DeleteChannel": admin.delete_channel,
        "PurgeChannel": admin.purge_channel,
        "Fetch": groups.fetch,
        "Ack": groups.ack,
        "Nack": groups.nack,
        "Extend": groups.extend,
        "Release": groups.release,
        "CreateGroup": groups.create_group,
        "ListGroups": groups.list_groups,
        "DescribeGroup": groups.describe_group,
        "SeekGroup": groups.seek_group,
        "DeleteGroup": groups.delete_group,
        "RedriveGroup": groups.redrive_group,
        "CommitOffset": groups.commit_offset,
        "CommittedOffset": groups.committed_offset,
    }
    table = [Method(f"/{SERVICE}/{name}", False, handler) for name, handler in unary.items()]
    subscribe = SubscribeHandler(broker, batch_size, stopping).subscribe
    table.append(Method(f"/{SERVICE}/Subscribe", True, subscribe))
    return table
