"""Consumers that wait for something to be there, woken one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from mq.broker.futures import settle
from mq.broker.shared import Shared
from mq.errors import Overloaded


class WaitingConsumers:
    """The consumers of one group that wait, in the order they came."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiting: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, until_s: float) -> bool:
        """Wait until there may be something; False: there was nothing until then.

        Args:
            until_s: A time of the event loop's clock.

        Raises:
            Overloaded: As many wait as may, over all channels.
        """
        shared, stats = self._shared, self._shared.stats
        left_s = until_s - shared.loop.time()
        if left_s <= 0 or shared.stopping:
            return False
        if stats.waiting_pulls >= shared.config.waiting_pulls_max:
            raise Overloaded(
                f"{stats.waiting_pulls} pulls are waiting already; try again later, or raise "
                "max_waiting_pulls"
            )
        woken: asyncio.Future[bool] = shared.loop.create_future()
        timer = shared.loop.call_later(left_s, settle, woken, False)
        self._waiting.append(woken)
        stats.waiting_pulls += 1
        try:
            return await woken
        except asyncio.CancelledError:
            if not woken.cancelled() and woken.result():
                # What it was woken for is for the next one.
                self.notify()
            raise
        finally:
            stats.waiting_pulls -= 1
            timer.cancel()
            self._leave(woken)

    def _leave(self, woken: asyncio.Future[bool]) -> None:
        if not woken.done() or woken.cancelled() or not woken.result():
            with contextlib.suppress(ValueError):
                self._waiting.remove(woken)

    def notify(self) -> None:
        """Something may be there: let one look, which lets the next."""
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(True)
                return

    def end(self) -> None:
        """Let all of them look: it is over."""
        waiting, self._waiting = self._waiting, deque()
        for woken in waiting:
            settle(woken, True)
