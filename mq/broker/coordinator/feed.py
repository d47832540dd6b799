"""Lets a group know of the records that are new in its channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mq.broker.channel import Channel
from mq.broker.coordinator.records import Facts, read_facts
from mq.broker.groups.config import Mode
from mq.broker.groups.group import Group
from mq.broker.groups.plan import Plan
from mq.broker.shared import Shared
from mq.errors import DataLoss, OffsetOutOfRange

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
            await self._trim()
            while (
                not group.deliverable(shared.now_ms())
                and group.read_offset < channel.durable_offset
                and group.read_room != 0
                and not group.advancing
            ):
                await self._learn(group.read_offset)

    async def _trim(self) -> None:
        """Before the first record is read, since the log's start may have moved."""
        start = self._channel.log_start_offset
        await self._settle(self._group.trim(start, self._shared.now_ms()))

    async def _learn(self, begin: int) -> None:
        group, channel = self._group, self._channel
        keyed = group.config.mode is Mode.KEY_ORDERED
        end_max = channel.durable_offset
        if group.read_room is not None:
            end_max = min(end_max, begin + group.read_room)
        try:
            data, end = await channel.reads.frames(begin, _READ_BYTES)
            facts = read_facts(data, begin, min(end, end_max), with_keys=keyed)
        except DataLoss as loss:
            # Handed out like others: whoever fetches them is told of the damage.
            end = min(loss.next_offset, end_max)
            facts = Facts(begin, end, (), [None] * (end - begin) if keyed else [])
        except OffsetOutOfRange:
            if begin >= channel.log_start_offset:
                raise
            await self._trim()
            return
        if keyed is (group.config.mode is Mode.KEY_ORDERED):
            now_ms = self._shared.now_ms()
            # The group may have been moved meanwhile: it is told what was read.
            plan = group.advance(
                facts.next_offset, now_ms, facts.schedule, facts.keys, begin, facts.gone
            )
            await self._settle(plan)
