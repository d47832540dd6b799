"""The consumer groups of all channels: recovered on first use, gone with their channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from mq.broker.channel import Channel
from mq.broker.coordinator.groups import ChannelGroups
from mq.broker.coordinator.journal import Journal
from mq.broker.coordinator.letters import is_letter_of, original_headers
from mq.broker.coordinator.records import find_record
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.coordinator.undertaker import Publishing, letters_channel, publish_record
from mq.broker.datadir import DataDir
from mq.broker.groups.config import GroupConfig
from mq.broker.model import ChannelConfig, ChannelMeta, GroupGauges
from mq.broker.openlogs import OpenLogs
from mq.broker.shared import Shared
from mq.broker.tasks import Tasks, Turns
from mq.errors import ChannelNotFound, MQError
from mq.log.layout import journal_id


class Channels(Publishing, Protocol):
    """What the coordinator needs of the channels that clients see."""

    def get(self, name: str) -> Channel:
        """The channel of that name, or `ChannelNotFound`."""

    def find(self, name: str) -> Channel | None:
        """The channel of that name, if there is one."""


class Coordinator:
    """Keeps the groups that are in use, each channel's with a journal of its own.

    Args:
        shared: The broker's.
        logs: Where the journals' logs are opened.
        data_dir: Where the journals are.
        channels: All channels that clients see.
    """

    def __init__(
        self, shared: Shared, logs: OpenLogs, data_dir: DataDir, channels: Channels
    ) -> None:
        self._shared = shared
        self._logs = logs
        self._data_dir = data_dir
        self._channels = channels
        # By the channel's id.
        self._groups: dict[bytes, ChannelGroups] = {}
        # The journals' logs, of groups in use or being recovered.
        self._hidden: set[Channel] = set()
        self._turns = Turns()
        self._tasks = Tasks(shared.loop)

    # ---- One channel's groups ---------------------------------------------

    async def of(self, channel: Channel) -> ChannelGroups:
        """The consumer groups of a channel, recovered if they were not in use.

        Raises:
            ChannelNotFound: The channel was deleted.
            MQError: They can't be recovered.
        """
        groups = self._groups.get(channel.meta.id)
        if groups is None:
            groups = await self._tasks.finish(self._recovered(channel))
        return groups

    async def _recovered(self, channel: Channel) -> ChannelGroups:
        key = channel.meta.id
        async with self._turns.of(key):
            if key not in self._groups:
                await channel.life.ready()
                self._groups[key] = await self._recover(channel)
            return self._groups[key]

    async def _recover(self, channel: Channel) -> ChannelGroups:
        hidden = await self._open_journal(channel)
        groups = ChannelGroups(self._shared, self._channels, channel, Journal(hidden))
        try:
            await groups.recover()
            channel.life.check_usable()
        except BaseException as error:
            # Two logs of one directory would write over each other.
            groups.close(error if isinstance(error, MQError) else None)
            await self._close_journal(hidden)
            raise
        channel.pulls.also_wake = groups.notify
        return groups

    async def _open_journal(self, channel: Channel) -> Channel:
        key = channel.meta.id
        path = await self._shared.threads.store(
            partial(self._data_dir.journal_path, key),
            f"the journal of the groups of channel {channel.name} was not made",
        )
        meta = ChannelMeta(f"{channel.name} (groups)", journal_id(key), 0, ChannelConfig())
        hidden = Channel(self._shared, self._logs, _NoHolders(), meta, path)
        self._hidden.add(hidden)
        return hidden

    async def _close_journal(self, hidden: Channel) -> None:
        self._hidden.discard(hidden)
        self._logs.forget(hidden.life)
        log = await hidden.retire()
        if log is not None:
            await self._shared.threads.store(log.abandon, "")

    async def drop(self, channel: Channel) -> None:
        """Before a deleted channel is removed: let go of its groups and their journal."""
        async with self._turns.of(channel.meta.id):
            groups = self._groups.pop(channel.meta.id, None)
            if groups is not None:
                channel.pulls.also_wake = None
                groups.close(channel.life.refusal())
                await self._close_journal(groups.journal.log)

    def exist(self, channel: Channel) -> bool:
        """Whether a channel ever had consumer groups."""
        key = channel.meta.id
        return key in self._groups or self._data_dir.has_journal(key)

    def in_use(self, channel: Channel) -> bool:
        """Whether a channel's groups are recovered."""
        return channel.meta.id in self._groups

    # ---- Retention --------------------------------------------------------

    def must_recover(self, meta: ChannelMeta) -> bool:
        """Whether retention of a channel depends on groups that are not in use yet."""
        return (
            bool(meta.config.retain_unacknowledged)
            and meta.id not in self._groups
            and self._data_dir.has_journal(meta.id)
        )

    async def recover(self, meta: ChannelMeta) -> None:
        """Let a channel's groups say what they hold.

        Raises:
            MQError: They can't be recovered.
        """
        await self.of(self._channels.get(meta.name))

    def recover_soon(self, meta: ChannelMeta, told: Callable[[bool], None]) -> None:
        """The same in the background; ``told`` is called with whether it worked."""

        async def recover() -> None:
            recovered = False
            try:
                await self.recover(meta)
                recovered = True
            except ChannelNotFound:
                pass
            except MQError as error:
                self._shared.events.warning(
                    "group_trouble", channel=meta.name, reason=error.message
                )
            finally:
                told(recovered)

        self._tasks.spawn(recover())

    # ---- Dead letters -----------------------------------------------------

    async def redrive(self, channel: Channel, runner: GroupRunner, count_max: int) -> int:
        """Publish a group's dead letters to its channel again; at least once each.

        They are taken from the dead-letter channel through a group of its own,
        so that each is taken once.

        Args:
            channel: The group's.
            runner: The group.
            count_max: Most messages to publish; 0: all there are.

        Returns:
            How many were published.

        Raises:
            MQError: One was not; the ones before it were.
        """
        source = self._channels.find(letters_channel(channel, runner))
        if source is None:
            return 0
        groups = await self.of(source)
        name = f"redrive.{channel.name}.{runner.name}"[:255]
        reader = await groups.create(name, GroupConfig(), source.log_start_offset)
        moved = 0
        while not count_max or moved < count_max:
            fetched = await reader.fetch("redrive", max_records=1, max_bytes=1, wait_s=0)
            if not fetched.deliveries:
                break
            offset = fetched.deliveries[0].first
            record = find_record(b"".join(fetched.frames), offset)
            if record is not None and is_letter_of(record, channel.name, runner.name):
                again = record._replace(headers=original_headers(record))
                await publish_record(channel, again)
                moved += 1
            await reader.ack("redrive", [(offset, offset + 1)])
        return moved

    # ---- All of them ------------------------------------------------------

    @property
    def journals(self) -> list[Channel]:
        """The hidden channels that hold the journals."""
        return list(self._hidden)

    def gauges(self) -> list[GroupGauges]:
        """How the groups in use are doing."""
        return [runner.meter.gauges() for each in self._groups.values() for runner in each.runners]

    def refuse(self) -> None:
        """The broker stops: let waiting consumers go."""
        for groups in self._groups.values():
            groups.close(None)

    @property
    def running(self) -> set[asyncio.Task[Any]]:
        """What goes on in the background."""
        return set(self._tasks.running).union(
            *(groups.tasks.running for groups in self._groups.values())
        )


class _NoHolders:
    """Of a journal: nobody holds its records back."""

    def must_recover(self, meta: ChannelMeta) -> bool:
        """See `Holders`."""
        return False

    async def recover(self, meta: ChannelMeta) -> None:
        """See `Holders`."""

    def recover_soon(self, meta: ChannelMeta, told: Callable[[bool], None]) -> None:
        """See `Holders`."""
        told(True)
