"""A shell around a group for tests: a clock that is set, a journal that is a list."""

from __future__ import annotations

from collections.abc import Sequence

from mq.broker.groups import (
    DeadLetter,
    Delivery,
    Group,
    GroupConfig,
    GroupStats,
    Mode,
    Outcome,
    Plan,
    Range,
    Refusal,
    Schedule,
)

START_MS = 1_000_000
LEASE_MS = 1_000
END = 1_000


class Shell:
    """Calls a group, and makes its plans durable at once unless told otherwise."""

    def __init__(self, config: GroupConfig | None = None, end: int = END) -> None:
        self.now_ms = START_MS
        self.journal: list[bytes] = []
        self.group = Group()
        self.end = end
        self.settle(self.group.create(config or GroupConfig(), 0, self.now_ms))
        if self.group.config.mode is not Mode.KEY_ORDERED:
            self.advance(end)

    def settle(self, plan: Plan) -> Plan:
        """Journal and confirm."""
        if plan.events:
            self.journal.append(plan.to_bytes())
            self.group.confirm(plan, self.now_ms)
        return plan

    def abandon(self, plan: Plan) -> None:
        """The journal had no room."""
        self.group.abandon(plan, self.now_ms)

    def crash(self) -> None:
        """Start again from the journal, as it was read so far."""
        self.group = Group.recover(None, self.journal)

    def advance(
        self, next_offset: int, schedule: Schedule = (), keys: Sequence[bytes | None] = ()
    ) -> None:
        """The shell has read on."""
        self.settle(self.group.advance(next_offset, self.now_ms, schedule, keys))

    def fetch(self, consumer: str = "ann", count: int = 10, epoch: int = 0) -> list[Delivery]:
        """Lease messages for `LEASE_MS`."""
        return self.group.fetch(consumer, self.now_ms, count, LEASE_MS, epoch)

    def fetched(self, consumer: str = "ann", count: int = 10, epoch: int = 0) -> list[int]:
        """The same; only the offsets."""
        deliveries = self.fetch(consumer, count, epoch)
        return [offset for each in deliveries for offset in range(each.first, each.next)]

    def ack(self, *ranges: Range, consumer: str = "ann", epoch: int = 0) -> list[Outcome]:
        """Acknowledge, durably."""
        plan = self.group.ack(consumer, ranges, self.now_ms, epoch)
        return list(self.settle(plan).outcomes)

    def nack(
        self,
        *ranges: Range,
        consumer: str = "ann",
        delay_ms: int | None = 0,
        reason: str = "",
        epoch: int = 0,
    ) -> list[Outcome]:
        """Fail, durably; at once available by default."""
        plan = self.group.nack(consumer, ranges, self.now_ms, delay_ms, reason, epoch)
        return list(self.settle(plan).outcomes)

    def join(self, consumer: str) -> int:
        """Join; returns the epoch, 0: standing by."""
        return self.settle(self.group.join(consumer, self.now_ms)).epoch

    def release(self, consumer: str = "ann", epoch: int = 0) -> None:
        """Say goodbye."""
        self.settle(self.group.release(consumer, self.now_ms, epoch))

    def wait(self, passed_ms: int) -> None:
        """Time passes, and the timer fires until it has nothing to do."""
        self.now_ms += passed_ms
        while True:
            due_ms = self.group.next_event_ms(self.now_ms)
            if due_ms is None or due_ms > self.now_ms:
                return
            self.settle(self.group.expire(self.now_ms))

    def publish_dead(self, limit: int = 1_000) -> list[DeadLetter]:
        """Publish dead letters, and say so."""
        letters = self.group.dead_letters(limit)
        if letters:
            last = letters[-1]
            following = last.sequence + last.next - last.first
            self.settle(self.group.dead_done(following, self.now_ms))
        return letters

    @property
    def stats(self) -> GroupStats:
        """The numbers, with the channel's end where it was said to be."""
        return self.group.stats(self.end, self.now_ms)


def refused(outcomes: Sequence[Outcome]) -> list[tuple[int, int, Refusal | None]]:
    """Outcomes as plain tuples, to compare with."""
    return [(first, following, refusal) for first, following, refusal in outcomes]
