"""The threads that wait for the device, so that the event loop never does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mq.broker.events import Events
from mq.errors import ChannelFailed, DataDirError, DiskFull, MQError, Overloaded, Unavailable
from mq.log.files import NO_RESOURCES, NO_ROOM

_IO_THREADS = 8
_READ_THREADS = 4
# After upkeep has failed, for how long no other failure is told, and no segment prepared.
_UPKEEP_PAUSE_S = 1.0
T = TypeVar("T")


def stopping_error() -> Unavailable:
    """What a call is told that comes too late."""
    return Unavailable("the broker is stopping; try again in a moment")


def lacks_resources(error: BaseException) -> Overloaded | DiskFull | None:
    """What a call is told that lacked room, descriptors or memory; None: another error."""
    if isinstance(error, OSError) and error.errno in NO_RESOURCES:
        return Overloaded(f"{error}; try again, or raise the limit that was met")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return DiskFull(f"no room left on the device ({error}): make some, then try again")
    return None


class Threads:
    """One pool for opening, closing and upkeep, and one for cold reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        self._loop = loop
        self._events = events
        self._io = ThreadPoolExecutor(_IO_THREADS, "mq-io")
        self._readers = ThreadPoolExecutor(_READ_THREADS, "mq-read")
        self._upkeep_from_s = 0.0
        self._closed = False

    def run(self, call: Callable[[], T], told: Callable[[T | MQError], None]) -> None:
        """Do something to a channel's files, and tell the outcome on the event loop.

        ``told`` is called once, at once if the threads have ended.
        """
        self._submit(self._io, call, told)

    def read(self, call: Callable[[], T], told: Callable[[T | MQError], None]) -> None:
        """Read in a thread; see `run`."""
        self._submit(self._readers, call, told)

    def upkeep(self, call: Callable[[], None]) -> None:
        """Do upkeep in a thread; it is tried again when next due.

        A failure is logged, but not each: on a full disk every commit can cause one.
        """

        def attempt() -> OSError | None:
            try:
                call()
            except OSError as error:
                return error
            return None

        def told(outcome: OSError | MQError | None) -> None:
            if outcome is not None and not self.upkeep_paused:
                self._upkeep_from_s = self._loop.time() + _UPKEEP_PAUSE_S
                self._events.warning("upkeep_failed", reason=str(outcome))

        self.run(attempt, told)

    @property
    def upkeep_paused(self) -> bool:
        """Whether upkeep failed just now: what can wait should."""
        return self._loop.time() < self._upkeep_from_s

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        call: Callable[[], T],
        told: Callable[[T | MQError], None],
    ) -> None:
        def finished(future: Future[T]) -> None:
            error = future.exception()
            outcome: T | MQError
            if error is None:
                outcome = future.result()
            elif isinstance(error, MQError):
                outcome = error
            elif (lacking := lacks_resources(error)) is not None:
                outcome = lacking
            else:
                outcome = ChannelFailed(f"{error!r}; see the broker's log")
                self._events.error("thread_failed", error=repr(error))
            # Of a loop that is closed nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(told, outcome)

        if self._closed:
            told(stopping_error())
        else:
            pool.submit(call).add_done_callback(finished)

    async def store(self, call: Callable[[], T], what: str) -> T:
        """Change the data directory in a thread.

        Args:
            call: Does it.
            what: What did not happen if it fails, such as ``"channel a was not created"``.

        Raises:
            DiskFull: There is no room.
            Overloaded: Descriptors or memory are missing just now.
            DataDirError: The device failed otherwise.
            Unavailable: The threads have ended.
        """
        if self._closed:
            raise stopping_error()
        try:
            return await self._loop.run_in_executor(self._io, call)
        except OSError as error:
            lacking = lacks_resources(error)
            if lacking is not None:
                raise type(lacking)(f"{what}: {lacking}") from error
            raise DataDirError(f"{what}: {error}") from error

    async def close(self) -> None:
        """Take on nothing more, and wait for what was taken on."""
        self._closed = True
        for pool in (self._io, self._readers):
            await self._loop.run_in_executor(None, pool.shutdown)
