"""Compaction of one channel: when it is worth it, and a pass from beginning to end.

Reading and writing is done in a thread that makes room for others now and again;
what it has written takes its place between two commits. One channel of a broker
is compacted at a time, which bounds the memory that it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from mq.broker.futures import outcome_of
from mq.broker.life import Life, State
from mq.broker.publishing import CommitQueue
from mq.broker.shared import Shared
from mq.errors import DataDirError, MQError, Unavailable
from mq.log.compaction.compact import Compaction
from mq.log.compaction.rewrite import Rewritten
from mq.log.log import Log
from mq.log.segment import Segment

# After so long it rests as long as it has worked: half of the time is for publishers.
_WORK_S: Final = 0.001
_REST_MAX_S: Final = 0.01
# After a pass has failed, the next is made no earlier.
_AGAIN_S: Final = 60.0
_NS: Final = 1_000_000_000

T = TypeVar("T")


class Compacting:
    """Compacts a channel that wants it."""

    def __init__(self, shared: Shared, life: Life, queue: CommitQueue) -> None:
        self._shared = shared
        self._life = life
        self._queue = queue
        self._task: asyncio.Task[None] | None = None
        # Whether the pass has its turn.
        self._begun = False
        self._over = False
        self._not_before_s = 0.0
        self._rested_s = 0.0
        in_use = life.in_use
        life.in_use = lambda: in_use() or (self._begun and not shared.stopping)

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The pass under way, or waiting for its turn."""
        return self._task

    def look(self) -> None:
        """Begin a pass if it is worth it."""
        if self._task is None and self._is_due():
            self._task = self._shared.loop.create_task(self._run())
            self._task.add_done_callback(self._ended)

    def _is_due(self) -> bool:
        life, shared = self._life, self._shared
        if not life.meta.config.compact or life.state is not State.OPEN or life.log is None:
            return False
        if self._leaving or life.reason is not None or shared.loop.time() < self._not_before_s:
            return False
        ratio = life.log.dirty_ratio
        return 0 < ratio >= shared.config.compact_dirty_ratio_min

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task, self._begun = None, False
        if not task.cancelled() and task.exception() is not None:
            self._shared.events.error("compaction_failed", reason=repr(task.exception()))

    async def stop(self) -> None:
        """Make no more passes, and wait until the one under way has noticed."""
        self._over = True
        task = self._task
        if task is not None:
            if not self._begun:
                task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        shared, name = self._shared, self._life.meta.name
        async with shared.compacting:
            if not self._is_due():
                return
            self._begun = True
            before = self._stored_bytes
            try:
                rewritten = await self._pass()
            except MQError as error:
                self._not_before_s = shared.loop.time() + _AGAIN_S
                if not self._leaving:
                    shared.events.warning("compaction_failed", channel=name, reason=str(error))
            else:
                after = self._stored_bytes
                shared.events.info(
                    "compacted",
                    channel=name,
                    segments=rewritten,
                    bytes_before=before,
                    bytes_after=after,
                )

    @property
    def _leaving(self) -> bool:
        return self._over or self._shared.stopping

    @property
    def _stored_bytes(self) -> int:
        return self._life.log.stored_bytes if self._life.log is not None else 0

    async def _pass(self) -> int:
        """Returns how many segments were rewritten."""
        log = self._life.log
        assert log is not None, "the log of a channel in use stays open"
        kept_ns = int(self._shared.config.tombstone_retention_s * _NS)
        since_ns = self._shared.clock_ns() - kept_ns
        compaction: Compaction = await self._alone(
            lambda: log.begin_compaction(since_ns, self._breathe)
        )
        await self._beside(compaction.survey)
        count = 0
        for segment in compaction.segments:
            rewritten = await self._beside(partial(compaction.rewrite, segment))
            if rewritten is not None:
                count += await self._swap(log, segment, rewritten)
        now_ns = self._shared.clock_ns()
        await self._alone(lambda: log.note_compaction(compaction, now_ns, now_ns - kept_ns))
        return count

    async def _swap(self, log: Log, segment: Segment, rewritten: Rewritten) -> bool:
        try:
            return await self._alone(lambda: log.swap(segment, rewritten))
        except MQError:
            # It may never have been tried.
            rewritten.discard()
            raise

    async def _alone(self, work: Callable[[], T]) -> T:
        """Do something with the log in between two commits."""
        outcome: Any = await outcome_of(partial(self._queue.run_alone, partial(_do, work)))
        return outcome  # type: ignore[no-any-return]

    async def _beside(self, work: Callable[[], T]) -> T:
        """Do something in a thread."""
        return await outcome_of(partial(self._shared.threads.run, partial(_do, work)))

    def _breathe(self) -> None:
        """In the thread: with each frame."""
        if self._leaving:
            raise Unavailable("the channel is being deleted, or the broker stopped")
        worked_s = time.perf_counter() - self._rested_s
        if worked_s > _WORK_S:
            time.sleep(min(worked_s, _REST_MAX_S))
            self._rested_s = time.perf_counter()


def _do(work: Callable[[], T]) -> T:
    """In a thread: a device's refusal is nothing out of the ordinary."""
    try:
        return work()
    except OSError as error:
        raise DataDirError(f"{error}; nothing is lost, and it is tried again") from error
