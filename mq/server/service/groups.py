"""Consumer groups: fetch under a lease, acknowledge, and what manages them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.plan import Outcome, Refusal
from mq.broker.groups.ranges import Range
from mq.errors import InvalidArgument
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.pull import wait_seconds
from mq.server.service.requests import Tasks, parse

_MAX_RECORDS_DEFAULT = 500
_MAX_BYTES_DEFAULT = 1 << 20
_MAX_BYTES_LIMIT = 32 << 20

_MODES = {
    pb.GROUP_MODE_SHARED: Mode.SHARED,
    pb.GROUP_MODE_KEY_ORDERED: Mode.KEY_ORDERED,
    pb.GROUP_MODE_EXCLUSIVE: Mode.EXCLUSIVE,
}
_WIRE_MODES = {mode: wire for wire, mode in _MODES.items()}
_REFUSALS = {
    Refusal.EXPIRED: pb.REFUSAL_EXPIRED,
    Refusal.OTHER: pb.REFUSAL_OTHER_CONSUMER,
    Refusal.ALREADY: pb.REFUSAL_ALREADY_ACKED,
    Refusal.NEVER: pb.REFUSAL_NEVER_DELIVERED,
    Refusal.FENCED: pb.REFUSAL_FENCED,
    Refusal.PENDING: pb.REFUSAL_PENDING,
}
# The settings that are the same on the wire and in the group, by wire name.
_SETTINGS = {
    "lease_ms": "lease_ms",
    "max_deliveries": "max_deliveries",
    "backoff_min_ms": "backoff_min_ms",
    "backoff_max_ms": "backoff_max_ms",
    "dead_letter_channel": "dead_letter_channel",
    "dead_letter_expired": "expired_to_dead",
    "session_ms": "session_ms",
}


class GroupHandlers:
    """The handlers of consumer groups."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks = Tasks()

    # ---- Consumers --------------------------------------------------------

    def fetch(self, call: Call) -> None:
        """Lease records, making the group if there is none."""
        request = parse(pb.FetchRequest, call.request)
        channel = self._broker.channels.get(request.channel)
        wait_s = wait_seconds(self._broker, call, request.max_wait_ms)

        async def fetch() -> bytes:
            runner = await self._made(
                channel, request.group, request.start, request.config, change=False
            )
            fetched = await runner.fetch(
                request.consumer,
                max_records=request.max_records or _MAX_RECORDS_DEFAULT,
                max_bytes=min(request.max_bytes or _MAX_BYTES_DEFAULT, _MAX_BYTES_LIMIT),
                wait_s=wait_s,
                lease_ms=request.lease_ms,
                epoch=request.epoch,
            )
            answer = pb.FetchResponse(
                deliveries=[
                    pb.Delivery(first_offset=first, next_offset=after, delivery_count=count)
                    for first, after, count in fetched.deliveries
                ],
                lease_until_ms=fetched.lease_until_ms,
                epoch=fetched.epoch,
                active=fetched.active,
            )
            # The frames as they lie on disk are the field `batches`, serialized.
            return b"".join((*fetched.frames, answer.SerializeToString()))

        self._tasks.spawn(call, fetch(), cancellable=True)

    def ack(self, call: Call) -> None:
        """Acknowledge; answered once it is durable."""
        request = parse(pb.AckRequest, call.request)

        async def ack() -> bytes:
            runner = await self._runner(request.channel, request.group)
            ranges = ranges_of(request.ranges)
            return refused(await runner.ack(request.consumer, ranges, request.epoch))

        self._tasks.spawn(call, ack())

    def nack(self, call: Call) -> None:
        """Hand back as failed; answered once it is durable."""
        request = parse(pb.NackRequest, call.request)
        delay_ms = request.delay_ms if request.HasField("delay_ms") else None

        async def nack() -> bytes:
            runner = await self._runner(request.channel, request.group)
            outcomes = await runner.nack(
                request.consumer,
                ranges_of(request.ranges),
                delay_ms,
                request.reason,
                request.epoch,
            )
            return refused(outcomes)

        self._tasks.spawn(call, nack())

    def extend(self, call: Call) -> None:
        """Prolong leases."""
        request = parse(pb.ExtendRequest, call.request)

        async def extend() -> bytes:
            runner = await self._runner(request.channel, request.group)
            outcomes, until_ms = runner.extend(
                request.consumer, ranges_of(request.ranges), request.lease_ms, request.epoch
            )
            return refused(outcomes, until_ms)

        self._tasks.spawn(call, extend())

    def release(self, call: Call) -> None:
        """Hand back all that a consumer has, or some of it."""
        request = parse(pb.ReleaseRequest, call.request)

        async def release() -> bytes:
            runner = await self._runner(request.channel, request.group)
            if request.ranges:
                runner.hand_back(request.consumer, ranges_of(request.ranges), request.epoch)
            else:
                await runner.release(request.consumer, request.epoch)
            return b""

        self._tasks.spawn(call, release())

    # ---- Groups -----------------------------------------------------------

    def create_group(self, call: Call) -> None:
        """Make a group, or change the settings of one that exists."""
        request = parse(pb.CreateGroupRequest, call.request)
        channel = self._broker.channels.get(request.channel)

        async def create() -> bytes:
            runner = await self._made(
                channel, request.group, request.start, request.config, change=True
            )
            return (await self._info(channel, runner)).SerializeToString()

        self._tasks.spawn(call, create())

    def list_groups(self, call: Call) -> None:
        """All groups, of one channel or of all."""
        request = parse(pb.ListGroupsRequest, call.request)
        broker = self._broker
        names = [request.channel] if request.channel else broker.channels.names()
        channels = [broker.channels.get(name) for name in names]

        async def list_all() -> bytes:
            infos = []
            for channel in channels:
                if broker.groups.exist(channel):
                    groups = await broker.groups.of(channel)
                    infos += [await self._info(channel, runner) for runner in groups.runners]
            return pb.ListGroupsResponse(groups=infos).SerializeToString()

        self._tasks.spawn(call, list_all())

    def describe_group(self, call: Call) -> None:
        """How a group is doing."""
        request = parse(pb.DescribeGroupRequest, call.request)
        self._spawn_info(call, request.channel, request.group)

    def seek_group(self, call: Call) -> None:
        """Move a group to another place."""
        request = parse(pb.SeekGroupRequest, call.request)

        async def seek() -> bytes:
            channel = self._broker.channels.get(request.channel)
            runner = await self._runner(request.channel, request.group)
            await runner.seek(await self._offset(channel, request.start))
            return (await self._info(channel, runner)).SerializeToString()

        self._tasks.spawn(call, seek())

    def delete_group(self, call: Call) -> None:
        """Forget a group."""
        request = parse(pb.DeleteGroupRequest, call.request)

        async def delete() -> bytes:
            groups = await self._broker.groups.of(self._broker.channels.get(request.channel))
            await groups.delete(request.group)
            return b""

        self._tasks.spawn(call, delete())

    def redrive_group(self, call: Call) -> None:
        """Publish a group's dead letters to the channel again."""
        request = parse(pb.RedriveGroupRequest, call.request)

        async def redrive() -> bytes:
            channel = self._broker.channels.get(request.channel)
            runner = await self._runner(request.channel, request.group)
            count = await self._broker.groups.redrive(channel, runner, request.max_records)
            return pb.RedriveGroupResponse(record_count=count).SerializeToString()

        self._tasks.spawn(call, redrive())

    def commit_offset(self, call: Call) -> None:
        """Move the cursor of a reader that wants no leases, making the group if need be."""
        request = parse(pb.CommitOffsetRequest, call.request)
        channel = self._broker.channels.get(request.channel)

        async def commit() -> bytes:
            runner = await self._made(
                channel, request.group, pb.StartPosition(), pb.GroupConfig(), change=False
            )
            await runner.commit(request.offset)
            return b""

        self._tasks.spawn(call, commit())

    def committed_offset(self, call: Call) -> None:
        """Where such a reader goes on; nothing if the group does not exist."""
        request = parse(pb.CommittedOffsetRequest, call.request)
        channel = self._broker.channels.get(request.channel)

        async def committed() -> bytes:
            groups = await self._broker.groups.of(channel)
            found = [r.group.committed for r in groups.runners if r.name == request.group]
            return pb.CommittedOffsetResponse(
                offset=found[0] if found else None
            ).SerializeToString()

        self._tasks.spawn(call, committed())

    # ---- Shared -----------------------------------------------------------

    async def _runner(self, channel: str, group: str) -> GroupRunner:
        groups = await self._broker.groups.of(self._broker.channels.get(channel))
        return groups.get(group)

    async def _made(
        self,
        channel: Channel,
        name: str,
        start: pb.StartPosition,
        config: pb.GroupConfig,
        *,
        change: bool,
    ) -> GroupRunner:
        groups = await self._broker.groups.of(channel)
        existing = next((r for r in groups.runners if r.name == name), None)
        if existing is None:
            offset = await self._offset(channel, start)
            return await groups.create(name, group_config(config, GroupConfig()), offset)
        if change:
            await groups.configure(existing, group_config(config, existing.group.config))
        return existing

    async def _offset(self, channel: Channel, start: pb.StartPosition) -> int:
        """The offset that a start stands for; absent is the beginning."""
        await channel.life.ready()
        which = start.WhichOneof("start")
        if which == "offset":
            return start.offset
        if which == "time_ns":
            return await channel.reads.offset_at(max(start.time_ns, 0))
        if which is None or start.position == pb.OFFSET_BEGINNING:
            return channel.log_start_offset
        if start.position == pb.OFFSET_LATEST:
            return channel.durable_offset
        raise InvalidArgument(
            "position is unknown; use OFFSET_BEGINNING or OFFSET_LATEST, an offset or a time"
        )

    def _spawn_info(self, call: Call, channel_name: str, group_name: str) -> None:
        async def info() -> bytes:
            channel = self._broker.channels.get(channel_name)
            runner = await self._runner(channel_name, group_name)
            return (await self._info(channel, runner)).SerializeToString()

        self._tasks.spawn(call, info())

    async def _info(self, channel: Channel, runner: GroupRunner) -> pb.GroupInfo:
        lag = await runner.meter.lag()
        stats, config = lag.stats, runner.group.config
        return pb.GroupInfo(
            channel=channel.name,
            name=runner.name,
            config=pb.GroupConfig(
                mode=_WIRE_MODES[config.mode],
                **{wire: getattr(config, ours) for wire, ours in _SETTINGS.items()},
            ),
            next_offset=runner.group.read_offset,
            acked_through=runner.group.floor,
            committed_offset=runner.group.committed,
            messages_behind=stats.behind,
            bytes_behind=lag.bytes_behind,
            seconds_behind=lag.seconds_behind,
            in_flight=stats.in_flight,
            waiting=stats.waiting,
            acked=stats.acked,
            redelivered=stats.redelivered,
            dead=stats.dead,
            expired=stats.expired,
            consumers=[
                pb.ConsumerInfo(
                    name=each.name,
                    in_flight=each.in_flight,
                    acked=each.acked,
                    last_seen_ms=each.last_seen_ms,
                    active=runner.group.active in {"", each.name},
                )
                for each in stats.consumers
            ],
            epoch=runner.group.epoch,
        )


