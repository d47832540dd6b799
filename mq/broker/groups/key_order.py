"""What can be handed out where messages of one key go to one consumer, in order.

A message with a key goes out only if no message of its key is held and all
earlier ones are done, or go out with it. This is work, and memory, by the
message: of each one that is not done below the end, its key is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from mq.broker.groups.ledger import DONE, Ledger
from mq.broker.groups.pool import Key, Pool
from mq.broker.groups.ranges import Range, RangeMap, append_range


class _Line:
    """The messages of one key that are not done, in order. ``held``: how many are leased.

    Those that were done out of order stay in ``offsets`` until they come up.
    """

    __slots__ = ("head", "held", "key", "offsets")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.offsets: list[int] = []
        self.head = 0
        self.held = 0


class KeyPool(Pool):
    """Hands out messages in the order of their keys.

    After a restart keys are read again from the floor: ``end`` says from where.
    """

    def __init__(self, ledger: Ledger, held: RangeMap) -> None:
        super().__init__(ledger, held)
        self.end = ledger.floor
        # The line that a message with a key stands in.
        self._line_of: dict[int, _Line] = {}
        self._lines: dict[bytes, _Line] = {}
        self._out: set[int] = set()
        # Whatever may have become deliverable; checked when it comes up.
        self._candidates: list[int] = []

    # ---- What comes in -------------------------------------------------------

    def learn(self, begin: int, following: int, keys: Sequence[Key], now_ms: int) -> None:
        """Move the end; ``keys`` are of the messages from ``begin``, where the end was."""
        # The floor may have passed it since, and forgets what is below.
        end = max(self.end, self._ledger.floor)
        keys, begin = keys[end - begin :], end
        if begin >= following:
            return
        for first, end, mark in self._ledger.marks.runs(begin, following):
            if mark != DONE:
                self._stand_in_line(first, keys[first - begin : end - begin])
        self.end = self.cursor = following
        for first, end, _ in self._ready.set_runs(begin, following):
            self._propose(first, end)
        for first, end, mark in self._ledger.marks.runs(begin, following):
            if not mark:
                for f, n in self._free(first, end, now_ms):
                    self._make_ready(f, n)

    def _stand_in_line(self, first: int, keys: Sequence[Key]) -> None:
        for offset, key in enumerate(keys, first):
            if key:
                line = self._lines.get(key)
                if line is None:
                    line = self._lines[key] = _Line(key)
                line.offsets.append(offset)
                self._line_of[offset] = line

    def put_back(self, first: int, following: int, now_ms: int) -> None:
        """See `Pool.put_back`."""
        for offset in range(first, following):
            if offset in self._out:
                self._out.discard(offset)
                self._let_go(self._line_of.get(offset))
        super().put_back(first, following, now_ms)

    def settled(self, first: int, following: int) -> None:
        """See `Pool.settled`."""
        self._leave(range(first, following))

    def forget_below(self, floor: int) -> None:
        """See `Pool.forget_below`."""
        super().forget_below(floor)
        known = self._line_of.keys() | self._out
        self._leave([offset for offset in known if offset < floor])

    def _leave(self, offsets: Iterable[int]) -> None:
        """These are done: the next of their key may go."""
        for offset in offsets:
            line = self._line_of.pop(offset, None)
            if offset in self._out:
                self._out.discard(offset)
                self._let_go(line)
            elif line is not None:
                self._advance(line)

    def _let_go(self, line: _Line | None) -> None:
        """One message of a line is held no more."""
        if line is not None:
            line.held -= 1
            if not line.held:
                self._advance(line)

    def _advance(self, line: _Line) -> None:
        """Propose the first of a line, or forget it."""
        head = self._first_of(line)
        if head is not None:
            heappush(self._candidates, head)
        elif self._lines.get(line.key) is line:
            del self._lines[line.key]

    def _first_of(self, line: _Line) -> int | None:
        """The first message of a line, dropping what is done before it."""
        position = self._undone_from(line, line.head)
        if position > len(line.offsets) // 2:
            del line.offsets[:position]
            position = 0
        line.head = position
        return line.offsets[position] if position < len(line.offsets) else None

    def _undone_from(self, line: _Line, position: int) -> int:
        offsets = line.offsets
        while position < len(offsets) and offsets[position] not in self._line_of:
            position += 1
        return position

    def _make_ready(self, first: int, following: int) -> None:
        super()._make_ready(first, following)
        self._propose(first, min(following, self.end))

    def _propose(self, first: int, following: int) -> None:
        """Remember those that may go now; the others are proposed when their turn comes."""
        for offset in range(first, following):
            line = self._line_of.get(offset)
            if line is None or (not line.held and self._first_of(line) == offset):
                heappush(self._candidates, offset)

    # ---- What goes out -------------------------------------------------------

    def has_some(self, start: int, now_ms: int) -> bool:
        """See `Pool.has_some`."""
        while self._candidates:
            if self._may_go(self._candidates[0], start, now_ms):
                return True
            heappop(self._candidates)
        return False

    def take(self, wanted: int, start: int, now_ms: int) -> list[Range]:
        """See `Pool.take`."""
        taken: list[Range] = []
        # Those behind a message that goes out: they may go with it, in order.
        followers: list[tuple[int, _Line, int]] = []
        while wanted:
            offset, line, position = self._next_offset(followers, start, now_ms)
            if offset < 0:
                break
            append_range(taken, offset, offset + 1)
            self._out.add(offset)
            wanted -= 1
            if line is not None:
                line.held += 1
                position = self._undone_from(line, position + 1)
                if position < len(line.offsets):
                    heappush(followers, (line.offsets[position], line, position))
        for first, following in taken:
            self._ready.set(first, following, 0)
            self.ready_count -= following - first
        return taken

    def _next_offset(
        self, followers: list[tuple[int, _Line, int]], start: int, now_ms: int
    ) -> tuple[int, _Line | None, int]:
        """Take the lowest offset that may go: it, its line, and where in it; -1: none."""
        while self._candidates or followers:
            if not followers or (self._candidates and self._candidates[0] < followers[0][0]):
                offset = heappop(self._candidates)
                if self._may_go(offset, start, now_ms):
                    line = self._line_of.get(offset)
                    return offset, line, line.head if line else 0
            else:
                follower = heappop(followers)
                if self._is_free(follower[0], start, now_ms):
                    return follower
        return -1, None, 0

    def _may_go(self, offset: int, start: int, now_ms: int) -> bool:
        """Whether a candidate can be handed out, first of its line."""
        line = self._line_of.get(offset)
        turn = line is None or (not line.held and self._first_of(line) == offset)
        return turn and self._is_free(offset, start, now_ms)

    def _is_free(self, offset: int, start: int, now_ms: int) -> bool:
        """Whether a message is ready and can be read; if it has expired, it is doomed."""
        if offset < start or offset in self._out or not self._ready.get(offset):
            return False
        return self._is_fresh(offset, now_ms)

    def _is_fresh(self, offset: int, now_ms: int) -> bool:
        """Whether a ready message has not expired; else it is doomed."""
        if not self._ledger.expiries:
            return True
        time_ms = self._ledger.expiries.get(offset)
        if 0 < time_ms <= now_ms:
            self._withdraw(offset, offset + 1)
            self._doomed.set(offset, offset + 1, 1)
            return False
        return True
