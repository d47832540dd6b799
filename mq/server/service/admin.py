"""Creating, listing, describing, configuring and deleting channels."""

from __future__ import annotations

from mq.broker.broker import Broker
from mq.broker.channel import Channel, State
from mq.broker.model import ChannelConfig, Durability
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.publish import WIRE_DURABILITY
from mq.server.service.requests import Tasks, durability, parse

_PAGE_SIZE_DEFAULT = 1000
_PAGE_SIZE_MAX = 10_000


class AdminHandlers:
    """The handlers that manage channels."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks = Tasks()

    def create_channel(self, call: Call) -> None:
        """Create a channel, unless it exists."""
        request = parse(pb.CreateChannelRequest, call.request)
        config = config_of(request.config)

        async def create() -> bytes:
            await self._broker.create(request.channel, config)
            return b""

        self._tasks.spawn(call, create())

    def list_channels(self, call: Call) -> None:
        """A page of channels, by name."""
        request = parse(pb.ListChannelsRequest, call.request)
        size = min(request.page_size or _PAGE_SIZE_DEFAULT, _PAGE_SIZE_MAX)
        names = self._broker.names(request.prefix, request.page_token)
        infos = [
            pb.ChannelInfo(name=name, id=meta.id.hex(), created_ns=meta.created_ns)
            for name in names[:size]
            for meta in (self._broker.get(name).meta,)
        ]
        token = names[size - 1] if len(names) > size else ""
        response = pb.ListChannelsResponse(channels=infos, next_page_token=token)
        call.reply(response.SerializeToString())

    def describe_channel(self, call: Call) -> None:
        """All that is known of a channel."""
        request = parse(pb.DescribeChannelRequest, call.request)
        channel = self._broker.get(request.channel)

        async def describe() -> bytes:
            return info_of(await self._broker.opened(channel)).SerializeToString()

        self._tasks.spawn(call, describe())

    def configure_channel(self, call: Call) -> None:
        """Change the settings that are given."""
        request = parse(pb.ConfigureChannelRequest, call.request)
        config = config_of(request.config)

        async def configure() -> bytes:
            channel = await self._broker.configure(request.channel, config)
            return info_of(await self._broker.opened(channel)).SerializeToString()

        self._tasks.spawn(call, configure())

    def delete_channel(self, call: Call) -> None:
        """Remove a channel and all it holds."""
        request = parse(pb.DeleteChannelRequest, call.request)

        async def delete() -> bytes:
            await self._broker.delete(request.channel)
            return b""

        self._tasks.spawn(call, delete())


def config_of(config: pb.ChannelConfig) -> ChannelConfig:
    """The settings that a request gives.

    Raises:
        InvalidArgument: The durability is unknown.
    """
    given = config.HasField
    wanted = durability(config.durability)
    return ChannelConfig(
        segment_bytes=config.segment_bytes if given("segment_bytes") else None,
        durability=wanted if wanted is not Durability.DEFAULT else None,
        max_message_bytes=config.max_message_bytes if given("max_message_bytes") else None,
    )


def info_of(channel: Channel) -> pb.ChannelInfo:
    """What DescribeChannel answers."""
    log = channel.log
    records_per_second, bytes_per_second = channel.rates()
    info = pb.ChannelInfo(
        name=channel.name,
        id=channel.meta.id.hex(),
        config=pb.ChannelConfig(
            segment_bytes=channel.segment_bytes,
            durability=WIRE_DURABILITY[channel.durability],
            max_message_bytes=channel.max_message_bytes,
        ),
        log_start_offset=channel.log_start_offset,
        durable_offset=channel.durable_offset,
        created_ns=channel.meta.created_ns,
        last_append_time_ns=channel.last_append_time_ns,
        state=_state_of(channel),
        state_reason=channel.reason or "",
        publish_records_per_second=records_per_second,
        publish_bytes_per_second=bytes_per_second,
        waiting_pulls=len(channel.waiters),
    )
    if log is not None:
        info.stored_bytes = log.stored_bytes
        info.allocated_bytes = log.allocated_bytes
        info.segment_count = len(log.segments)
        info.damaged.extend(
            pb.OffsetRange(first_offset=d.first_offset, next_offset=d.next_offset)
            for d in log.damage
        )
    return info


def _state_of(channel: Channel) -> pb.ChannelState:
    if channel.state is State.FAILED:
        return pb.CHANNEL_STATE_FAILED
    return pb.CHANNEL_STATE_READ_ONLY if channel.reason else pb.CHANNEL_STATE_OK
