"""Pulls that wait for data: who waits, until when, and how many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mq.broker.model import Stats
from mq.errors import MQError, Overloaded
from mq.log.log import ReadResult

# Turns what was read into a response, in whichever thread read it.
Encode = Callable[[ReadResult], bytes]
# What is called, on the event loop, with the response or an error.
Answer = Callable[[bytes | MQError], None]


class Pull:
    """One pull: what it wants, and whom to answer. Answered at most once."""

    __slots__ = ("_answer", "_timer", "encode", "max_bytes", "max_records", "offset", "wait_s")

    def __init__(
        self,
        offset: int,
        max_bytes: int,
        max_records: int,
        wait_s: float,
        encode: Encode,
        answer: Answer,
    ) -> None:
        self.offset = offset
        self.max_bytes = max_bytes
        self.max_records = max_records
        self.wait_s = wait_s
        self.encode = encode
        self._answer: Answer | None = answer
        self._timer: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        """Answered or cancelled."""
        return self._answer is None

    def answer(self, outcome: bytes | MQError) -> None:
        """Answer, unless that was done or the pull was cancelled."""
        answer, self._answer = self._answer, None
        self.stop_timer()
        if answer is not None:
            answer(outcome)

    def start_timer(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Pull], None]) -> None:
        """Call ``expire`` when this pull has waited as long as it wants to."""
        if self._timer is None:
            self._timer = loop.call_later(self.wait_s, expire, self)

    def stop_timer(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandon(self) -> None:
        """The client is gone: answer nobody."""
        self._answer = None
        self.stop_timer()


class Waiters:
    """The waiting pulls of one channel."""

    __slots__ = ("_limit", "_pulls", "_stats")

    def __init__(self, stats: Stats, limit: int) -> None:
        self._stats = stats
        self._limit = limit
        self._pulls: dict[Pull, None] = {}

    def __len__(self) -> int:
        return len(self._pulls)

    def add(self, pull: Pull) -> None:
        """Let a pull wait.

        Raises:
            Overloaded: As many pulls wait as may, over all channels.
        """
        if pull not in self._pulls:
            if self._stats.waiting_pulls >= self._limit:
                raise Overloaded(
                    f"{self._limit} pulls are waiting already; try again later, or raise "
                    "max_waiting_pulls"
                )
            self._pulls[pull] = None
            self._stats.waiting_pulls += 1

    def remove(self, pull: Pull) -> None:
        """Let a pull wait no longer; one that doesn't is ignored."""
        if self._pulls.pop(pull, pull) is None:
            self._stats.waiting_pulls -= 1

    def take_all(self) -> list[Pull]:
        """All of them, none waiting any more."""
        pulls, self._pulls = list(self._pulls), {}
        self._stats.waiting_pulls -= len(pulls)
        return pulls
