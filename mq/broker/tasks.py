"""Tasks that nobody may lose, and turns: one task at a time for each key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Tasks:
    """Tasks in the background, kept until they are done."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin some work; whoever waits for it retrieves its error."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work to its end, whether or not the caller stays to see it.

        Raises:
            MQError: As ``work``.
        """
        task = self.spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Nobody is left to hear of an error.
            task.add_done_callback(_retrieve)
            raise

    @property
    def running(self) -> frozenset[asyncio.Task[Any]]:
        """The tasks that are not done."""
        return frozenset(self._tasks)

    def cancel(self) -> None:
        """Give all of them up."""
        for task in self.running:
            task.cancel()


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


class Turns:
    """One holder at a time for each key, in the order of asking."""

    def __init__(self) -> None:
        # A lock lives as long as someone holds or awaits it.
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the turn of a key."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield
