"""Creating, listing, describing, configuring and deleting channels."""

from __future__ import annotations

from mq.broker.broker import Broker
from mq.broker.channel import Channel, State
from mq.broker.model import ChannelConfig
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.publish import WIRE_DURABILITY
from mq.server.service.requests import Tasks, durability, parse

_PAGE_SIZE_DEFAULT = 1000
_PAGE_SIZE_MAX = 10_000
# The settings that are the same on the wire and in the broker.
_SETTINGS = (
    "segment_bytes",
    "max_message_bytes",
    "retention_ms",
    "retention_bytes",
    "retention_records",
    "retain_unacknowledged",
    "retain_unacknowledged_bytes",
    "segment_ms",
    "compact",
)


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
            await self._broker.channels.create(request.channel, config)
            return b""

        self._tasks.spawn(call, create())

    def list_channels(self, call: Call) -> None:
        """A page of channels, by name."""
        request = parse(pb.ListChannelsRequest, call.request)
        size = min(request.page_size or _PAGE_SIZE_DEFAULT, _PAGE_SIZE_MAX)
        names = self._broker.channels.names(request.prefix, request.page_token)
        infos = [
            pb.ChannelInfo(name=name, id=meta.id.hex(), created_ns=meta.created_ns)
            for name in names[:size]
            for meta in (self._broker.channels.get(name).meta,)
        ]
        token = names[size - 1] if len(names) > size else ""
        response = pb.ListChannelsResponse(channels=infos, next_page_token=token)
        call.reply(response.SerializeToString())

    def describe_channel(self, call: Call) -> None:
        """All that is known of a channel."""
        request = parse(pb.DescribeChannelRequest, call.request)
        channel = self._broker.channels.get(request.channel)

        async def describe() -> bytes:
            return await self._info(channel)

        self._tasks.spawn(call, describe())

    def configure_channel(self, call: Call) -> None:
        """Change the settings that are given."""
        request = parse(pb.ConfigureChannelRequest, call.request)
        config = config_of(request.config)

        async def configure() -> bytes:
            channel = await self._broker.channels.configure(request.channel, config)
            return await self._info(channel)

        self._tasks.spawn(call, configure())

    def purge_channel(self, call: Call) -> None:
        """Remove old records, or tell what would be removed."""
        request = parse(pb.PurgeChannelRequest, call.request)
        channel = self._broker.channels.get(request.channel)

        async def purge() -> bytes:
            await channel.life.resolve()
            which = request.WhichOneof("through")
            before = None
            if which == "before_offset":
                before = request.before_offset
            elif which == "before_time_ns":
                before = await channel.reads.offset_at(max(request.before_time_ns, 0))
            removals = await channel.upkeep.purge(before, dry_run=request.dry_run)
            return pb.PurgeChannelResponse(
                removed=[
                    pb.PurgedSegment(
                        first_offset=segment.base_offset,
                        next_offset=segment.end_offset,
                        size_bytes=segment.size_bytes,
                        last_append_time_ns=segment.last_append_time_ns,
                        reason=reason,
                    )
                    for segment, reason in removals
                ],
                log_start_offset=channel.log_start_offset,
            ).SerializeToString()

        self._tasks.spawn(call, purge())

    async def _info(self, channel: Channel) -> bytes:
        await channel.life.resolve()
        return info_of(channel, self._broker.days_to_full()).SerializeToString()

    def delete_channel(self, call: Call) -> None:
        """Remove a channel and all it holds."""
        request = parse(pb.DeleteChannelRequest, call.request)

        async def delete() -> bytes:
            await self._broker.channels.delete(request.channel)
            return b""

        self._tasks.spawn(call, delete())


def config_of(config: pb.ChannelConfig) -> ChannelConfig:
    """The settings that a request gives.

    Raises:
        InvalidArgument: The durability is unknown.
    """
    given = {name: getattr(config, name) for name in _SETTINGS if config.HasField(name)}
    wanted = durability(config.durability)
    return ChannelConfig(durability=wanted or None, **given)


def info_of(channel: Channel, days_to_full: float) -> pb.ChannelInfo:
    """What DescribeChannel answers."""
    log = channel.log
    config = pb.ChannelConfig(
        **{
            name: value
            for name in _SETTINGS
            if (value := getattr(channel.meta.config, name)) is not None
        }
    )
    # In force, wherever they come from.
    config.segment_bytes = channel.life.settings.segment_bytes
    config.durability = WIRE_DURABILITY[channel.life.settings.durability]
    config.max_message_bytes = channel.life.settings.max_message_bytes
    records_per_second, bytes_per_second = channel.queue.rates()
    info = pb.ChannelInfo(
        name=channel.name,
        id=channel.meta.id.hex(),
        config=config,
        log_start_offset=channel.log_start_offset,
        durable_offset=channel.durable_offset,
        created_ns=channel.meta.created_ns,
        last_append_time_ns=channel.life.last_append_time_ns,
        state=_state_of(channel),
        state_reason=channel.life.reason or "",
        publish_records_per_second=records_per_second,
        publish_bytes_per_second=bytes_per_second,
        waiting_pulls=len(channel.pulls.waiters),
        days_to_full=days_to_full,
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
    return pb.CHANNEL_STATE_READ_ONLY if channel.life.reason else pb.CHANNEL_STATE_OK