def group_config(given: pb.GroupConfig, base: GroupConfig) -> GroupConfig:
    """The settings of ``base`` with the ones that a request gives in their place.

    Raises:
        InvalidArgument: The mode is unknown.
    """
    values: dict[str, Any] = {
        ours: getattr(given, wire) for wire, ours in _SETTINGS.items() if given.HasField(wire)
    }
    if given.HasField("mode"):
        if given.mode not in _MODES:
            raise InvalidArgument(
                f"mode {given.mode} is unknown; use 1 (shared), 2 (key ordered) or 3 (exclusive)"
            )
        values["mode"] = _MODES[given.mode]
    return replace(base, **values)


def ranges_of(ranges: Sequence[pb.OffsetRange]) -> list[Range]:
    """The ranges of a request.

    Raises:
        InvalidArgument: There is none.
    """
    if not ranges:
        raise InvalidArgument("ranges is empty; name the offsets, from first to one past the last")
    return [(each.first_offset, each.next_offset) for each in ranges]


def refused(outcomes: Sequence[Outcome], lease_until_ms: int = 0) -> bytes:
    """The answer to Ack, Nack and Extend."""
    return pb.AckResponse(
        refused=[
            pb.RefusedRange(first_offset=first, next_offset=after, refusal=_REFUSALS[refusal])
            for first, after, refusal in outcomes
            if refusal is not None
        ],
        lease_until_ms=lease_until_ms,
    ).SerializeToString()
