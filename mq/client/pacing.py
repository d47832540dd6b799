"""Sending at a fixed rate, without coordinated omission.

A load generator that waits for a slow answer before it sends again leaves out
just those messages that would have been slow. Here every message is due at a
time fixed beforehand, and its latency counts from when it was due, however
late it was sent. ``Schedule`` is the arithmetic; ``ticks`` the waiting.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

_NS = 1_000_000_000


class Schedule:
    """Message ``i`` is due at ``start_ns + i / rate``, for ``i`` below ``count``."""

    def __init__(self, rate_per_s: float, count: int, start_ns: int) -> None:
        """Fixes all due times.

        Args:
            rate_per_s: Messages a second, above zero.
            count: Messages in all.
            start_ns: When the first is due, on the monotonic clock.

        Raises:
            ValueError: The rate or the count is not above zero.
        """
        if rate_per_s <= 0 or count <= 0:
            raise ValueError("rate and count must be above zero")
        self.rate_per_s = rate_per_s
        self.count = count
        self.start_ns = start_ns
        self._taken = 0

    def due_ns(self, index: int) -> int:
        """When message ``index`` is due."""
        return self.start_ns + round(index * _NS / self.rate_per_s)

    def take(self, now_ns: int) -> range:
        """The messages that have become due since the last call."""
        first = self._taken
        behind = max(0, now_ns - self.start_ns)
        # An estimate, then exact: rounding may be off by one either way.
        last = min(self.count, int(behind * self.rate_per_s / _NS) + 1)
        while last < self.count and self.due_ns(last) <= now_ns:
            last += 1
        while last > first and self.due_ns(last - 1) > now_ns:
            last -= 1
        self._taken = max(first, last)
        return range(first, self._taken)

    @property
    def finished(self) -> bool:
        """Whether every message has been taken."""
        return self._taken >= self.count

    @property
    def next_due_ns(self) -> int:
        """When the next message is due that was not taken yet."""
        return self.due_ns(self._taken)


async def ticks(schedule: Schedule) -> AsyncGenerator[range, None]:
    """Yields the messages that are due, as they become due, until all were."""
    with _alarm() as wait_until:
        while not schedule.finished:
            due = schedule.take(time.monotonic_ns())
            if due:
                yield due
            else:
                await wait_until(schedule.next_due_ns)


class _Sleep:
    """Waits with the event loop's timer, which is as fine as a millisecond."""

    async def __call__(self, due_ns: int) -> None:
        await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / _NS))


class _TimerFd:
    """Waits with a Linux timerfd, which is as fine as the kernel's clock.

    An event loop rounds its timers up to the next millisecond of epoll, which
    would be most of the latency that is to be measured.
    """

    _ABSOLUTE = 1
    _FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, self._FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._expired)

    def _expired(self) -> None:
        os.read(self._fd, 8)
        self._due.set()

    async def __call__(self, due_ns: int) -> None:
        self._due.clear()
        # struct itimerspec: no interval, then the absolute time.
        spec = (ctypes.c_long * 4)(0, 0, *divmod(due_ns, _NS))
        if self._libc.timerfd_settime(self._fd, self._ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._due.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


@contextmanager
def _alarm() -> Iterator[_Sleep | _TimerFd]:
    if not sys.platform.startswith("linux"):
        yield _Sleep()
        return
    timer = _TimerFd()
    try:
        yield timer
    finally:
        timer.close()
