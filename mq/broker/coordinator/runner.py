"""One running group: the state machine with a clock, a journal and waiting consumers.

Everything runs on the event loop. What the group decides is told only once
its journal has it: `settle` waits for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mq.broker.coordinator.journal import ENTRY
from mq.broker.coordinator.records import read_facts
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.group import Group
from mq.broker.groups.plan import Delivery, Outcome, Plan
from mq.broker.groups.ranges import Range
from mq.broker.groups.stats import GroupStats
from mq.broker.model import Durability, GroupGauges
from mq.broker.pending import Outcome as Published
from mq.errors import ChannelFailed, DataLoss, MQError, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from mq.broker.coordinator.groups import ChannelGroups

# How much is read at once to learn of new records.
_ADVANCE_BYTES = 1 << 20
_TIMER_MS_MAX = 3_600_000


class Fetched(NamedTuple):
    """What a fetch hands out: ``frames`` hold the records of ``deliveries``, and others."""

    frames: list[bytes]
    deliveries: list[Delivery]
    lease_until_ms: int = 0
    epoch: int = 0
    active: bool = True


class Lag(NamedTuple):
    """How a group is doing, and how far behind.

    ``seconds_behind`` is the age of the oldest record that is not done.
    """

    stats: GroupStats
    bytes_behind: int
    seconds_behind: float


class GroupRunner:
    """A group of a channel, in operation."""

    def __init__(self, groups: ChannelGroups, group_id: int, name: str, group: Group) -> None:
        self.id = group_id
        self.name = name
        self.group = group
        self._groups = groups
        self._broker = groups.broker
        self._channel = groups.channel
        # Plans in the journal's order, with what the journal said of them.
        self._unsettled: deque[_Settling] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._advance_lock = asyncio.Lock()
        # Why the group can't go on, or None.
        self.failure: MQError | None = None

    # ---- Consumers --------------------------------------------------------

    async def fetch(
        self,
        consumer: str,
        *,
        max_records: int,
        max_bytes: int,
        wait_s: float,
        lease_ms: int = 0,
        epoch: int = 0,
    ) -> Fetched:
        """Lease messages to a consumer, waiting for the first as long as it wants to.

        Raises:
            MQError: It can't have any.
        """
        lease_ms = lease_ms or self.group.config.lease_ms
        deadline_s = self._broker.loop.time() + wait_s
        while True:
            self._check()
            epoch, active = await self._seat(consumer, epoch)
            if active:
                await self._advance()
                now_ms = self._now_ms()
                deliveries = self.group.fetch(consumer, now_ms, max_records, lease_ms, epoch)
                if deliveries:
                    return await self._hand_out(
                        consumer, sorted(deliveries), max_bytes, now_ms + lease_ms, epoch
                    )
                self._reschedule()
            # Now and again it is heard of, so that it keeps its place.
            heard_s = self._broker.loop.time() + self.group.config.session_ms / 3000
            woken = await self._wait(min(deadline_s, heard_s))
            if not woken and self._broker.loop.time() >= deadline_s:
                return Fetched([], [], 0, epoch, active)

    async def _seat(self, consumer: str, epoch: int) -> tuple[int, bool]:
        """The consumer's epoch, and whether it may fetch."""
        if self.group.config.mode is not Mode.EXCLUSIVE or epoch:
            return epoch, True
        plan = self.group.join(consumer, self._now_ms())
        await self.settle(plan)
        return plan.epoch, plan.epoch != 0

    async def _advance(self) -> None:
        """Let the group know of new records, if it has nothing else to hand out."""
        group, channel = self.group, self._channel
        async with self._advance_lock:
            # Before the first record, since the log's start may have moved.
            await self.settle(group.trim(channel.log_start_offset, self._now_ms()))
            while (
                not group.deliverable(self._now_ms())
                and group.read_offset < channel.durable_offset
                and group.read_room != 0
                and not group.advancing
            ):
                await self._learn(group.read_offset)

    async def _learn(self, begin: int) -> None:
        group, channel = self.group, self._channel
        keyed = group.config.mode is Mode.KEY_ORDERED
        end_max = channel.durable_offset
        if group.read_room is not None:
            end_max = min(end_max, begin + group.read_room)
        try:
            data, end = await channel.read_frames(begin, _ADVANCE_BYTES)
        except DataLoss as loss:
            # Handed out like others: whoever fetches them is told of the damage.
            end = min(loss.next_offset, end_max)
            keys: Sequence[bytes | None] = [None] * (end - begin) if keyed else ()
            await self.settle(group.advance(end, self._now_ms(), (), keys))
            return
        facts = read_facts(data, begin, min(end, end_max), with_keys=keyed)
        plan = group.advance(facts.next_offset, self._now_ms(), facts.schedule, facts.keys)
        await self.settle(plan)

    async def _hand_out(
        self,
        consumer: str,
        deliveries: list[Delivery],
        max_bytes: int,
        lease_until_ms: int,
        epoch: int,
    ) -> Fetched:
        """Read what was leased; what is too much for one answer goes back."""
        reading = _Reading(max_bytes)
        taken: list[Delivery] = []
        loss: DataLoss | None = None
        try:
            for delivery in deliveries:
                end, loss = await self._read(delivery, reading)
                if end > delivery.first:
                    taken.append(delivery._replace(next=end))
                if end < delivery.next:
                    break
        except (MQError, asyncio.CancelledError):
            self._hand_back(consumer, [(d.first, d.next) for d in deliveries], epoch)
            raise
        rest = _without(deliveries, taken)
        if loss is not None and not taken:
            # The consumer is told, and keeps the lease: it can acknowledge to go on.
            self._hand_back(consumer, _outside(rest, loss.first_offset, loss.next_offset), epoch)
            raise loss
        self._hand_back(consumer, rest, epoch)
        return Fetched(reading.parts, taken, lease_until_ms, epoch)

    async def _read(self, delivery: Delivery, reading: _Reading) -> tuple[int, DataLoss | None]:
        """Gather a delivery's frames; returns how far it came, and what damage it met."""
        offset = max(delivery.first, reading.next_offset)
        loss = None
        while offset < delivery.next and not reading.full:
            try:
                data, offset = await self._channel.read_frames(
                    offset, reading.room_bytes, delivery.next - offset
                )
            except DataLoss as error:
                loss = error
                break
            reading.add(data, offset)
        return min(delivery.next, offset), loss

    def _hand_back(self, consumer: str, ranges: list[Range], epoch: int) -> None:
        if ranges:
            self.group.hand_back(consumer, ranges, self._now_ms(), epoch)
        self._after()

    async def ack(
        self, consumer: str, ranges: Sequence[Range], epoch: int = 0
    ) -> tuple[Outcome, ...]:
        """Acknowledge; returns, range by range, what was done once it is durable."""
        self._check()
        plan = self.group.ack(consumer, ranges, self._now_ms(), epoch)
        await self.settle(plan)
        return plan.outcomes

    async def nack(
        self,
        consumer: str,
        ranges: Sequence[Range],
        delay_ms: int | None,
        reason: str,
        epoch: int = 0,
    ) -> tuple[Outcome, ...]:
        """Hand back as failed; returns, range by range, what was done once it is durable."""
        self._check()
        plan = self.group.nack(consumer, ranges, self._now_ms(), delay_ms, reason, epoch)
        await self.settle(plan)
        return plan.outcomes

    def extend(
        self, consumer: str, ranges: Sequence[Range], lease_ms: int, epoch: int = 0
    ) -> tuple[tuple[Outcome, ...], int]:
        """Prolong leases; returns what was done and when they end now."""
        self._check()
        now_ms = self._now_ms()
        lease_ms = lease_ms or self.group.config.lease_ms
        outcomes = self.group.extend(consumer, ranges, now_ms, lease_ms, epoch)
        self._reschedule()
        return outcomes, now_ms + lease_ms

    async def release(self, consumer: str, epoch: int = 0) -> None:
        """Hand back all that a consumer has, uncounted."""
        self._check()
        await self.settle(self.group.release(consumer, self._now_ms(), epoch))
        self._after()

    def hand_back(self, consumer: str, ranges: Sequence[Range], epoch: int = 0) -> None:
        """Hand back some of what a consumer has, uncounted; what it has not stays."""
        self._check()
        self._hand_back(consumer, list(ranges), epoch)

    # ---- The whole group --------------------------------------------------

    async def configure(self, config: GroupConfig) -> None:
        """Change settings; durable when this returns."""
        self._check()
        await self.settle(self.group.configure(config, self._now_ms()))

    async def seek(self, offset: int) -> None:
        """Begin anew at an offset; durable when this returns."""
        self._check()
        await self.settle(self.group.seek(offset, self._channel.durable_offset, self._now_ms()))

    async def commit(self, offset: int) -> None:
        """Move the cursor of a reader that wants no leases; durable when this returns."""
        self._check()
        plan = self.group.commit(offset, self._channel.durable_offset, self._now_ms())
        await self.settle(plan)

    async def lag(self) -> Lag:
        """How far the group is behind, in messages, bytes and seconds.

        Raises:
            MQError: The channel can't be read.
        """
        stats = self.group.stats(self._channel.durable_offset, self._now_ms())
        if stats.oldest_offset is None:
            return Lag(stats, 0, 0.0)
        position = await self._channel.locate(
            max(stats.oldest_offset, self._channel.log_start_offset)
        )
        age_s = (self._broker.clock_ns() - position.append_time_ns) / 1e9
        return Lag(stats, position.bytes_after, max(age_s, 0.0))

    def gauges(self) -> GroupGauges:
        """What the metrics show, without waiting for anything."""
        stats = self.group.stats(self._channel.durable_offset, self._now_ms())
        seconds: float | None = 0.0
        if stats.oldest_offset is not None:
            offset = max(stats.oldest_offset, self._channel.log_start_offset)
            position = self._channel.locate_now(offset)
            seconds = None
            if position is not None:
                age_s = (self._broker.clock_ns() - position.append_time_ns) / 1e9
                seconds = max(age_s, 0.0)
        return GroupGauges(
            channel=self._channel.name,
            group=self.name,
            messages_behind=stats.behind,
            seconds_behind=seconds,
            in_flight=stats.in_flight,
            waiting=stats.waiting,
            acked=stats.acked,
            redelivered=stats.redelivered,
            dead=stats.dead,
            expired=stats.expired,
        )

    # ---- Durability -------------------------------------------------------

    async def settle(self, plan: Plan) -> None:
        """Make a plan durable; it has taken effect when this returns.

        Raises:
            MQError: The journal refused it, and nothing happened; or it can't
                tell, and the group takes no calls until it is recovered.
        """
        if not plan.events:
            self._after()
            return
        settling = _Settling(plan, self._broker.loop.create_future())
        self._unsettled.append(settling)

        def told(outcome: Published, _: Durability) -> None:
            settling.said = outcome
            self._settle_ready()

        try:
            self._groups.journal.append(ENTRY, self.id, plan.to_bytes(), told)
        except MQError as error:
            settling.said = error
            self._settle_ready()
        await settling.done

    def _settle_ready(self) -> None:
        """Settle, in their order, the plans that the journal has spoken of."""
        while self._unsettled and self._unsettled[0].said is not None:
            plan, done, said = self._unsettled.popleft().parts()
            if self.failure is not None:
                _tell(done, self.failure)
            elif not isinstance(said, MQError):
                self.group.confirm(plan, self._now_ms())
                _tell(done, None)
            elif isinstance(said, (ResourceExhausted, Unavailable)):
                self.group.abandon(plan, self._now_ms())
                _tell(done, said)
            else:
                # Whether the entry is there, only opening the journal again can tell.
                self.failure = ChannelFailed(
                    f"group {self.name} takes no calls until the broker is restarted: {said}"
                )
                _tell(done, self.failure)
        self._after()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._broker.stopping:
            raise Unavailable("the broker is stopping; try again in a moment")

    # ---- Waiting and time -------------------------------------------------

    def _now_ms(self) -> int:
        return self._broker.now_ms()

    async def _wait(self, deadline_s: float) -> bool:
        """Wait until there may be something; False: not any longer."""
        left_s = deadline_s - self._broker.loop.time()
        if left_s <= 0 or self._broker.stopping:
            return False
        woken: asyncio.Future[None] = self._broker.loop.create_future()
        self._waiting.append(woken)
        self._broker.stats.waiting_pulls += 1
        try:
            await asyncio.wait_for(asyncio.shield(woken), left_s)
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            if woken.done():
                self.notify()
            raise
        finally:
            self._broker.stats.waiting_pulls -= 1
            if not woken.done():
                self._waiting.remove(woken)
                woken.cancel()
        return True

    def notify(self) -> None:
        """Something may be there: let one waiting consumer look, which lets the next."""
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return

    def end_waiting(self) -> None:
        """Let all waiting consumers look: the broker stops."""
        waiting, self._waiting = self._waiting, deque()
        for woken in waiting:
            if not woken.done():
                woken.set_result(None)

    def _after(self) -> None:
        """After anything that may have changed what comes next."""
        if self.failure is None and not self._broker.stopping:
            if self._waiting and self._has_more():
                self.notify()
            self._groups.letters_due(self)
            self._reschedule()
        self._groups.changed()

    def _has_more(self) -> bool:
        group = self.group
        return group.deliverable(self._now_ms()) or group.read_offset < self._channel.durable_offset

    def _reschedule(self) -> None:
        """Set the one timer to when something happens by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_ms = self._now_ms()
        next_ms = self.group.next_event_ms(now_ms)
        if next_ms is not None and not self._broker.stopping:
            delay_ms = min(max(next_ms - now_ms, 1), _TIMER_MS_MAX)
            self._timer = self._broker.loop.call_later(delay_ms / 1000, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self.failure is None and not self._broker.stopping:
            self._groups.spawn(self.settle(self.group.expire(self._now_ms())))

    def close(self) -> None:
        """Let go of timers and waiting consumers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.end_waiting()


