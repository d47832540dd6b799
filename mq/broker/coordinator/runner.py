"""One running group: the state machine with a clock, a journal and waiting consumers.

Everything runs on the event loop. What the group decides is told only once
its journal has it: `settle` waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple, Protocol

from mq.broker.channel import Channel
from mq.broker.coordinator.feed import Feed
from mq.broker.coordinator.handout import gather, outside, spare, without
from mq.broker.coordinator.journal import Journal
from mq.broker.coordinator.meter import Meter
from mq.broker.coordinator.records import find_gone
from mq.broker.coordinator.settling import Settler
from mq.broker.coordinator.waiting import WaitingConsumers
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.group import Group
from mq.broker.groups.plan import Delivery, Outcome, Plan
from mq.broker.groups.ranges import Range
from mq.broker.shared import Shared
from mq.broker.threads import stopping_error
from mq.errors import MQError, OffsetOutOfRange

_TIMER_MS_MAX: Final = 3_600_000
# After the journal refused what time does: a full disk isn't asked again at once.
_REFUSED_MS: Final = 1_000


class Fetched(NamedTuple):
    """What a fetch hands out: ``frames`` hold the records of ``deliveries``, and others."""

    frames: list[bytes]
    deliveries: list[Delivery]
    lease_until_ms: int = 0
    epoch: int = 0
    active: bool = True


class _Lease(NamedTuple):
    """A lease whose messages are being read, to be handed out."""

    consumer: str
    epoch: int
    id: int
    until_ms: int


class Groups(Protocol):
    """What a group needs of the ones beside it."""

    shared: Shared
    channel: Channel
    journal: Journal

    def changed(self, runner: GroupRunner | None = None) -> None:
        """To be called after any change."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; its failure is logged."""


class GroupRunner:
    """A group of a channel, in operation.

    Attributes:
        id: The group, in the journal.
        name: The group, for people.
        group: What it has decided.
        meter: How far it is behind.
    """

    def __init__(self, groups: Groups, group_id: int, name: str, group: Group) -> None:
        self.id = group_id
        self.name = name
        self.group = group
        self._groups = groups
        self._shared = groups.shared
        self._channel = groups.channel
        self._settler = Settler(groups.shared, groups.journal, group, group_id, name, self._after)
        self._feed = Feed(groups.shared, groups.channel, group, self.settle)
        self._waiting = WaitingConsumers(groups.shared)
        self.meter = Meter(groups.shared, groups.channel, name, group)
        self._timer: asyncio.TimerHandle | None = None
        # Nothing happens by itself before this time.
        self._quiet_until_ms = 0

    @property
    def failure(self) -> MQError | None:
        """Why the group can't go on, or None."""
        return self._settler.failure

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
        deadline_s = self._shared.loop.time() + wait_s
        while True:
            self._check()
            epoch, active = await self._seat(consumer, epoch)
            if active:
                await self._feed.advance()
                now_ms = self._now_ms()
                deliveries = self.group.fetch(consumer, now_ms, max_records, lease_ms, epoch)
                if deliveries:
                    lease = _Lease(consumer, epoch, self.group.last_lease_id, now_ms + lease_ms)
                    fetched = await self._hand_out(lease, sorted(deliveries), max_bytes)
                    if fetched is not None:
                        return fetched
                    continue
                self._reschedule()
            # Now and again it is heard of, so that it keeps its place.
            heard_s = self._shared.loop.time() + self.group.config.session_ms / 3000
            woken = await self._waiting.wait(min(deadline_s, heard_s))
            if not woken and self._shared.loop.time() >= deadline_s:
                return Fetched([], [], 0, epoch, active)

    async def _seat(self, consumer: str, epoch: int) -> tuple[int, bool]:
        """The consumer's epoch, and whether it may fetch."""
        if self.group.config.mode is not Mode.EXCLUSIVE or epoch:
            return epoch, True
        plan = self.group.join(consumer, self._now_ms())
        await self.settle(plan)
        return plan.epoch, plan.epoch != 0

    async def _hand_out(
        self, lease: _Lease, deliveries: list[Delivery], max_bytes: int
    ) -> Fetched | None:
        """Read what was leased; what is too much for one answer goes back.

        None: retention or compaction has taken it away meanwhile; there may be
        something else.
        """
        try:
            frames, taken, loss = await gather(self._channel.reads, deliveries, max_bytes)
        except BaseException as error:
            self._take_back(lease, [(d.first, d.next) for d in deliveries])
            gone = self._channel.log_start_offset > deliveries[0].first
            if gone and isinstance(error, OffsetOutOfRange):
                return None
            raise
        rest = without(deliveries, taken)
        if loss is not None and not taken:
            # The consumer is told, and keeps the lease: it can acknowledge to go on.
            self._take_back(lease, outside(rest, loss.first_offset, loss.next_offset))
            raise loss
        self._take_back(lease, rest)
        ranges = [(delivery.first, delivery.next) for delivery in taken]
        holes = [hole for data in frames for hole in find_gone(data, ranges)]
        if holes:
            try:
                # Nobody is to wait for an acknowledgement of what is not there.
                await self.ack(lease.consumer, holes, lease.epoch)
            except BaseException:
                self._take_back(lease, ranges)
                raise
            taken = spare(taken, holes)
        return Fetched(frames, taken, lease.until_ms, lease.epoch) if taken else None

    def _take_back(self, lease: _Lease, ranges: list[Range]) -> None:
        """Of this lease alone: the consumer may have the same messages by a later one."""
        if ranges:
            self.group.hand_back(lease.consumer, ranges, self._now_ms(), lease.epoch, lease.id)
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
        self.group.hand_back(consumer, ranges, self._now_ms(), epoch)
        self._after()

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

    # ---- What it is made of -----------------------------------------------

    async def settle(self, plan: Plan) -> None:
        """Make a plan durable; it has taken effect when this returns.

        Raises:
            MQError: The journal refused it, and nothing happened; or it can't
                tell, and the group takes no calls until it is recovered.
        """
        await self._settler.settle(plan)

    def notify(self) -> None:
        """New records are durable: let a waiting consumer look, which lets the next."""
        self._waiting.notify()

    def close(self, failure: MQError | None) -> None:
        """Let go of the timer and of waiting consumers.

        Args:
            failure: What everyone is told from now on; None: the broker stops, and
                they are told that.
        """
        if failure is not None:
            self._settler.failure = failure
        self._stop_timer()
        self._waiting.end()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._shared.stopping:
            raise stopping_error()

    def _now_ms(self) -> int:
        return self._shared.now_ms()

    @property
    def _alive(self) -> bool:
        return self.failure is None and not self._shared.stopping

    def _after(self) -> None:
        """After anything that may have changed what comes next."""
        if self._alive:
            if self._waiting and self._feed.has_more:
                self._waiting.notify()
            self._reschedule()
        self._groups.changed(self)

    def _reschedule(self) -> None:
        """Set the one timer to when something happens by itself."""
        self._stop_timer()
        now_ms = self._now_ms()
        next_ms = self.group.next_event_ms(now_ms)
        if next_ms is not None and self._alive:
            delay_ms = min(max(next_ms, self._quiet_until_ms, now_ms + 1) - now_ms, _TIMER_MS_MAX)
            self._timer = self._shared.loop.call_later(delay_ms / 1000, self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._alive:
            self._groups.spawn(self._settle_expired())

    async def _settle_expired(self) -> None:
        try:
            await self.settle(self.group.expire(self._now_ms()))
        except MQError:
            self._quiet_until_ms = self._now_ms() + _REFUSED_MS
            self._reschedule()
            raise
