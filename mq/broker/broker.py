"""The broker: every channel by name, and the threads and limits they share."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mq.broker.channel import Channel
from mq.broker.commit import Committer
from mq.broker.coordinator.groups import ChannelGroups
from mq.broker.coordinator.journal import Journal
from mq.broker.datadir import DataDir
from mq.broker.model import BrokerConfig, ChannelConfig, ChannelMeta, GroupGauges, Stats
from mq.broker.names import check_channel_name
from mq.broker.rates import Rate
from mq.errors import ChannelFailed, ChannelNotFound, DataDirError, DiskFull, MQError, Unavailable
from mq.log.cache import SegmentCache
from mq.log.files import OS_FILES, Files
from mq.log.layout import journal_id
from mq.log.log import Log

_DISK_CHECK_S = 0.5
# After upkeep has failed, for how long no other failure is told, and no segment prepared.
_UPKEEP_PAUSE_S = 1.0
T = TypeVar("T")


class Events(Protocol):
    """Where the broker tells what happens; a structured logger's methods fit."""

    def info(self, event: str, **fields: Any) -> object:
        """Something normal."""

    def warning(self, event: str, **fields: Any) -> object:
        """Something an operator should look at."""

    def error(self, event: str, **fields: Any) -> object:
        """Something that stopped working."""


