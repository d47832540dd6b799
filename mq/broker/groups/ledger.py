"""The durable half of a group: what the journal says, and nothing else.

It changes only by `Ledger.apply`, the same in operation and in recovery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

from mq.broker.groups.config import FAILURES_MAX, TIME_MS_MAX, GroupConfig
from mq.broker.groups.events import (
    Acked,
    Activated,
    Committed,
    Configured,
    Dead,
    DeadPublished,
    Entry,
    Event,
    Expired,
    Failed,
    Gone,
    Scheduled,
    Sought,
    Trimmed,
)
from mq.broker.groups.ranges import Column, RangeMap

# A mark is 0 (nothing is known), DONE, or a time and a number of failures:
# time in the bits from 16 up, failures in bits 1 to 15, bit 0 clear.
DONE = 1
_TIME_SHIFT = 16

# A mark, or a column of them.
Marks = TypeVar("Marks", int, Column)


def mark_of(failures: int, not_before_ms: int) -> int:
    """The mark of a message that failed so often and waits until then."""
    return min(not_before_ms, TIME_MS_MAX - 1) << _TIME_SHIFT | min(failures, FAILURES_MAX) << 1


def failures_of(mark: int) -> int:
    """How often a message with this mark failed; it is not DONE."""
    return mark >> 1 & FAILURES_MAX


def not_before_of(mark: Marks) -> Marks:
    """The time before which a message with this mark isn't handed out; 0: at once."""
    return mark >> _TIME_SHIFT


class DeadLetter(NamedTuple):
    """Messages owed to the dead-letter channel.

    The message at offset ``o`` has the sequence number ``sequence + o - first``.
    """

    sequence: int
    first: int
    next: int
    delivery_count: int
    reason: str


@dataclass(slots=True)
class Totals:
    """Messages, since the group began."""

    acked: int = 0
    # Put back after a nack or a lapsed lease.
    redelivered: int = 0
    dead: int = 0
    expired: int = 0
    # Gone from the channel before they were done.
    trimmed: int = 0


