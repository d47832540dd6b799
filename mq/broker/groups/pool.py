"""What can be handed out, now or later. Derived from the ledger, forgotten at a restart.

A message that is neither done nor held is new (not below the cursor, and in
no set), ready, waiting or doomed: in exactly one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mq.broker.groups.ledger import DONE, Ledger, not_before_of
from mq.broker.groups.ranges import OFFSET_MAX, Range, RangeMap, append_range
from mq.broker.groups.timers import Timers

# A key of a record: empty or None if it has none.
Key = bytes | None
# How much more than the true ones a heap of expiries may hold.
_STALE_MAX = 1024
# How many new messages are looked at together for one that can be handed out.
_LOOK_MAX = 1024


class Pool:
    """Hands out ready messages by offset, then new ones from the cursor.

    Attributes:
        end: Nothing from here up is known, or handed out.
        cursor: Everything below has been handed out, or is in one of the sets.
        ready_count: Messages whose lease ended or whose delay passed.
        waiting_count: Messages whose time has not come (as of the last `promote`).
    """

    def __init__(self, ledger: Ledger, held: RangeMap) -> None:
        self.end = ledger.end
        self.cursor = ledger.floor
        self._ledger = ledger
        self._held = held
        self._ready = RangeMap()
        self._waiting = RangeMap()
        self._doomed = RangeMap()
        self._due = Timers()
        self._expiring = Timers()
        self.ready_count = 0
        self.waiting_count = 0
        self._wait_for_marked()
        self._watch_expiries()

    def _wait_for_marked(self) -> None:
        """Whatever has a mark and is not done waits, if only until the next `promote`."""
        starts, marks = self._ledger.marks.columns()
        waits = (marks != 0) & (marks != DONE)
        if not waits.any():
            return
        self._waiting = RangeMap.from_columns(starts, waits.astype(np.int64))
        firsts, nexts = starts[waits], starts[1:][waits[:-1]]
        self._due.fill(not_before_of(marks[waits]), firsts, nexts)
        self.waiting_count = int((nexts - firsts).sum())

    def _watch_expiries(self) -> None:
        starts, times = self._ledger.expiries.columns()
        expires = times != 0
        self._expiring.fill(times[expires], starts[expires], starts[1:][expires[:-1]])

    # ---- What comes in -------------------------------------------------------

    def learn(self, begin: int, following: int, keys: Sequence[Key], now_ms: int) -> None:
        """Move the end: what is below is readable, and the ledger knows its schedule."""
        self.end = max(self.end, following)

    def schedule(self, ranges: Sequence[Range], now_ms: int) -> None:
        """Take note of new messages that have a delay or an expiry by now."""
        for first, following in ranges:
            for f, n, time_ms in self._ledger.expiries.set_runs(first, following):
                self._expiring.push(time_ms, f, n)
            for f, n, _ in self._ledger.marks.set_runs(first, following):
                self._place(f, n, now_ms)

    def put_back(self, first: int, following: int, now_ms: int) -> None:
        """Take back messages that somebody held and that are not done."""
        self._place(first, following, now_ms)

    def settled(self, first: int, following: int) -> None:
        """These, which somebody held, are done."""

    def forget_below(self, floor: int) -> None:
        """All below are done or gone, wherever they are."""
        self.ready_count -= _take_out(self._ready, 0, floor)
        self.waiting_count -= _take_out(self._waiting, 0, floor)
        _take_out(self._doomed, 0, floor)
        self.cursor = max(self.cursor, floor)
        self.end = max(self.end, floor)

    def reconsider(self, now_ms: int) -> None:
        """The limit of deliveries may have changed."""
        for ranges in (self._ready, self._doomed):
            for first, following, _ in ranges.set_runs(0, OFFSET_MAX):
                self._withdraw(first, following)
                self._place(first, following, now_ms)

    def _place(self, first: int, following: int, now_ms: int) -> None:
        """Put messages that are in no place where they belong by their marks."""
        for f, n, mark in self._ledger.marks.runs(first, following):
            self._place_marked(f, n, mark, now_ms)

    def _place_marked(self, first: int, following: int, mark: int, now_ms: int) -> None:
        not_before_ms = not_before_of(mark)
        for f, n in self._unexpired(first, following, now_ms):
            if not_before_ms > now_ms:
                self._waiting.set(f, n, 1)
                self.waiting_count += n - f
                self._due.push(not_before_ms, f, n)
            elif self._ledger.failures_at_limit(mark):
                self._doomed.set(f, n, 1)
            else:
                self._make_ready(f, n)

    def _make_ready(self, first: int, following: int) -> None:
        self._ready.set(first, following, 1)
        self.ready_count += following - first

    def _unexpired(self, first: int, following: int, now_ms: int) -> list[Range]:
        """The parts that have not expired; the others are doomed."""
        if not self._ledger.expiries:
            return [(first, following)]
        fresh = []
        for f, n, time_ms in self._ledger.expiries.runs(first, following):
            if 0 < time_ms <= now_ms:
                self._doomed.set(f, n, 1)
            else:
                fresh.append((f, n))
        return fresh

    def _withdraw(self, first: int, following: int) -> None:
        """Take messages out of whatever set they are in."""
        self.ready_count -= _take_out(self._ready, first, following)
        self.waiting_count -= _take_out(self._waiting, first, following)
        _take_out(self._doomed, first, following)

    # ---- What time does ------------------------------------------------------

    def promote(self, now_ms: int, work_max: int) -> None:
        """Make ready, earliest first, what has waited long enough; at most so many ranges."""
        for _ in range(work_max):
            time_ms = self._due.next_ms
            if time_ms is None or time_ms > now_ms:
                return
            first, following, _ = self._due.pop()
            for f, n, mark in self._ledger.marks.set_runs(first, following):
                # Another time: it was handed out since, and failed again.
                if mark != DONE and not_before_of(mark) == time_ms:
                    for start, end, _ in self._waiting.set_runs(f, n):
                        self._waiting.set(start, end, 0)
                        self.waiting_count -= end - start
                        self._place_marked(start, end, mark, now_ms)

    def doom_expired(self, now_ms: int, work_max: int) -> None:
        """Doom what has expired and is held by nobody; what is held is seen when it is back."""
        for _ in range(work_max):
            time_ms = self._expiring.next_ms
            if time_ms is None or time_ms > now_ms:
                return
            first, following, _ = self._expiring.pop()
            for f, n, expiry_ms in self._ledger.expiries.set_runs(first, following):
                if expiry_ms == time_ms:
                    for start, end in self._not_held(f, n):
                        self._withdraw(start, end)
                        self._doomed.set(start, end, 1)

    def _not_held(self, first: int, following: int) -> Iterator[Range]:
        return ((f, n) for f, n, code in self._held.runs(first, following) if not code)

    def take_doomed(self, ranges_max: int) -> list[Range]:
        """Take out messages that may not be handed out any more, to decide about them."""
        taken: list[Range] = []
        while len(taken) < ranges_max and (run := self._doomed.next_set(0)):
            taken.append(run[:2])
            self._doomed.set(*run[:2], 0)
        return taken

    def next_ms(self, now_ms: int) -> int | None:
        """When the next message becomes ready, or has to be decided about."""
        if self._doomed:
            return now_ms
        self._drop_stale_expiries()
        times = (self._due.next_ms, self._expiring.next_ms)
        return min((time_ms for time_ms in times if time_ms is not None), default=None)

    def _drop_stale_expiries(self) -> None:
        """Make the first expiry a true one: most messages are done long before theirs."""
        expiries = self._ledger.expiries
        if len(self._expiring) > len(expiries) + _STALE_MAX:
            self._watch_expiries()
        while self._expiring:
            first, following, time_ms = self._expiring.peek()
            if any(run[2] == time_ms for run in expiries.runs(first, following)):
                return
            self._expiring.pop()

    # ---- What goes out -------------------------------------------------------

    def has_some(self, start: int, now_ms: int) -> bool:
        """Whether `take` would find anything."""
        if self._ready.next_set(start):
            return True
        self._begin_at(start)
        while (piece := self._next_new(_LOOK_MAX)) is not None:
            if free := self._free(*piece, now_ms):
                self.cursor = free[0][0]
                return True
            self.cursor = piece[1]
        return False

    def take(self, wanted: int, start: int, now_ms: int) -> list[Range]:
        """Take out up to so many messages, to be leased.

        Args:
            wanted: How many, at most.
            start: Where the channel begins: below it nothing can be read.
            now_ms: The time.
        """
        taken: list[Range] = []
        if self._ready:
            wanted = self._take_ready(taken, wanted, start, now_ms)
        if wanted:
            self._begin_at(start)
            while wanted and (piece := self._next_new(wanted)) is not None:
                self.cursor = piece[1]
                for free in self._free(*piece, now_ms):
                    append_range(taken, *free)
                    wanted -= free[1] - free[0]
        return taken

    def _take_ready(self, taken: list[Range], wanted: int, start: int, now_ms: int) -> int:
        while wanted and (run := self._ready.next_set(start)):
            first, following, _ = run
            following = min(following, first + wanted)
            self._ready.set(first, following, 0)
            self.ready_count -= following - first
            for piece in self._unexpired(first, following, now_ms):
                append_range(taken, *piece)
                wanted -= piece[1] - piece[0]
        return wanted

    def _begin_at(self, start: int) -> None:
        """Move the cursor over what can't be read, and what was done before it was reached."""
        self.cursor = max(self.cursor, start, self._ledger.floor)

    def _next_new(self, wanted: int) -> Range | None:
        """Move the cursor to the next unmarked messages; at most so many, None: there are none."""
        if self.cursor >= self.end:
            return None
        first, following = self._ledger.marks.next_unset(self.cursor)
        self.cursor = min(first, self.end)
        if first >= self.end:
            return None
        return first, min(following or self.end, self.end, first + wanted)

    def _free(self, first: int, following: int, now_ms: int) -> list[Range]:
        """Of unmarked messages not below the cursor, those that can be handed out.

        Only those with an expiry can be anything but new: doomed, or locked.
        """
        if not self._ledger.expiries:
            return [(first, following)]
        free = []
        for f, n in self._not_held(first, following):
            for start, end, doomed in self._doomed.runs(f, n):
                if not doomed:
                    free += self._unexpired(start, end, now_ms)
        return free


def _take_out(ranges: RangeMap, first: int, following: int) -> int:
    """Set to 0; returns how many offsets were not."""
    if not ranges or first >= following:
        return 0
    count = sum(n - f for f, n, _ in ranges.set_runs(first, following))
    if count:
        ranges.set(first, following, 0)
    return count
