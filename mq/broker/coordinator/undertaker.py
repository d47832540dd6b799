"""Publishes the dead letters of a channel's groups, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from crc32c import crc32c

from mq.broker.channel import Channel
from mq.broker.coordinator.letters import dead_letter, producer_id
from mq.broker.coordinator.records import Record, attributes_of, encode_record, find_record
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.futures import outcome_of
from mq.broker.groups.ledger import DeadLetter
from mq.broker.model import ChannelConfig, Durability
from mq.broker.pending import Outcome
from mq.broker.shared import Shared
from mq.errors import DataLoss, MQError, OffsetOutOfRange
from mq.log.log import Append, Appended
from mq.pb import mq_pb2 as pb

# Fewer than a channel remembers of a producer: each can be told from its repeat.
_LETTERS_AT_ONCE: Final = 8
_RETRY_S: Final = 5.0
_RECORD_BYTES: Final = 1 << 16


class Publishing(Protocol):
    """Where dead letters go."""

    async def create(self, name: str, config: ChannelConfig) -> Channel:
        """The channel of that name, made if there is none."""


class Undertaker:
    """Publishes dead letters in the background, one group's in their order.

    Args:
        shared: The broker's.
        channels: Makes the dead-letter channels.
        channel: Where the groups' records are.
        spawn: Does something in the background, and logs its failure.
    """

    def __init__(
        self,
        shared: Shared,
        channels: Publishing,
        channel: Channel,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._shared = shared
        self._channels = channels
        self._channel = channel
        self._spawn = spawn
        # Groups whose letters are being published, or are to be tried again.
        self._publishing: set[GroupRunner] = set()
        self._retries: dict[GroupRunner, asyncio.TimerHandle] = {}

    def call(self, runner: GroupRunner) -> None:
        """Publish a group's dead letters, if it has any."""
        if runner not in self._publishing and runner.group.dead_letters(1):
            self._publishing.add(runner)
            self._spawn(self._publish_all(runner))

    def close(self) -> None:
        """Try nothing again."""
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()

    async def _publish_all(self, runner: GroupRunner) -> None:
        try:
            while letters := runner.group.dead_letters(1):
                letter = letters[0]
                end = min(letter.next, letter.first + _LETTERS_AT_ONCE)
                await self._publish(runner, letter, range(letter.first, end))
                done = letter.sequence + end - letter.first
                await runner.settle(runner.group.dead_done(done, self._shared.now_ms()))
        except MQError:
            # A full disk, say: not lost, only late.
            self._retries[runner] = self._shared.loop.call_later(_RETRY_S, self._retry, runner)
            raise
        except BaseException:
            self._publishing.discard(runner)
            raise
        else:
            self._publishing.discard(runner)

    def _retry(self, runner: GroupRunner) -> None:
        del self._retries[runner]
        self._publishing.discard(runner)
        if runner.failure is None and not self._shared.stopping:
            self.call(runner)

    async def _publish(self, runner: GroupRunner, letter: DeadLetter, offsets: range) -> None:
        """Publish some dead letters, each under its own sequence number."""
        name, channel = letters_channel(self._channel, runner), self._channel
        target = await self._channels.create(name, ChannelConfig())
        sender = producer_id(channel.meta.id, runner.name, "dead")
        messages = [
            dead_letter(await self._record(offset), letter, offset, channel.name, runner.name)
            for offset in offsets
        ]
        first = letter.sequence + offsets.start - letter.first + 1
        await asyncio.gather(
            *(
                publish_record(target, message, sender, sequence)
                for sequence, message in enumerate(messages, first)
            )
        )

    async def _record(self, offset: int) -> Record | None:
        try:
            data, _ = await self._channel.reads.frames(offset, _RECORD_BYTES, 1)
        except (DataLoss, OffsetOutOfRange):
            return None
        return find_record(data, offset)


def letters_channel(channel: Channel, runner: GroupRunner) -> str:
    """The name of the channel for a group's dead letters."""
    return runner.group.config.dead_letter_channel or f"{channel.name}.dead"


async def publish_record(
    channel: Channel, record: Record, sender: int = 0, sequence: int = 0
) -> Appended:
    """Publish one message with key and headers.

    Args:
        channel: Where to.
        record: The message.
        sender: A producer's id, with ``sequence`` the same at a repeat; 0: none.
        sequence: The message's number among the sender's.

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

    def begin(done: Callable[[Outcome], None]) -> None:
        channel.publish_batch(append, Durability.SYNCED, lambda outcome, _: done(outcome))

    return await outcome_of(begin)
