"""The calls about a group as a whole: its place in the channel, settings, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice

from mq.broker.groups.config import TIME_MS_MAX, GroupConfig, Mode
from mq.broker.groups.core import GroupCore
from mq.broker.groups.events import (
    Committed,
    Configured,
    DeadPublished,
    Gone,
    Scheduled,
    ScheduledRun,
    Sought,
    Trimmed,
)
from mq.broker.groups.ledger import DeadLetter
from mq.broker.groups.plan import Plan
from mq.broker.groups.pool import Key
from mq.broker.groups.ranges import Range, merged
from mq.errors import FailedPrecondition, OffsetOutOfRange, Unavailable

# (first, next, not_before_ms, expires_at_ms) of records that carry a delay or an expiry.
Schedule = Sequence[tuple[int, int, int | None, int | None]]


class AdminCalls(GroupCore):
    """What the shell calls on its own account, or an administrator's."""

    # ---- Reading the channel -------------------------------------------------

    def advance(
        self,
        next_offset: int,
        now_ms: int,
        schedule: Schedule = (),
        keys: Sequence[Key] = (),
        begin: int | None = None,
        gone: Sequence[Range] = (),
    ) -> Plan:
        """Take note of the records from `read_offset` up to an offset: they can be handed out.

        Unless a delay, an expiry or a gap has to be journaled, it takes effect at once.

        Args:
            next_offset: One past the last; no effect if not above `read_offset`.
            now_ms: The time.
            schedule: Of those that carry a delay or expiry. May have others,
                which have no effect.
            keys: In a key-ordered group, one a record, from ``begin`` on.
            begin: From where on the records were read, if that took a while:
                `read_offset` may have gone back (a seek), and then there is no
                effect; or on, and then only the rest has one. None: from it.
            gone: Offsets of which the channel has no record any more, ascending:
                never to be handed out. Only those that the group never knew of
                count: whatever else it knows is settled by whom it is handed to.

        Raises:
            Unavailable: The group is being moved, or a plan of `advance` is in flight.
        """
        self._commits.check_still()
        if self._advancing:
            raise Unavailable("a schedule is being written; try again")
        end = self.read_offset
        begin = end if begin is None else begin
        if begin > end or next_offset <= end:
            return Plan()
        ordered = self.config.mode is Mode.KEY_ORDERED
        assert not ordered or len(keys) == next_offset - begin, "one key a record"
        runs = self._scheduled(schedule, next_offset, now_ms)
        holes = self._holes(gone, next_offset)
        if not runs and not holes:
            self._overlay.pool.learn(begin, next_offset, keys, now_ms)
            return Plan()
        self._advancing = True
        scheduled = Scheduled(next_offset, runs)
        return self._commits.put(
            Plan(
                (scheduled, Gone(holes)) if holes else (scheduled,),
                confirmed=partial(self._learn, begin, next_offset, keys, runs),
                abandoned=self._not_learnt,
            )
        )

    def _scheduled(
        self, schedule: Schedule, next_offset: int, now_ms: int
    ) -> tuple[ScheduledRun, ...]:
        """The part of a schedule that is new, and makes a difference."""
        known = max(self._ledger.end, self.read_offset)
        found = []
        for start, end, delayed_until_ms, expiring_ms in schedule:
            first, following = max(start, known), min(end, next_offset)
            not_before_ms = min(delayed_until_ms or 0, TIME_MS_MAX - 1)
            expires_at_ms = min(expiring_ms or 0, TIME_MS_MAX - 1)
            if not_before_ms <= now_ms:
                not_before_ms = 0
            if first < following and (not_before_ms or expires_at_ms):
                found.append(ScheduledRun(first, following, not_before_ms, expires_at_ms))
        return tuple(found)

    def _holes(self, gone: Sequence[Range], next_offset: int) -> tuple[Range, ...]:
        """The part of what is gone that the group never knew of."""
        known = max(self._ledger.end, self.read_offset)
        return tuple(
            (max(first, known), min(following, next_offset))
            for first, following in gone
            if max(first, known) < min(following, next_offset)
        )

    def _learn(
        self,
        begin: int,
        next_offset: int,
        keys: Sequence[Key],
        runs: Sequence[ScheduledRun],
        now_ms: int,
    ) -> None:
        self._advancing = False
        self._overlay.pool.schedule(merged(run[:2] for run in runs), now_ms)
        self._overlay.pool.learn(begin, next_offset, keys, now_ms)

    def _not_learnt(self, now_ms: int) -> None:
        self._advancing = False

    # ---- The whole group -----------------------------------------------------

    def create(self, config: GroupConfig, start_offset: int, now_ms: int) -> Plan:
        """Begin, with these settings, at this offset: the first entry of a new group's journal.

        Raises:
            InvalidArgument: A setting that can't be used.
        """
        assert self._ledger.number == 0, "a group is created once"
        self._commits.check_still()
        events = (Configured(config.check()), Sought(start_offset))
        return self._commits.put(Plan(events, barrier=True, confirmed=self._rebuild))

    def configure(self, config: GroupConfig, now_ms: int) -> Plan:
        """Change settings; times and counts that were decided stay as they are.

        Raises:
            InvalidArgument: A setting that can't be used.
            FailedPrecondition: Another mode, while messages are leased.
            Unavailable: The group is being moved or taken over.
        """
        self._commits.check_still()
        other_mode = config.check().mode is not self.config.mode
        if other_mode and self._overlay.leases.held:
            raise FailedPrecondition(
                f"the mode is {self.config.mode.name} and can't be changed while messages are "
                "leased; stop the consumers first"
            )
        return self._commits.put(
            Plan(
                (Configured(config),),
                barrier=other_mode,
                confirmed=self._rebuild if other_mode else self._reconsider,
            )
        )

    def seek(self, offset: int, end_offset: int, now_ms: int) -> Plan:
        """Begin anew at an offset: all below is done, all from there on is new.

        Leases end; their consumers' acknowledgements are refused.

        Raises:
            OffsetOutOfRange: Below the log start, or above the channel's end.
            Unavailable: The group is being moved or taken over.
        """
        self._commits.check_still()
        self._check_offset(offset, self._log_start, end_offset)
        return self._commits.put(Plan((Sought(offset),), barrier=True, confirmed=self._rebuild))

    def trim(self, log_start_offset: int, now_ms: int) -> Plan:
        """The channel begins here by now: nothing below is handed out, from this moment on.

        If the plan is abandoned, call it again.
        """
        self._log_start = max(self._log_start, log_start_offset)
        if log_start_offset <= self.floor:
            return Plan()
        event = Trimmed(log_start_offset)
        return self._commits.put(Plan((event,), confirmed=self._floor_moved))

    def commit(self, offset: int, end_offset: int, now_ms: int) -> Plan:
        """All messages below are processed; no effect if they are done already.

        Raises:
            OffsetOutOfRange: Above the channel's end.
            FailedPrecondition: Messages are leased: they want `ack`.
            Unavailable: The group is being moved or taken over.
        """
        self._commits.check_still()
        if self._overlay.leases.in_flight:
            raise FailedPrecondition(
                f"{self._overlay.leases.in_flight} messages of the group are leased, so that it "
                "can't be used with commits; acknowledge them, or use a group of its own"
            )
        self._check_offset(offset, 0, end_offset)
        if offset <= self.floor:
            return Plan()
        return self._commits.put(Plan((Committed(offset),), confirmed=self._floor_moved))

    def _check_offset(self, offset: int, lowest: int, highest: int) -> None:
        if not lowest <= offset <= highest:
            raise OffsetOutOfRange(
                f"offset {offset} is not from {lowest} to {highest}; use one that is",
                self._log_start,
                highest,
            )

    def _reconsider(self, now_ms: int) -> None:
        self._overlay.pool.reconsider(now_ms)

    def _floor_moved(self, now_ms: int) -> None:
        self._overlay.floor_moved()

    # ---- Dead letters --------------------------------------------------------

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The first dead letters that are not known to be published, by sequence.

        They are durable: published once or more often, they keep their numbers.
        """
        return list(islice(self._ledger.letters, limit))

    def dead_done(self, next_sequence: int, now_ms: int) -> Plan:
        """All dead letters with lower sequence numbers are in the dead-letter channel."""
        letters = self._ledger.letters
        assert next_sequence <= self._ledger.next_sequence, "published what nobody owes"
        if not letters or next_sequence <= letters[0].sequence:
            return Plan()
        return self._commits.put(Plan((DeadPublished(next_sequence),)))