class Ledger:
    """A group's durable state. To be read by anybody, changed by `apply` alone.

    Attributes:
        number: That of the last journal entry applied.
        floor: All below it are done; the message at it is not.
        end: Below it, delay and expiry are known.
        marks: `DONE`, or failures and time, of offsets from the floor up.
        expiries: When messages that are not done expire, Unix ms; 0: never.
        done_above_floor: How many messages are marked `DONE`.
        letters: Dead letters to be published, by sequence.
        next_sequence: That of the next dead letter.
    """

    def __init__(self) -> None:
        self.number = 0
        self.config = GroupConfig()
        self.floor = 0
        self.end = 0
        self.marks = RangeMap()
        self.expiries = RangeMap()
        self.done_above_floor = 0
        self.totals = Totals()
        self.letters: deque[DeadLetter] = deque()
        self.next_sequence = 0
        self.epoch = 0
        self.active = ""

    def apply(self, entry: Entry) -> None:
        """Apply an entry that is durable.

        Its number is above that of the last one; what is below the floor by
        now has no effect.
        """
        assert entry.number > self.number, "journal entries are applied in their order"
        for event in entry.events:
            self._APPLY[type(event)](self, event)
        self.number = entry.number

    def undone_below(self, offset: int) -> int:
        """How many messages from the floor up to an offset are not done."""
        if offset <= self.floor:
            return 0
        if not self.done_above_floor:
            return offset - self.floor
        done = (n - f for f, n, mark in self.marks.set_runs(self.floor, offset) if mark == DONE)
        return offset - self.floor - sum(done)

    def failures_at_limit(self, mark: int) -> bool:
        """Whether a message with this mark may not be delivered once more."""
        limit = self.config.max_deliveries
        return bool(limit) and mark != DONE and failures_of(mark) >= limit

    def _finish(self, first: int, following: int) -> int:
        """Mark as done messages that are not, but for those below the floor; returns how many."""
        first = max(first, self.floor)
        if first >= following:
            return 0
        self.end = max(self.end, following)
        if self.expiries:
            self.expiries.set(first, following, 0)
        if first == self.floor:
            self._raise_floor(following)
        else:
            self.marks.set(first, following, DONE)
            self.done_above_floor += following - first
        return following - first

    def _raise_floor(self, offset: int) -> None:
        """Drop what is below, which is accounted for, and the done run that follows."""
        if self.marks:
            _, following, mark = self.marks.run_at(offset)
            if mark == DONE:
                assert following is not None, "the last run is unmarked"
                self.done_above_floor -= following - offset
                offset = following
            self.marks.set(0, offset, 0)
        self.floor = offset

    def _skip_to(self, offset: int) -> int:
        """Raise the floor over whatever is below; returns how many were not done."""
        undone = self.undone_below(offset)
        if offset > self.floor:
            self.done_above_floor -= offset - self.floor - undone
            if self.expiries:
                self.expiries.set(0, offset, 0)
            self.end = max(self.end, offset)
            self._raise_floor(offset)
        return undone

    def _acked(self, event: Acked) -> None:
        self.totals.acked += sum(self._finish(*r) for r in event.ranges)

    def _expired(self, event: Expired) -> None:
        self.totals.expired += sum(self._finish(*r) for r in event.ranges)

    def _gone(self, event: Gone) -> None:
        self.totals.trimmed += sum(self._finish(*r) for r in event.ranges)

    def _failed(self, event: Failed) -> None:
        for start, following, failures, not_before_ms in event.runs:
            first = max(start, self.floor)
            if first < following:
                self.end = max(self.end, following)
                self.marks.set(first, following, mark_of(failures, not_before_ms))
                self.totals.redelivered += following - first

    def _dead(self, event: Dead) -> None:
        for start, following, delivery_count, reason in event.runs:
            first = max(start, self.floor)
            if first < following:
                letter = DeadLetter(self.next_sequence, first, following, delivery_count, reason)
                self.letters.append(letter)
                self.next_sequence += following - first
                self.totals.dead += self._finish(first, following)

    def _dead_published(self, event: DeadPublished) -> None:
        while self.letters and self.letters[0].sequence < event.next_sequence:
            letter = self.letters.popleft()
            first = letter.first + event.next_sequence - letter.sequence
            if first < letter.next:
                rest = letter._replace(sequence=event.next_sequence, first=first)
                self.letters.appendleft(rest)

    def _scheduled(self, event: Scheduled) -> None:
        for start, following, not_before_ms, expires_at_ms in event.runs:
            first = max(start, self.floor)
            if first < following:
                if not_before_ms:
                    self.marks.set(first, following, mark_of(0, not_before_ms))
                if expires_at_ms:
                    self.expiries.set(first, following, expires_at_ms)
        self.end = max(self.end, event.next_offset)

    def _committed(self, event: Committed) -> None:
        self.totals.acked += self._skip_to(event.offset)

    def _trimmed(self, event: Trimmed) -> None:
        self.totals.trimmed += self._skip_to(event.offset)

    def _sought(self, event: Sought) -> None:
        self.marks.clear()
        self.expiries.clear()
        self.done_above_floor = 0
        self.floor = self.end = event.offset

    def _configured(self, event: Configured) -> None:
        self.config = event.config

    def _activated(self, event: Activated) -> None:
        self.epoch = event.epoch
        self.active = event.consumer

    _APPLY: ClassVar[dict[type[Event], Callable[[Ledger, Any], None]]] = {
        Acked: _acked,
        Failed: _failed,
        Dead: _dead,
        DeadPublished: _dead_published,
        Expired: _expired,
        Scheduled: _scheduled,
        Committed: _committed,
        Trimmed: _trimmed,
        Sought: _sought,
        Configured: _configured,
        Activated: _activated,
        Gone: _gone,
    }
