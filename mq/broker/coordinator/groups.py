"""The groups of one channel: made, recovered, listed, snapshotted, put to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from mq.broker.channel import Channel
from mq.broker.coordinator.journal import CREATED, DELETED, Journal
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.coordinator.undertaker import Publishing, Undertaker
from mq.broker.futures import settle
from mq.broker.groups.config import GroupConfig
from mq.broker.groups.group import Group
from mq.broker.names import check_channel_name, check_group_name
from mq.broker.pending import Outcome
from mq.broker.shared import Shared
from mq.broker.tasks import Tasks, Turns
from mq.errors import GroupNotFound, InvalidArgument, MQError, OffsetOutOfRange

# How much is journaled between snapshots: what opening has to replay at most.
_SNAPSHOT_EVERY_BYTES: Final = 4 << 20


class ChannelGroups:
    """The consumer groups of a channel, recovered from their journal on first use.

    Making and deleting is done in turn for each name, and to its end even if
    whoever asked for it is gone.

    Args:
        shared: The broker's.
        channels: Makes the dead-letter channels.
        channel: Where the groups' records are.
        journal: Where their state is.
    """

    def __init__(
        self, shared: Shared, channels: Publishing, channel: Channel, journal: Journal
    ) -> None:
        self.shared = shared
        self.channel = channel
        self.journal = journal
        self.tasks = Tasks(shared.loop)
        self._undertaker = Undertaker(shared, channels, channel, self.spawn)
        self._runners: dict[str, GroupRunner] = {}
        self._next_id = 1
        self._turns = Turns()
        # How many groups are being made or deleted: no snapshot meanwhile.
        self._changing = 0
        self._snapshotting = False

    # ---- Life -------------------------------------------------------------

    async def recover(self) -> None:
        """Replay the journal.

        Raises:
            MQError: It can't be read.
        """
        for group_id, found in (await self.journal.replay()).items():
            self._next_id = max(self._next_id, group_id + 1)
            self._runners[found.name] = GroupRunner(self, group_id, found.name, found.group())
        for lost in self.journal.lost:
            self._note_trouble(lost)
        for runner in self._runners.values():
            start = self.channel.log_start_offset
            await runner.settle(runner.group.trim(start, self.shared.now_ms()))
        self.changed()

    def close(self, failure: MQError | None) -> None:
        """Let go of timers and waiting consumers.

        Args:
            failure: What everyone is told from now on; None: the broker stops, and
                they are told that.
        """
        self._undertaker.close()
        for runner in self._runners.values():
            runner.close(failure)

    def notify(self) -> None:
        """New records are durable."""
        for runner in self._runners.values():
            runner.notify()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; its failure is logged."""
        self.tasks.spawn(self._logged(work))

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except MQError as error:
            self._note_trouble(error)
        except Exception as error:  # noqa: BLE001 nobody else would hear of it
            self.shared.events.error("group_trouble", channel=self.channel.name, reason=repr(error))

    def _note_trouble(self, error: MQError) -> None:
        self.shared.events.warning("group_trouble", channel=self.channel.name, reason=error.message)

    # ---- Groups -----------------------------------------------------------

    def get(self, name: str) -> GroupRunner:
        """The group of that name.

        Raises:
            GroupNotFound: There is none.
        """
        runner = self._runners.get(name)
        if runner is None:
            raise GroupNotFound(
                f"channel {self.channel.name} has no group {name[:64]!r}; fetch with it, or "
                f"create it: mq groups create {self.channel.name} {name[:64]}"
            )
        return runner

    @property
    def runners(self) -> list[GroupRunner]:
        """All groups, by name."""
        return [self._runners[name] for name in sorted(self._runners)]

    async def create(self, name: str, config: GroupConfig, start_offset: int) -> GroupRunner:
        """The group of that name, made if there is none; durable when this returns.

        Raises:
            InvalidArgument: The name or a setting can't be used.
            OffsetOutOfRange: The start is past either end of the channel.
            ChannelNotFound: The channel was deleted.
            MQError: The journal can't take it.
        """
        check_group_name(name)
        self._check_config(config)
        return await self.tasks.finish(self._create(name, config, start_offset))

    async def _create(self, name: str, config: GroupConfig, start_offset: int) -> GroupRunner:
        async with self._turns.of(name):
            if name in self._runners:
                return self._runners[name]
            life = self.channel.life
            life.check_usable()
            if not life.log_start_offset <= start_offset <= life.durable_offset:
                raise OffsetOutOfRange(
                    f"offset {start_offset} is outside of the channel, which holds offsets from "
                    f"{life.log_start_offset} up to {life.durable_offset}",
                    life.log_start_offset,
                    life.durable_offset,
                )
            self._changing += 1
            try:
                runner = self._runners[name] = await self._make(name, config, start_offset)
            finally:
                self._changing -= 1
            self.changed()
            return runner

    async def _make(self, name: str, config: GroupConfig, start_offset: int) -> GroupRunner:
        runner = GroupRunner(self, self._next_id, name, Group())
        self._next_id += 1
        plan = runner.group.create(config, start_offset, self.shared.now_ms())
        # Nothing is awaited between the two entries, so that they are in one commit.
        created = self._append(CREATED, runner.id, name.encode())
        await runner.settle(plan)
        _check(await created)
        return runner

    def _append(self, kind: bytes, group_id: int, body: bytes) -> asyncio.Future[Outcome]:
        """Append to the journal now; the future has the outcome once it is durable."""
        future: asyncio.Future[Outcome] = self.shared.loop.create_future()
        self.journal.append(kind, group_id, body, lambda outcome, _: settle(future, outcome))
        return future

    async def configure(self, runner: GroupRunner, config: GroupConfig) -> None:
        """Change a group's settings; durable when this returns."""
        self._check_config(config)
        if config != runner.group.config:
            await runner.configure(config)

    def _check_config(self, config: GroupConfig) -> None:
        if config.dead_letter_channel == self.channel.name:
            raise InvalidArgument(
                f"dead_letter_channel is {self.channel.name}, the group's own channel: a dead "
                "letter would come back for ever; name another"
            )
        if config.dead_letter_channel:
            check_channel_name(config.dead_letter_channel)
        config.check()

    async def delete(self, name: str) -> None:
        """Forget a group; durable when this returns.

        Raises:
            GroupNotFound: There is none of that name.
            MQError: The journal can't take it; the group is still there.
        """
        self.get(name)
        await self.tasks.finish(self._delete(name))

    async def _delete(self, name: str) -> None:
        async with self._turns.of(name):
            runner = self.get(name)
            self._changing += 1
            try:
                _check(await self._append(DELETED, runner.id, b""))
            finally:
                self._changing -= 1
            del self._runners[name]
            runner.close(GroupNotFound(f"group {name} was deleted"))
            self.changed()

    # ---- Changes ----------------------------------------------------------

    def changed(self, runner: GroupRunner | None = None) -> None:
        """After any change: tell retention what to keep, and snapshot when it is time.

        Args:
            runner: The group that changed, if it was one: it may have dead letters now.
        """
        if runner is not None and runner.failure is None and not self.shared.stopping:
            self._undertaker.call(runner)
        offsets = [each.group.retain_offset for each in self._runners.values()]
        self.channel.upkeep.held_from = min(offsets, default=None)
        due = self.journal.appended_bytes >= _SNAPSHOT_EVERY_BYTES
        if due and not self._snapshotting and not self._changing and not self.shared.stopping:
            self._snapshotting = True
            self.spawn(self._snapshot())

    async def _snapshot(self) -> None:
        """Write all groups' state anew, and drop the journal before it."""
        try:
            if self._changing:
                # A group would come back that is being deleted: when that is done, then.
                return
            # Entries in flight lie from here on, and are not in the snapshots.
            begin = self.journal.log.durable_offset
            self.journal.appended_bytes = 0
            sound = [each for each in self._runners.values() if each.failure is None]
            whole = len(sound) == len(self._runners)
            for future in [self._append_snapshot(runner) for runner in sound]:
                _check(await future)
            if whole:
                await self.journal.trim(begin)
            self.journal.appended_bytes = 0
        finally:
            self._snapshotting = False

    def _append_snapshot(self, runner: GroupRunner) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self.shared.loop.create_future()
        self.journal.append_snapshot(
            runner.id,
            runner.name,
            runner.group.to_snapshot(),
            lambda outcome, _: settle(future, outcome),
        )
        return future


def _check(outcome: Outcome) -> None:
    if isinstance(outcome, MQError):
        raise outcome
