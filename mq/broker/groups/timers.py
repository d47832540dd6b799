"""Ranges by time."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from mq.broker.groups.ranges import Column, Run

_NEXT_BITS = 64
_TIME_SHIFT = 128
_MASK = (1 << _NEXT_BITS) - 1


class Timers:
    """A heap of (time, first, next), each one integer: small, and quick to compare.

    What is no longer true stays until it comes up, so whoever takes an entry
    checks it, and refills the heap when it holds too many such.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[int] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, time_ms: int, first: int, following: int) -> None:
        """Add a range."""
        heappush(self._heap, time_ms << _TIME_SHIFT | first << _NEXT_BITS | following)

    @property
    def next_ms(self) -> int | None:
        """The earliest time, None if there is none."""
        return self._heap[0] >> _TIME_SHIFT if self._heap else None

    def peek(self) -> Run:
        """The earliest entry, as (first, next, time)."""
        packed = self._heap[0]
        return packed >> _NEXT_BITS & _MASK, packed & _MASK, packed >> _TIME_SHIFT

    def pop(self) -> Run:
        """Take the earliest entry away."""
        found = self.peek()
        heappop(self._heap)
        return found

    def fill(self, times: Column, firsts: Column, nexts: Column) -> None:
        """Hold just these entries."""
        # Nearly always they are in order, or few: sorting is left to the heap.
        rows = zip(times.tolist(), firsts.tolist(), nexts.tolist(), strict=True)
        self._heap = [t << _TIME_SHIFT | f << _NEXT_BITS | n for t, f, n in rows]
        if not np.all(times[:-1] <= times[1:]):
            heapify(self._heap)
