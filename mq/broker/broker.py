"""The broker: started on a data directory, stopped in order, and what is between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from mq.broker.channel import Channel
from mq.broker.commit import Committer
from mq.broker.datadir import DataDir
from mq.broker.disk import DiskWatch
from mq.broker.events import Events
from mq.broker.model import BrokerConfig, Stats
from mq.broker.openlogs import OpenLogs
from mq.broker.registry import Registry
from mq.broker.shared import Shared
from mq.broker.threads import Threads, stopping_error
from mq.broker.upkeep import UpkeepClock
from mq.log.files import OS_FILES, Files

# How many channels are opened at once where all are.
_OPENED_AT_ONCE: Final = 16
# How long what goes on in the background may take to find out that it is over.
_TASKS_S: Final = 5.0


class Broker:
    """All channels of one data directory. To be used from one event loop.

    Args:
        config: Limits and defaults.
        events: Told what happens.
        files: The operating system, or a test's stand-in.
        clock_ns: Unix nanoseconds.

    Attributes:
        stats: The counters.
        channels: Every channel by name; from `start` on, like the next two.
        groups: Their consumer groups.
        shared: The loop, the clocks and the threads.
    """

    def __init__(
        self,
        config: BrokerConfig,
        events: Events,
        *,
        files: Files = OS_FILES,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self.stats = Stats()
        self._events = events
        self._files = files
        self._clock_ns = clock_ns

    # ---- Starting ---------------------------------------------------------

    async def start(self) -> None:
        """Lock the data directory and learn its channels.

        Raises:
            DataDirError: The directory can't be used; nothing was changed, and
                nothing is left running.
        """
        self.loop = asyncio.get_running_loop()
        threads = Threads(self.loop, self._events)
        try:
            self._data_dir = await threads.store(
                partial(DataDir, self.config.data_dir, self._files), "the broker was not started"
            )
            try:
                metas, notices = await threads.store(
                    self._data_dir.load, "the channels' directory can't be read"
                )
                committer = Committer(self.loop, self._sync_all())
            except BaseException:
                self._data_dir.close()
                raise
        except BaseException:
            await threads.close()
            raise
        disk = DiskWatch(
            self._data_dir.free_bytes, self.config.free_bytes_min, self.stats, self.loop
        )
        self.shared = Shared(
            self.config,
            self.stats,
            self._events,
            self.loop,
            self._clock_ns,
            threads,
            committer,
            disk,
        )
        self._logs = OpenLogs(self.shared, self._files, self._data_dir.channel_path)
        self.channels = Registry(self.shared, self._logs, self._data_dir)
        self.groups = self.channels.groups
        for notice in notices:
            self._events.error("channel_left_alone", reason=notice)
        self.channels.load(metas)
        if self.config.recover_on_start:
            await self.recover()
        self._retention = UpkeepClock(self.shared, lambda: self.channels)
        self._retention.start()

    def _sync_all(self) -> Callable[[], None] | None:
        """What syncs the file system of all channels, where that tells of every error."""
        handle = self._files.open_file_system(self._data_dir.channels_path)
        return None if handle is None else partial(self._files.sync_file_system, handle)

    async def recover(self) -> None:
        """Open each channel once, so that damage shows now; closing what goes over the limit."""
        gate = asyncio.Semaphore(_OPENED_AT_ONCE)

        async def open_one(channel: Channel) -> None:
            async with gate:
                await channel.life.resolve()

        await asyncio.gather(*(open_one(channel) for channel in self.channels))

    # ---- Stopping ---------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether new work is refused."""
        return self.shared.stopping

    def refuse(self) -> None:
        """Refuse new work from now on, and answer the waiting pulls with nothing."""
        self.shared.stopping = True
        self._retention.stop()
        for channel in self.channels:
            channel.pulls.end_waiting(None)
        self.groups.refuse()

    async def drain(self, limit_s: float) -> None:
        """Wait until all work that was taken on is done, for at most so long.

        Args:
            limit_s: Seconds.
        """
        work = {
            self.loop.create_task(channel.queue.idle())
            for channel in self._all_channels()
            if channel.queue.busy
        }
        passes = {task for channel in self.channels if (task := channel.compacting.task)}
        waiting = work | passes | self.channels.tasks.running
        if waiting:
            await asyncio.wait(waiting, timeout=limit_s)
        for task in work:
            task.cancel()

    def _all_channels(self) -> list[Channel]:
        return [*self.channels, *self.groups.journals]

    async def stop(self, grace_s: float) -> None:
        """Refuse new work, finish what is pending, close every log, unlock.

        What is not even begun by then is told that the broker stops.

        Args:
            grace_s: How long pending publishes may take, seconds.
        """
        self.refuse()
        await self.drain(grace_s)
        shared = self.shared
        shared.stopped = True
        for channel in self._all_channels():
            channel.queue.fail_all(stopping_error())
        await self.loop.run_in_executor(None, shared.committer.close)
        await self._logs.close_all(channel.life for channel in self._all_channels())
        await shared.threads.close()
        await self._end_tasks()
        self._data_dir.close()

    async def _end_tasks(self) -> None:
        """Whatever they wait for fails now, and so do they."""
        passes = {task for channel in self.channels if (task := channel.compacting.task)}
        running = self.channels.tasks.running | self.groups.running | passes
        if running:
            _, late = await asyncio.wait(running, timeout=_TASKS_S)
            for task in late:
                task.cancel()

    # ---- What can be seen -------------------------------------------------

    def days_to_full(self) -> float:
        """Days until publishes are refused for want of room, at the last minute's rate.

        0 if nothing was published.
        """
        _, bytes_per_second = self.shared.rate.per_second(self.loop.time())
        return self.shared.disk.days_to_full(bytes_per_second)

    def scrape(self) -> Stats:
        """The counters, with the gauges brought up to date."""
        stats, lives = self.stats, self._logs.lives
        stats.open_channels = len(lives)
        stats.open_segments = self._logs.open_segments
        self.shared.disk.look()
        stats.unsynced_messages = sum(life.unsynced_messages for life in lives)
        stats.groups = self.groups.gauges()
        return stats

    @property
    def data_path(self) -> Path:
        """The data directory."""
        return self.config.data_dir
