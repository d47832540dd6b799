"""A consumer group: decides what is handed out and what is settled. No clock, no I/O.

docs/groups_design.md has the states, the events, and who calls what when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from mq.broker.groups.admin import AdminCalls
from mq.broker.groups.config import check_limit, check_name
from mq.broker.groups.core import WORK_MAX
from mq.broker.groups.events import Acked, Activated, Event
from mq.broker.groups.leases import Consumer
from mq.broker.groups.ledger import failures_of
from mq.broker.groups.plan import Delivery, Outcome, Plan, Refusal
from mq.broker.groups.ranges import Range, Run, append_range, merged
from mq.broker.groups.verdicts import LEASE_EXPIRED, Verdicts


class Group(AdminCalls):
    """A consumer group's state, owned by one thread.

    Whatever returns a `Plan` has changed nothing but locks: journal the plan,
    then `confirm` it, or `abandon` it, in the order plans were made. What
    returns anything else has taken effect, and needs no journal.

    Where a call takes ``epoch``: in an exclusive group, what `join` told.
    """

    # ---- Consumers -----------------------------------------------------------

    def join(self, consumer: str, now_ms: int) -> Plan:
        """Say hello. In an exclusive group: become the active consumer, if it can be.

        The plan's ``epoch`` is 0 for a consumer that has to stand by; it
        joins again when `next_event_ms` has come, or the active one released.
        A consumer that is active already gets a new epoch: its former self is
        fenced, and what that had is delivered again.

        Raises:
            Unavailable: The group is being moved or taken over.
        """
        caller = self._caller(consumer, now_ms)
        if not self._seat.matters or not self._seat.may_take(
            consumer, self._overlay.leases, now_ms
        ):
            return Plan()
        epoch = self._ledger.epoch + 1
        verdicts = Verdicts(self._ledger, now_ms)
        pieces: list[Run] = []
        for lease in list(caller.leases.values()):
            pieces += self._judge_lapsed(verdicts, self._overlay.leases.unlocked(lease))
        events = (Activated(epoch, consumer), *verdicts.events())
        return self._put(events, pieces, epoch=epoch, barrier=True)

    def fetch(
        self, consumer: str, now_ms: int, max_records: int, lease_ms: int, epoch: int = 0
    ) -> list[Delivery]:
        """Lease messages to a consumer: ready ones first, by offset, then new ones.

        Returns:
            Ranges with their delivery count, ascending among the ready and
            among the new ones. Empty: nothing is there, `advance` or wait.

        Raises:
            Fenced: Another consumer of an exclusive group is active.
            Unavailable: The group is being moved or taken over.
            InvalidArgument: An argument out of its limits.
        """
        caller = self._caller(consumer, now_ms)
        check_limit("max_records", max_records)
        check_limit("lease_ms", lease_ms)
        self._seat.check(consumer, epoch)
        pool = self._overlay.pool
        pool.promote(now_ms, max(WORK_MAX, max_records))
        taken = pool.take(max_records, self._log_start, now_ms)
        if not taken:
            return []
        self._overlay.leases.grant(caller, taken, now_ms + lease_ms)
        return self._deliveries(taken)

    def ack(self, consumer: str, ranges: Iterable[Range], now_ms: int, epoch: int = 0) -> Plan:
        """Messages are processed: never deliver them again.

        Raises:
            Unavailable: The group is being moved or taken over.
            InvalidArgument: A range that is none.
        """
        caller = self._caller(consumer, now_ms)
        pieces, outcomes = self._sort_out(caller, ranges, now_ms, epoch)
        if not pieces:
            return Plan(outcomes=outcomes)
        self._overlay.lock(pieces)
        done: list[Range] = []
        for first, following, _ in pieces:
            append_range(done, first, following)
        return self._commits.put(
            Plan(
                (Acked(tuple(done)),),
                outcomes,
                confirmed=partial(self._overlay.settle_acked, pieces, caller),
                abandoned=partial(self._overlay.unlock, pieces),
            )
        )

    def nack(
        self,
        consumer: str,
        ranges: Iterable[Range],
        now_ms: int,
        delay_ms: int | None = None,
        reason: str = "",
        epoch: int = 0,
    ) -> Plan:
        """Messages could not be processed: deliver them again, or let them die.

        Args:
            consumer: Who has them.
            ranges: Which.
            now_ms: The time.
            delay_ms: How long they wait; None: back off by the number of failures.
            reason: Kept for the dead letter, should this be the last delivery.
            epoch: Of the consumer.

        Raises:
            Unavailable: The group is being moved or taken over.
            InvalidArgument: A range that is none, or a delay out of its limits.
        """
        caller = self._caller(consumer, now_ms)
        if delay_ms is not None:
            check_limit("delay_ms", delay_ms, lowest=0)
        pieces, outcomes = self._sort_out(caller, ranges, now_ms, epoch)
        verdicts = Verdicts(self._ledger, now_ms)
        for first, following, _ in pieces:
            verdicts.fail(first, following, reason, delay_ms)
        self._overlay.lock(pieces)
        return self._put(verdicts.events(), pieces, outcomes)

    def extend(
        self,
        consumer: str,
        ranges: Iterable[Range],
        now_ms: int,
        lease_ms: int,
        epoch: int = 0,
    ) -> tuple[Outcome, ...]:
        """Let leases end ``lease_ms`` from now.

        Raises:
            Unavailable: The group is being moved or taken over.
            InvalidArgument: A range that is none, or a lease out of its limits.
        """
        caller = self._caller(consumer, now_ms)
        check_limit("lease_ms", lease_ms)
        pieces, outcomes = self._sort_out(caller, ranges, now_ms, epoch)
        self._overlay.leases.extend(pieces, now_ms + lease_ms)
        return outcomes

    @property
    def last_lease_id(self) -> int:
        """The lease that the last `fetch` granted; to be asked before anything else is called."""
        return self._overlay.leases.last_id

    def hand_back(
        self,
        consumer: str,
        ranges: Iterable[Range],
        now_ms: int,
        epoch: int = 0,
        lease_id: int = 0,
    ) -> tuple[Outcome, ...]:
        """Take back a part of what was fetched, as if it had not been.

        For what did not fit into an answer, or an answer nobody waited for. It
        decides nothing, and so can be called while the group is being moved.

        Args:
            consumer: Who has it.
            ranges: Which.
            now_ms: The time.
            epoch: Of the consumer.
            lease_id: Only what it still has by this lease: a later one may have
                the same messages, under the same name. 0: by any lease.

        Raises:
            InvalidArgument: A range that is none.
        """
        caller = self._overlay.leases.touch(check_name(consumer), now_ms)
        pieces, outcomes = self._sort_out(caller, ranges, now_ms, epoch, lease_id)
        self._overlay.put_back(pieces, now_ms)
        return outcomes

    def heartbeat(self, consumer: str, now_ms: int) -> None:
        """The consumer is there, if silent: its fetch is waiting."""
        self._caller(consumer, now_ms)

    def release(self, consumer: str, now_ms: int, epoch: int = 0) -> Plan:
        """Say goodbye: what the consumer has can be handed out at once, not counted as delivered.

        Only in an exclusive group is there anything to journal.

        Raises:
            Fenced: The consumer's epoch is over.
            Unavailable: The group is being moved or taken over.
        """
        caller = self._caller(consumer, now_ms)
        active = self._seat.matters and consumer == self._ledger.active
        if active:
            self._seat.check(consumer, epoch)
        self._overlay.give_back(caller, now_ms)
        events = (Activated(epoch, ""),) if active else ()
        return self._put(events, (), barrier=True)

    def _caller(self, consumer: str, now_ms: int) -> Consumer:
        self._commits.check_still()
        return self._overlay.leases.touch(check_name(consumer), now_ms)

    def _sort_out(
        self,
        caller: Consumer,
        ranges: Iterable[Range],
        now_ms: int,
        epoch: int,
        lease_id: int = 0,
    ) -> tuple[list[Run], tuple[Outcome, ...]]:
        wanted = merged(ranges)
        if not self._seat.is_taken_by(caller.name, epoch):
            return [], tuple(Outcome(*each, Refusal.FENCED) for each in wanted)
        pieces, outcomes = self._overlay.sort_out(caller, wanted, now_ms, lease_id)
        return pieces, tuple(outcomes)

    def _put(
        self,
        events: tuple[Event, ...],
        pieces: Sequence[Run],
        outcomes: tuple[Outcome, ...] = (),
        epoch: int = 0,
        barrier: bool = False,
    ) -> Plan:
        """A plan about locked pieces, that may not all be done by it."""
        return self._commits.put(
            Plan(
                events,
                outcomes,
                epoch,
                barrier,
                confirmed=partial(self._overlay.settle, pieces),
                abandoned=partial(self._overlay.unlock, pieces),
            )
        )

    def _deliveries(self, taken: Iterable[Range]) -> list[Delivery]:
        marks = self._ledger.marks
        if not marks:
            return [Delivery(first, following, 1) for first, following in taken]
        found: list[Delivery] = []
        for first, following in taken:
            for start, end, mark in marks.runs(first, following):
                count = failures_of(mark) + 1
                if found and found[-1][1:] == (start, count):
                    found[-1] = Delivery(found[-1].first, end, count)
                else:
                    found.append(Delivery(start, end, count))
        return found

    # ---- Time ----------------------------------------------------------------

    def expire(self, now_ms: int) -> Plan:
        """Do what time does: leases lapse, waits end, messages expire.

        To be called when `next_event_ms` has come, and once more after that as
        long as it has. While the group is being moved there is nothing to do.
        """
        if self._commits.moving:
            return Plan()
        leases, pool = self._overlay.leases, self._overlay.pool
        pool.promote(now_ms, WORK_MAX)
        pool.doom_expired(now_ms, WORK_MAX)
        verdicts = Verdicts(self._ledger, now_ms)
        pieces: list[Run] = []
        while len(pieces) < WORK_MAX and (lease := leases.pop_lapsed(now_ms)):
            pieces += self._judge_lapsed(verdicts, leases.unlocked(lease))
        for first, following in pool.take_doomed(WORK_MAX - len(pieces)):
            verdicts.doom(first, following)
            pieces.append((first, following, 0))
            self._overlay.lock(pieces[-1:])
        leases.forget_idle(now_ms - self.config.session_ms, self._ledger.active)
        return self._put(verdicts.events(), pieces)

    def _judge_lapsed(self, verdicts: Verdicts, pieces: list[Run]) -> list[Run]:
        # Locked at once: the same lease may come up twice.
        self._overlay.lock(pieces)
        for first, following, _ in pieces:
            verdicts.fail(first, following, LEASE_EXPIRED, delay_ms=0)
        return pieces

    def next_event_ms(self, now_ms: int) -> int | None:
        """When `expire` has something to do next; not after ``now_ms``: now.

        None: nothing will happen by itself. To be asked again after each call.
        """
        if self._commits.moving:
            return None
        leases = self._overlay.leases
        times = (
            leases.next_deadline_ms,
            self._overlay.pool.next_ms(now_ms),
            self._seat.next_ms(leases, now_ms),
        )
        return min((time_ms for time_ms in times if time_ms is not None), default=None)