class Broker:
    """All channels of one data directory. To be used from one event loop.

    Args:
        config: Limits and defaults.
        events: Told what happens.
        files: The operating system, or a test's stand-in.
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
        self.stopping = False
        # Called with the seconds that each sync took.
        self.observe_fsync: Callable[[float], object] = lambda _: None
        self.clock_ns = clock_ns
        self._events = events
        self._files = files
        self._channels: dict[str, Channel] = {}
        self._creating: dict[str, asyncio.Future[Channel]] = {}
        self._recovering: dict[str, asyncio.Future[None]] = {}
        # The channels of the broker's own: journals of consumer groups.
        self._hidden: list[Channel] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: OrderedDict[Channel, None] = OrderedDict()
        self._cache = SegmentCache(config.open_segments_max)
        self._disk_checked_s = -_DISK_CHECK_S
        self._upkeep_from_s = 0.0
        # Of all channels together.
        self.rate = Rate()
        self._retention_timer: asyncio.TimerHandle | None = None

    # ---- Life -------------------------------------------------------------

    async def start(self) -> None:
        """Lock the data directory and learn its channels.

        Raises:
            DataDirError: The directory can't be used; nothing was changed.
        """
        self.loop = asyncio.get_running_loop()
        self._anchor_s, self._anchor_ms = self.loop.time(), self.clock_ns() // 1_000_000
        self._io = ThreadPoolExecutor(8, "mq-io")
        self._readers = ThreadPoolExecutor(4, "mq-read")
        self._data_dir = await self._in_io(lambda: DataDir(self.config.data_dir, self._files))
        metas, notices = await self._in_io(self._data_dir.load)
        for notice in notices:
            self._events.error("channel_left_alone", reason=notice)
        for meta in metas:
            if meta.name in self._channels:
                self._events.error("channel_left_alone", channel=meta.name, reason="name is taken")
                continue
            self._channels[meta.name] = Channel(self, meta)
        self.committer = Committer(self.loop, self._sync_all())
        self._count_channels()
        if self.config.recover_on_start:
            await self.recover()
        self._retain()

    def _sync_all(self) -> Callable[[], None] | None:
        """What syncs the file system of all channels, where that tells of every error."""
        handle = self._files.open_file_system(self._data_dir.channels_path)
        return None if handle is None else partial(self._files.sync_file_system, handle)

    async def recover(self) -> None:
        """Open each channel once, so that damage shows now; closing what goes over the limit."""
        gate = asyncio.Semaphore(16)

        async def open_one(channel: Channel) -> None:
            async with gate:
                await self.opened(channel)

        await asyncio.gather(*(open_one(channel) for channel in list(self._channels.values())))

    def refuse(self) -> None:
        """Refuse new work from now on, and answer the waiting pulls with nothing."""
        self.stopping = True
        if self._retention_timer is not None:
            self._retention_timer.cancel()
        for channel in self._channels.values():
            channel.end_waiting(None)
            if channel.groups is not None:
                channel.groups.close()

    async def drain(self, limit_s: float) -> None:
        """Wait until every publish that was taken on is answered, for at most so long."""
        idle = [self._idle(channel) for channel in self._all_channels() if channel.busy]
        if idle:
            await asyncio.wait(idle, timeout=limit_s)

    def _all_channels(self) -> list[Channel]:
        return [*self._channels.values(), *self._hidden]

    async def stop(self, grace_s: float) -> None:
        """Refuse new work, finish what is pending, close every log, unlock.

        Args:
            grace_s: How long pending publishes may take.
        """
        self.refuse()
        await self.drain(grace_s)
        channels = self._all_channels()
        await self.loop.run_in_executor(None, self.committer.close)
        logs = [log for channel in channels if (log := channel.begin_close()) is not None]
        await asyncio.gather(*(self._in_io(partial(self._close, log)) for log in logs))
        await self.loop.run_in_executor(None, self._io.shutdown)
        await self.loop.run_in_executor(None, self._readers.shutdown)
        del self._data_dir

    def _retain(self) -> None:
        """Enforce retention where nothing happens, now and again and again."""
        self._retention_timer = self.loop.call_later(self.config.retention_interval_s, self._retain)
        now_ns = self.clock_ns()
        for channel in self._channels.values():
            if channel.retention_due(now_ns):
                channel.when_open(channel.enforce_retention)

    def _idle(self, channel: Channel) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.loop.create_future()
        channel.when_idle(lambda: _resolve(future))
        return future

    # ---- Channels ---------------------------------------------------------

    def get(self, name: str) -> Channel:
        """The channel of that name.

        Raises:
            InvalidArgument: It can't be a channel's name.
            ChannelNotFound: There is none.
        """
        channel = self._channels.get(name)
        if channel is None:
            check_channel_name(name)
            raise ChannelNotFound(
                f"there is no channel {name}; create it first: mq channels create {name}"
            )
        return channel

    async def groups_of(self, channel: Channel) -> ChannelGroups:
        """The consumer groups of a channel, recovered if they were not in use.

        Raises:
            MQError: They can't be.
        """
        while channel.name in self._recovering:
            await asyncio.wait([self._recovering[channel.name]])
        if channel.groups is not None:
            return channel.groups
        waiting = self._recovering[channel.name] = self.loop.create_future()
        try:
            await channel.ready()
            path = await self._in_io(partial(self._data_dir.journal_path, channel.meta.id))
            own_id = journal_id(channel.meta.id)
            meta = ChannelMeta(f"{channel.name} (groups)", own_id, 0, ChannelConfig())
            hidden = Channel(self, meta, path)
            self._hidden.append(hidden)
            groups = ChannelGroups(self, channel, Journal(hidden))
            await groups.recover()
            channel.groups = groups
            return groups
        finally:
            del self._recovering[channel.name]
            waiting.cancel()

    def must_recover_groups(self, channel: Channel) -> bool:
        """Whether retention depends on groups that are not in use yet."""
        return (
            bool(channel.meta.config.retain_unacknowledged)
            and channel.groups is None
            and channel.hidden_at is None
            and self.has_groups(channel)
        )

    def recover_groups(self, channel: Channel) -> None:
        """Recover a channel's groups, and look at its retention again."""

        async def recover() -> None:
            try:
                await self.groups_of(channel)
            except MQError as error:
                self.note_group_trouble(channel, error)
            else:
                channel.enforce_retention()

        task = self.loop.create_task(recover())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def has_groups(self, channel: Channel) -> bool:
        """Whether a channel ever had consumer groups."""
        return channel.groups is not None or self._data_dir.has_journal(channel.meta.id)

    def now_ms(self) -> int:
        """Unix milliseconds that never go back while the broker runs."""
        return self._anchor_ms + int((self.loop.time() - self._anchor_s) * 1000)

    def note_group_trouble(self, channel: Channel, error: MQError) -> None:
        """Something in the background of a channel's groups failed."""
        self._events.warning("group_trouble", channel=channel.name, reason=error.message)

    def find(self, name: str) -> Channel | None:
        """The channel of that name, if there is one."""
        return self._channels.get(name)

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        """Channel names with a prefix that sort after another, in order."""
        return sorted(n for n in self._channels if n.startswith(prefix) and n > after)

    async def create(self, name: str, config: ChannelConfig) -> Channel:
        """The channel of that name, made if there is none; durable when this returns.

        Raises:
            InvalidArgument: The name or a setting can't be used.
            MQError: It could not be stored.
        """
        check_channel_name(name)
        config.check()
        if self.stopping:
            raise Unavailable("the broker is stopping; try again in a moment")
        while name in self._creating:
            await asyncio.wait([self._creating[name]])
        existing = self._channels.get(name)
        if existing is not None:
            return existing
        made: asyncio.Future[Channel] = self.loop.create_future()
        self._creating[name] = made
        try:
            meta = ChannelMeta(name, os.urandom(16), self.clock_ns(), config)
            await self._store(
                lambda: self._data_dir.create(meta), f"channel {name} was not created"
            )
            channel = self._channels[name] = Channel(self, meta)
            self._count_channels()
            self._events.info("channel_created", channel=name, id=meta.id.hex())
            return channel
        finally:
            del self._creating[name]
            made.cancel()

    async def configure(self, name: str, config: ChannelConfig) -> Channel:
        """Change the settings that ``config`` gives; durable when this returns."""
        channel = self.get(name)
        merged = channel.meta.config.merged(config).check()
        old = channel.meta
        meta = ChannelMeta(old.name, old.id, old.created_ns, merged)
        await self._store(lambda: self._data_dir.update(meta), f"channel {name} was not changed")
        channel.meta = meta
        if channel.log is not None:
            channel.log.segment_bytes = channel.segment_bytes
        self._events.info("channel_configured", channel=name)
        return channel

    async def delete(self, name: str) -> None:
        """Remove a channel and all it holds; durable when this returns."""
        channel = self.get(name)
        del self._channels[name]
        self._open.pop(channel, None)
        idle: asyncio.Future[None] = self.loop.create_future()
        channel.begin_delete(lambda: _resolve(idle))
        await idle
        log, channel.log = channel.log, None
        await self._drop_groups(channel)

        def remove() -> None:
            if log is not None:
                log.abandon()
            self._data_dir.delete(channel.meta.id)

        await self._store(remove, f"channel {name} was not deleted")
        self._count_channels()
        self._events.info("channel_deleted", channel=name)

    async def _drop_groups(self, channel: Channel) -> None:
        """Before a channel is removed: let go of its groups and their journal."""
        groups, channel.groups = channel.groups, None
        if groups is not None:
            groups.close()
            hidden = groups.journal.log
            self._hidden.remove(hidden)
            self._open.pop(hidden, None)
            idle: asyncio.Future[None] = self.loop.create_future()
            hidden.begin_delete(lambda: _resolve(idle))
            await idle
            if hidden.log is not None:
                await self._in_io(hidden.log.abandon)

    async def opened(self, channel: Channel) -> Channel:
        """The channel, its log open or failed."""
        future: asyncio.Future[None] = self.loop.create_future()
        channel.when_open(lambda: _resolve(future))
        await future
        return channel

    # ---- What channels use ------------------------------------------------

    def open_log(self, channel: Channel) -> None:
        """Open a channel's log in a thread; the channel is told."""

        def open_it() -> Log:
            meta = channel.meta
            path = channel.hidden_at or self._data_dir.channel_path(meta.id)
            if path.is_symlink():
                raise ChannelFailed(f"{path} is a symbolic link")
            return Log(
                path,
                meta.id,
                segment_bytes=channel.segment_bytes,
                files=self._files,
                cache=self._cache,
                clock=self.clock_ns,
            )

        def told(outcome: Log | MQError) -> None:
            if isinstance(outcome, Log):
                for notice in outcome.notices:
                    self._events.warning("recovered", channel=channel.name, notice=notice)
                self.touch(channel)
            else:
                self._events.error("channel_failed", channel=channel.name, reason=str(outcome))
            channel.opened(outcome)
            self._close_idle()

        self._run(self._io, open_it, told)

    def touch(self, channel: Channel) -> None:
        """Note that a channel's log is in use."""
        self._open[channel] = None
        self._open.move_to_end(channel)

    def _close_idle(self) -> None:
        """Close the logs used longest ago, while more are open than may be."""
        excess = len(self._open) - self.config.open_channels_max
        for channel in list(self._open) if excess > 0 else []:
            log = channel.begin_close()
            if log is not None:
                del self._open[channel]
                self._run(self._io, partial(self._close, log), partial(_tell_closed, channel))
                excess -= 1
                if excess == 0:
                    break

    def _close(self, log: Log) -> None:
        try:
            log.close()
        except (MQError, OSError) as error:
            self._events.error("close_failed", directory=str(log.directory), reason=str(error))

    def note_read_only(self, channel: Channel) -> None:
        """A channel takes no publishes from now on."""
        self.stats.read_only_channels += 1
        self._events.error("channel_read_only", channel=channel.name, reason=channel.reason)

    def note_removed(self, channel: Channel, outcome: object) -> None:
        """Retention or a purge is done with a channel."""
        if isinstance(outcome, MQError):
            self._events.warning("retention_failed", channel=channel.name, reason=str(outcome))
        elif outcome:
            self._events.info(
                "segments_removed", channel=channel.name, log_start_offset=channel.log_start_offset
            )

    def days_to_full(self) -> float:
        """Days until publishes are refused for want of room, at the last minute's rate.

        0 if nothing was published.
        """
        _, bytes_per_second = self.rate.per_second(self.loop.time())
        room = max(0, self._data_dir.free_bytes() - self.config.free_bytes_min)
        return room / bytes_per_second / 86_400 if bytes_per_second else 0.0

    def check_disk(self) -> None:
        """Refuse a publish while the device has too little room.

        Raises:
            DiskFull: There is less free than ``free_bytes_min``.
        """
        now = self.loop.time()
        if now - self._disk_checked_s >= _DISK_CHECK_S:
            self._disk_checked_s = now
            self.stats.disk_free_bytes = self._data_dir.free_bytes()
        if self.stats.disk_free_bytes < self.config.free_bytes_min:
            raise DiskFull(
                f"{self.stats.disk_free_bytes} bytes are free on the data directory's disk, less "
                f"than min_free_bytes {self.config.free_bytes_min}: nothing was written. Free some "
                "space, or delete channels; publishing works again by itself"
            )

    def run_io(self, call: Callable[[], None]) -> None:
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
            if outcome is not None and self.loop.time() >= self._upkeep_from_s:
                self._upkeep_from_s = self.loop.time() + _UPKEEP_PAUSE_S
                self._events.warning("upkeep_failed", reason=str(outcome))

        self._run(self._io, attempt, told)

    def prepare(self, log: Log) -> None:
        """Allocate a log's next segment ahead of time, unless upkeep failed just now."""
        if self.loop.time() >= self._upkeep_from_s:
            self.run_io(log.prepare)

    def run_read(self, call: Callable[[], T], told: Callable[[T | MQError], None]) -> None:
        """Read in a thread, and tell the outcome on the loop."""
        self._run(self._readers, call, told)

    def _run(
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
            else:
                outcome = ChannelFailed(f"{error!r}; see the broker's log")
                self._events.error("thread_failed", error=repr(error))
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(told, outcome)

        try:
            pool.submit(call).add_done_callback(finished)
        except RuntimeError:
            told(Unavailable("the broker is stopping; try again in a moment"))

    async def _in_io(self, call: Callable[[], T]) -> T:
        return await self.loop.run_in_executor(self._io, call)

    async def _store(self, call: Callable[[], None], what: str) -> None:
        try:
            await self._in_io(call)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"no room left on the device: {what}") from error
            raise DataDirError(f"{what}: {error}") from error

    def _count_channels(self) -> None:
        self.stats.channels = len(self._channels)

    def scrape(self) -> Stats:
        """The counters, with the gauges brought up to date."""
        stats = self.stats
        stats.open_channels = len(self._open)
        active = sum(1 for c in self._open if c.log is not None)
        stats.open_segments = len(self._cache) + active
        stats.disk_free_bytes = self._data_dir.free_bytes()
        stats.unsynced_messages = sum(c.unsynced_messages for c in list(self._open))
        stats.groups = self._scrape_groups()
        return stats

    def _scrape_groups(self) -> list[GroupGauges]:
        """How the groups in use are doing."""
        return [
            runner.gauges()
            for channel in self._channels.values()
            if channel.groups is not None
            for runner in channel.groups.runners
        ]

    @property
    def data_path(self) -> Path:
        """The data directory."""
        return self.config.data_dir

    @property
    def channels(self) -> Sequence[Channel]:
        """All channels."""
        return list(self._channels.values())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _tell_closed(channel: Channel, _: MQError | None) -> None:
    channel.closed()