class _Settling:
    """A plan on its way through the journal."""

    __slots__ = ("done", "plan", "said")

    def __init__(self, plan: Plan, done: asyncio.Future[None]) -> None:
        self.plan = plan
        self.done = done
        self.said: Published | None = None

    def parts(self) -> tuple[Plan, asyncio.Future[None], Published | None]:
        """All of it."""
        return self.plan, self.done, self.said


class _Reading:
    """The frames gathered for one answer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self.parts: list[bytes] = []
        # One past the last record gathered; ranges are read in order of offset.
        self.next_offset = 0

    @property
    def room_bytes(self) -> int:
        """How much more may be gathered."""
        return max(self._max_bytes - self._size, 1)

    @property
    def full(self) -> bool:
        """Whether that is nothing."""
        return self._size >= self._max_bytes

    def add(self, data: bytes, next_offset: int) -> None:
        """Gather frames."""
        self.parts.append(data)
        self._size += len(data)
        self.next_offset = next_offset


def _without(deliveries: list[Delivery], taken: list[Delivery]) -> list[Range]:
    """The part of ``deliveries`` that is not in ``taken``, which is the beginning of it."""
    rest: list[Range] = []
    for position, delivery in enumerate(deliveries):
        first = taken[position].next if position < len(taken) else delivery.first
        if first < delivery.next:
            rest.append((first, delivery.next))
    return rest


def _outside(ranges: list[Range], first: int, following: int) -> list[Range]:
    """The parts of ranges that are not in ``[first, following)``."""
    parts = [
        part
        for start, end in ranges
        for part in ((start, min(end, first)), (max(start, following), end))
    ]
    return [(start, end) for start, end in parts if start < end]


def _tell(done: asyncio.Future[None], error: MQError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
