"""Lets a group know of the records that are new in its channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from mq.broker.channel import Channel
from mq.broker.coordinator.records import read_facts
from mq.broker.groups.config import Mode
from mq.broker.groups.group import Group
from mq.broker.groups.plan import Plan
from mq.broker.shared import Shared
from mq.errors import DataLoss

# How much is read at once to learn of new records.
_READ_BYTES: Final = 1 << 20


class Feed:
    """Reads ahead for one group, when it has nothing else to hand out."""

    def __init__(
        self,
        shared: Shared,
        channel: Channel,
        group: Group,
        settle: Callable[[Plan], Awaitable[None]],
    ) -> None:
        self._shared = shared
        self._channel = channel
        self._group = group
        self._settle = settle
        self._lock = asyncio.Lock()

    @property
    def has_more(self) -> bool:
        """Whether a consumer that looks would find something."""
        group = self._group
        return (
            group.deliverable(self._shared.now_ms())
            or group.read_offset < self._channel.durable_offset
        )

    async def advance(self) -> None:
        """Let the group know of new records, if it has nothing else to hand out.

        Raises:
            MQError: They can't be read, or the journal refuses.
        """
        group, channel, shared = self._group, self._channel, self._shared
        async with self._lock:
            # Before the first record, since the log's start may have moved.
            await self._settle(group.trim(channel.log_start_offset, shared.now_ms()))
            while (
                not group.deliverable(shared.now_ms())
                and group.read_offset < channel.durable_offset
                and group.read_room != 0
                and not group.advancing
            ):
                await self._learn(group.read_offset)

    async def _learn(self, begin: int) -> None:
        group, now_ms = self._group, self._shared.now_ms
        keyed = group.config.mode is Mode.KEY_ORDERED
        end_max = self._channel.durable_offset
        if group.read_room is not None:
            end_max = min(end_max, begin + group.read_room)
        try:
            data, end = await self._channel.reads.frames(begin, _READ_BYTES)
        except DataLoss as loss:
            # Handed out like others: whoever fetches them is told of the damage.
            end = min(loss.next_offset, end_max)
            keys: Sequence[bytes | None] = [None] * (end - begin) if keyed else ()
            await self._settle(group.advance(end, now_ms(), (), keys))
            return
        facts = read_facts(data, begin, min(end, end_max), with_keys=keyed)
        await self._settle(group.advance(facts.next_offset, now_ms(), facts.schedule, facts.keys))
