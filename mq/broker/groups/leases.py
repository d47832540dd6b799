"""Who holds which messages, and until when. Forgotten at a restart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from mq.broker.groups.ranges import Range, RangeMap, Run

# What a held range's value says: the lease's id and, in bit 0, whether it is
# locked by a decision that isn't durable yet. 1: locked, without a lease.
LOCKED = 1
# Deadlines of leases that are over are dropped once they outnumber the others so far.
_STALE_MAX = 1024


class Consumer:
    """A consumer that has called, and what it holds."""

    __slots__ = ("acked", "in_flight", "last_seen_ms", "leases", "name")

    def __init__(self, name: str, now_ms: int) -> None:
        self.name = name
        self.last_seen_ms = now_ms
        self.in_flight = 0
        self.acked = 0
        self.leases: dict[int, Lease] = {}


class Lease:
    """Messages handed out together. ``messages``: how many are still held."""

    __slots__ = ("consumer", "deadline_ms", "given_back", "id", "messages", "ranges")

    def __init__(
        self, lease_id: int, consumer: Consumer, ranges: Sequence[Range], deadline_ms: int
    ) -> None:
        self.id = lease_id
        self.consumer = consumer
        self.ranges = ranges
        self.deadline_ms = deadline_ms
        self.messages = 0
        self.given_back = False


class Leases:
    """All leases of a group.

    Attributes:
        held: Which lease a message is in, and whether it is locked.
        consumers: By name, all that called of late.
        in_flight: How many messages are leased.
        last_id: The id of the lease that was granted last; no id comes twice.
    """

    def __init__(self, consumers: Iterable[Consumer] = (), last_id: int = 0) -> None:
        self.held = RangeMap()
        self.consumers = {consumer.name: consumer for consumer in consumers}
        self.in_flight = 0
        self._leases: dict[int, Lease] = {}
        self.last_id = last_id
        # (deadline, id); a lease that was extended is put back when it comes up.
        self._deadlines: list[tuple[int, int]] = []

    def touch(self, name: str, now_ms: int) -> Consumer:
        """The consumer of this name, who has just called."""
        consumer = self.consumers.get(name)
        if consumer is None:
            consumer = self.consumers[name] = Consumer(name, now_ms)
        consumer.last_seen_ms = now_ms
        return consumer

    def grant(self, consumer: Consumer, ranges: Sequence[Range], deadline_ms: int) -> None:
        """Lease messages that nobody holds."""
        self.last_id += 1
        lease = Lease(self.last_id, consumer, ranges, deadline_ms)
        self._leases[lease.id] = consumer.leases[lease.id] = lease
        for first, following in ranges:
            self.held.set(first, following, lease.id << 1)
            lease.messages += following - first
        self.in_flight += lease.messages
        consumer.in_flight += lease.messages
        self.watch(lease)

    def watch(self, lease: Lease) -> None:
        """See to it that the lease lapses at its deadline."""
        heappush(self._deadlines, (lease.deadline_ms, lease.id))
        if len(self._deadlines) > 2 * len(self._leases) + _STALE_MAX:
            self._deadlines = [(lease.deadline_ms, i) for i, lease in self._leases.items()]
            heapify(self._deadlines)

    def lease_of(self, code: int) -> Lease | None:
        """The lease that a value of ``held`` stands for."""
        return self._leases[code >> 1] if code > LOCKED else None

    def end(self, first: int, following: int) -> None:
        """Nobody holds these any more, whoever did, locked or not."""
        for start, end, code in self.held.set_runs(first, following):
            lease = self.lease_of(code)
            if lease is not None:
                self._shrink(lease, end - start)
        self.held.set(first, following, 0)

    def _shrink(self, lease: Lease, messages: int) -> None:
        lease.messages -= messages
        lease.consumer.in_flight -= messages
        self.in_flight -= messages
        if not lease.messages:
            del self._leases[lease.id], lease.consumer.leases[lease.id]

    def unlocked(self, lease: Lease) -> list[Run]:
        """The ranges of a lease about which nothing has been decided."""
        code = lease.id << 1
        return [
            run
            for first, following in lease.ranges
            for run in self.held.runs(first, following)
            if run[2] == code
        ]

    def extend(self, pieces: Iterable[Run], deadline_ms: int) -> None:
        """Set a new deadline for parts of leases, unlocked, one consumer's."""
        by_lease: dict[int, list[Range]] = {}
        for first, following, code in pieces:
            by_lease.setdefault(code >> 1, []).append((first, following))
        for lease_id, ranges in by_lease.items():
            lease = self._leases[lease_id]
            if sum(following - first for first, following in ranges) == lease.messages:
                earlier = deadline_ms < lease.deadline_ms
                lease.deadline_ms = deadline_ms
                if earlier:
                    self.watch(lease)
            else:
                for first, following in ranges:
                    self.end(first, following)
                self.grant(lease.consumer, ranges, deadline_ms)

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next lease lapses."""
        self._drop_stale()
        return self._deadlines[0][0] if self._deadlines else None

    def pop_lapsed(self, now_ms: int) -> Lease | None:
        """Take a lease whose deadline has come. It is not watched any more."""
        self._drop_stale()
        if not self._deadlines or self._deadlines[0][0] > now_ms:
            return None
        return self._leases[heappop(self._deadlines)[1]]

    def _drop_stale(self) -> None:
        """Make the first deadline a true one."""
        while self._deadlines:
            deadline_ms, lease_id = self._deadlines[0]
            lease = self._leases.get(lease_id)
            if lease is not None and lease.deadline_ms == deadline_ms:
                return
            heappop(self._deadlines)
            if lease is not None and lease.deadline_ms > deadline_ms:
                heappush(self._deadlines, (lease.deadline_ms, lease_id))

    def forget_idle(self, before_ms: int, active: str) -> None:
        """Forget consumers that hold nothing and have not called since; not the active one."""
        for consumer in list(self.consumers.values()):
            idle = not consumer.leases and consumer.last_seen_ms < before_ms
            if idle and consumer.name != active:
                del self.consumers[consumer.name]

    def leave(self, consumer: Consumer) -> None:
        """The consumer has said goodbye; what it still has locked is settled without it."""
        self.consumers.pop(consumer.name, None)

    def without_leases(self) -> Leases:
        """The same consumers, holding nothing."""
        for consumer in self.consumers.values():
            consumer.leases = {}
            consumer.in_flight = 0
        return Leases(self.consumers.values(), self.last_id)
