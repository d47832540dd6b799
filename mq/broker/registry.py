"""Every channel by name: made, found, configured, deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mq.broker.channel import Channel
from mq.broker.coordinator.coordinator import Coordinator
from mq.broker.datadir import DataDir
from mq.broker.model import ChannelConfig, ChannelMeta
from mq.broker.names import check_channel_name
from mq.broker.openlogs import OpenLogs
from mq.broker.shared import Shared
from mq.broker.tasks import Tasks, Turns
from mq.broker.threads import stopping_error
from mq.errors import ChannelNotFound, MQError


class Registry:
    """The channels of one data directory.

    What changes a channel is done in turn for each name, and to its end even if
    whoever asked for it is gone.

    Attributes:
        groups: The consumer groups of all channels.
        tasks: What is being changed.
    """

    def __init__(self, shared: Shared, logs: OpenLogs, data_dir: DataDir) -> None:
        self.groups = Coordinator(shared, logs, data_dir, self)
        self.tasks = Tasks(shared.loop)
        self._shared = shared
        self._logs = logs
        self._data_dir = data_dir
        self._channels: dict[str, Channel] = {}
        self._turns = Turns()

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def load(self, metas: list[ChannelMeta]) -> None:
        """Take up the channels that the data directory holds."""
        for meta in metas:
            if meta.name in self._channels:
                self._shared.events.error(
                    "channel_left_alone", channel=meta.name, reason="name is taken"
                )
            else:
                self._add(meta)

    def _add(self, meta: ChannelMeta) -> Channel:
        channel = Channel(self._shared, self._logs, self.groups, meta)
        self._channels[meta.name] = channel
        self._count()
        return channel

    def _count(self) -> None:
        self._shared.stats.channels = len(self._channels)

    # ---- Finding ----------------------------------------------------------

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

    def find(self, name: str) -> Channel | None:
        """The channel of that name, if there is one."""
        return self._channels.get(name)

    def names(self, prefix: str = "", after: str = "") -> list[str]:
        """Channel names with a prefix that sort after another, in order."""
        return sorted(n for n in self._channels if n.startswith(prefix) and n > after)

    # ---- Changing ---------------------------------------------------------

    async def create(self, name: str, config: ChannelConfig) -> Channel:
        """The channel of that name, made if there is none; durable when this returns.

        Raises:
            InvalidArgument: The name or a setting can't be used.
            DiskFull: There is no room; nothing was made.
            DataDirError: It could not be stored.
            Unavailable: The broker is stopping.
        """
        check_channel_name(name)
        config.check()
        self._check_running()
        return await self.tasks.finish(self._create(name, config))

    async def _create(self, name: str, config: ChannelConfig) -> Channel:
        async with self._turns.of(name):
            existing = self._channels.get(name)
            if existing is not None:
                return existing
            meta = ChannelMeta(name, os.urandom(16), self._shared.clock_ns(), config)
            await self._shared.threads.store(
                lambda: self._data_dir.create(meta), f"channel {name} was not created"
            )
            self._shared.events.info("channel_created", channel=name, id=meta.id.hex())
            return self._add(meta)

    async def configure(self, name: str, config: ChannelConfig) -> Channel:
        """Change the settings that ``config`` gives; durable when this returns.

        Raises:
            InvalidArgument: The name or a setting can't be used.
            ChannelNotFound: There is no such channel.
            DiskFull: There is no room; nothing was changed.
            DataDirError: It could not be stored.
            Unavailable: The broker is stopping.
        """
        config.check()
        self.get(name)
        self._check_running()
        return await self.tasks.finish(self._configure(name, config))

    async def _configure(self, name: str, config: ChannelConfig) -> Channel:
        async with self._turns.of(name):
            channel = self.get(name)
            old = channel.meta
            meta = ChannelMeta(old.name, old.id, old.created_ns, old.config.merged(config).check())
            await self._shared.threads.store(
                lambda: self._data_dir.update(meta), f"channel {name} was not changed"
            )
            channel.life.apply(meta)
            self._shared.events.info("channel_configured", channel=name)
            return channel

    async def delete(self, name: str) -> None:
        """Remove a channel and all it holds; durable when this returns.

        Whoever waits for it is told at once that it is gone.

        Raises:
            InvalidArgument: It can't be a channel's name.
            ChannelNotFound: There is no such channel.
            DataDirError: It could not be removed: it takes no work, and can be
                deleted again.
            Unavailable: The broker is stopping.
        """
        self.get(name)
        self._check_running()
        await self.tasks.finish(self._delete(name))

    async def _delete(self, name: str) -> None:
        async with self._turns.of(name):
            channel = self.get(name)
            # Not found from now on; the name is free once the directory is gone.
            del self._channels[name]
            self._count()
            self._logs.forget(channel.life)
            log = await channel.retire()
            await self.groups.drop(channel)

            def remove() -> str | None:
                if log is not None:
                    log.abandon()
                return self._data_dir.delete(channel.meta.id)

            what = f"channel {name} was not deleted"
            try:
                left_over = await self._shared.threads.store(remove, what)
            except MQError as error:
                channel.life.fail(f"{error.message}; delete it again")
                self._channels[name] = channel
                self._count()
                raise
            if left_over is not None:
                self._shared.events.warning("left_over", channel=name, reason=left_over)
            self._shared.events.info("channel_deleted", channel=name)

    def _check_running(self) -> None:
        if self._shared.stopping:
            raise stopping_error()
