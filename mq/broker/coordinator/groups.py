"""The groups of one channel: made, recovered, listed, snapshotted, put to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from crc32c import crc32c

from mq.broker.channel import Channel
from mq.broker.coordinator.journal import CREATED, DELETED, Journal
from mq.broker.coordinator.letters import (
    dead_letter,
    is_letter_of,
    original_headers,
    producer_id,
)
from mq.broker.coordinator.records import (
    Record,
    attributes_of,
    encode_record,
    find_record,
)
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.groups.config import GroupConfig
from mq.broker.groups.group import Group
from mq.broker.groups.ledger import DeadLetter
from mq.broker.model import ChannelConfig, Durability
from mq.broker.names import check_group_name
from mq.broker.pending import Outcome
from mq.errors import (
    DataLoss,
    GroupNotFound,
    InvalidArgument,
    MQError,
    OffsetOutOfRange,
)
from mq.log.log import Append, Appended
from mq.pb import mq_pb2 as pb

if TYPE_CHECKING:
    from mq.broker.broker import Broker

# How much is journaled between snapshots: what opening has to replay at most.
_SNAPSHOT_EVERY_BYTES = 4 << 20
# Fewer than a channel remembers of a producer: each can be told from its repeat.
_LETTERS_AT_ONCE = 8
_LETTERS_RETRY_S = 5.0
_RECORD_BYTES = 1 << 16


class ChannelGroups:
    """The consumer groups of a channel, recovered from their journal on first use."""

    def __init__(self, broker: Broker, channel: Channel, journal: Journal) -> None:
        self.broker = broker
        self.channel = channel
        self.journal = journal
        self._runners: dict[str, GroupRunner] = {}
        self._next_id = 1
        self._making: dict[str, asyncio.Future[None]] = {}
        self._publishing: set[GroupRunner] = set()
        self._snapshotting = False
        self._tasks: set[asyncio.Task[None]] = set()

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
            self.broker.note_group_trouble(self.channel, lost)
        for runner in self._runners.values():
            start = self.channel.log_start_offset
            await runner.settle(runner.group.trim(start, self.broker.now_ms()))
        self.changed()

    def close(self) -> None:
        """Let go of timers, tasks and waiting consumers."""
        for runner in self._runners.values():
            runner.close()

    def notify(self) -> None:
        """New records are durable."""
        for runner in self._runners.values():
            runner.notify()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; its failure is logged."""

        async def run() -> None:
            try:
                await work
            except MQError as error:
                self.broker.note_group_trouble(self.channel, error)

        task = self.broker.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        """
        check_group_name(name)
        self._check_config(config)
        while name in self._making:
            await asyncio.wait([self._making[name]])
        if name in self._runners:
            return self._runners[name]
        channel = self.channel
        if not channel.log_start_offset <= start_offset <= channel.durable_offset:
            raise OffsetOutOfRange(
                f"offset {start_offset} is outside of the channel, which holds offsets from "
                f"{channel.log_start_offset} up to {channel.durable_offset}",
                channel.log_start_offset,
                channel.durable_offset,
            )
        making = self._making[name] = self.broker.loop.create_future()
        try:
            return await self._make(name, config, start_offset)
        finally:
            del self._making[name]
            making.cancel()

    async def _make(self, name: str, config: GroupConfig, start_offset: int) -> GroupRunner:
        runner = GroupRunner(self, self._next_id, name, Group())
        self._next_id += 1
        created: asyncio.Future[Outcome] = self.broker.loop.create_future()
        self.journal.append(
            CREATED, runner.id, name.encode(), lambda outcome, _: created.set_result(outcome)
        )
        plan = runner.group.create(config, start_offset, self.broker.now_ms())
        await runner.settle(plan)
        _raised(await created)
        self._runners[name] = runner
        self.changed()
        return runner

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
        config.check()

    async def delete(self, name: str) -> None:
        """Forget a group; durable when this returns."""
        runner = self.get(name)
        deleted: asyncio.Future[Outcome] = self.broker.loop.create_future()
        self.journal.append(DELETED, runner.id, b"", lambda outcome, _: deleted.set_result(outcome))
        _raised(await deleted)
        self._runners.pop(name, None)
        runner.failure = GroupNotFound(f"group {name} was deleted")
        runner.close()
        self.changed()

    def changed(self) -> None:
        """After any change: tell the channel what to keep, and snapshot when it is time."""
        offsets = [runner.group.retain_offset for runner in self._runners.values()]
        self.channel.held_from = min(offsets, default=None)
        due = self.journal.appended_bytes >= _SNAPSHOT_EVERY_BYTES
        if due and not self._snapshotting and not self.broker.stopping:
            self._snapshotting = True
            self.spawn(self._snapshot())

    async def _snapshot(self) -> None:
        """Write all groups' state anew, and drop the journal before it."""
        try:
            # Entries in flight lie from here on, and are not in the snapshots.
            begin = self.journal.log.durable_offset
            self.journal.appended_bytes = 0
            written: list[asyncio.Future[Outcome]] = []
            for runner in self._runners.values():
                if runner.failure is None:
                    done: asyncio.Future[Outcome] = self.broker.loop.create_future()
                    state = runner.group.to_snapshot()
                    self.journal.append_snapshot(
                        runner.id,
                        runner.name,
                        state,
                        lambda outcome, _, done=done: done.set_result(outcome),  # type: ignore[misc]
                    )
                    written.append(done)
            for future in written:
                _raised(await future)
            if all(runner.failure is None for runner in self._runners.values()):
                await self.journal.trim(begin)
            self.journal.appended_bytes = 0
        finally:
            self._snapshotting = False

    # ---- Dead letters -----------------------------------------------------

    def letters_due(self, runner: GroupRunner) -> None:
        """Publish a group's dead letters, if it has any."""
        if runner not in self._publishing and runner.group.dead_letters(1):
            self._publishing.add(runner)
            self.spawn(self._publish_letters(runner))

    async def _publish_letters(self, runner: GroupRunner) -> None:
        try:
            while letters := runner.group.dead_letters(1):
                letter = letters[0]
                end = min(letter.next, letter.first + _LETTERS_AT_ONCE)
                await self._publish(runner, letter, range(letter.first, end))
                done = letter.sequence + end - letter.first
                await runner.settle(runner.group.dead_done(done, self.broker.now_ms()))
        except MQError:
            # A full disk, say: not lost, only late.
            self.broker.loop.call_later(_LETTERS_RETRY_S, self._retry_letters, runner)
            raise
        else:
            self._publishing.discard(runner)

    def _retry_letters(self, runner: GroupRunner) -> None:
        self._publishing.discard(runner)
        if runner.failure is None and not self.broker.stopping:
            self.letters_due(runner)

    async def _publish(self, runner: GroupRunner, letter: DeadLetter, offsets: range) -> None:
        """Publish some dead letters, each under its own sequence number."""
        name = runner.group.config.dead_letter_channel or f"{self.channel.name}.dead"
        target = await self.broker.create(name, ChannelConfig())
        sender = producer_id(self.channel.meta.id, runner.name, "dead")
        pending = []
        for offset in offsets:
            record = await self._record(offset)
            message = dead_letter(record, letter, offset, self.channel.name, runner.name)
            sequence = letter.sequence + offset - letter.first + 1
            pending.append(publish_record(target, message, sender, sequence))
        await asyncio.gather(*pending)

    async def _record(self, offset: int) -> Record | None:
        try:
            data, _ = await self.channel.read_frames(offset, _RECORD_BYTES, 1)
        except (DataLoss, OffsetOutOfRange):
            return None
        return find_record(data, offset)

    async def redrive(self, runner: GroupRunner, count_max: int) -> int:
        """Publish a group's dead letters to the channel again; at least once each.

        They are taken from the dead-letter channel through a group of its own,
        so that each is taken once. Returns how many there were.
        """
        name = runner.group.config.dead_letter_channel or f"{self.channel.name}.dead"
        source = self.broker.find(name)
        if source is None:
            return 0
        await source.ready()
        groups = await self.broker.groups_of(source)
        reader = await groups.create(
            f"redrive.{self.channel.name}.{runner.name}"[:255],
            GroupConfig(),
            source.log_start_offset,
        )
        moved = 0
        while not count_max or moved < count_max:
            fetched = await reader.fetch("redrive", max_records=1, max_bytes=1, wait_s=0)
            if not fetched.deliveries:
                break
            offset = fetched.deliveries[0].first
            record = find_record(b"".join(fetched.frames), offset)
            if record is not None and is_letter_of(record, self.channel.name, runner.name):
                again = record._replace(headers=original_headers(record))
                await publish_record(self.channel, again)
                moved += 1
            await reader.ack("redrive", [(offset, offset + 1)])
        return moved


async def publish_record(
    channel: Channel, record: Record, sender: int = 0, sequence: int = 0
) -> Appended:
    """Publish one message with key and headers.

    Raises:
        MQError: It was not published.
    """
    records = encode_record(record)
    append = Append(
        records,
        1,
        crc32c(records),
        sender,
        sequence,
        attributes_of(pb.Records.FromString(records)),
    )
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    channel.publish_batch(append, Durability.SYNCED, lambda outcome, _: done.set_result(outcome))
    return _raised(await done)


def _raised(outcome: Outcome) -> Appended:
    if isinstance(outcome, MQError):
        raise outcome
    return outcome
