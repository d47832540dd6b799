"""How far a group is behind, in messages, bytes and seconds."""

from __future__ import annotations

from typing import NamedTuple

from mq.broker.channel import Channel
from mq.broker.groups.group import Group
from mq.broker.groups.stats import GroupStats
from mq.broker.model import GroupGauges
from mq.broker.shared import Shared


class Lag(NamedTuple):
    """How a group is doing, and how far behind.

    ``seconds_behind`` is the age of the oldest record that is not done.
    """

    stats: GroupStats
    bytes_behind: int
    seconds_behind: float


class Meter:
    """Measures one group against its channel."""

    def __init__(self, shared: Shared, channel: Channel, name: str, group: Group) -> None:
        self._shared = shared
        self._channel = channel
        self._name = name
        self._group = group

    async def lag(self) -> Lag:
        """How far the group is behind, in messages, bytes and seconds.

        Raises:
            MQError: The channel can't be read.
        """
        stats = self._group.stats(self._channel.durable_offset, self._shared.now_ms())
        if stats.oldest_offset is None:
            return Lag(stats, 0, 0.0)
        position = await self._channel.reads.locate(
            max(stats.oldest_offset, self._channel.log_start_offset)
        )
        age_s = (self._shared.clock_ns() - position.append_time_ns) / 1e9
        return Lag(stats, position.bytes_after, max(age_s, 0.0))

    def gauges(self) -> GroupGauges:
        """What the metrics show, without waiting for anything."""
        stats = self._group.stats(self._channel.durable_offset, self._shared.now_ms())
        seconds: float | None = 0.0
        if stats.oldest_offset is not None:
            offset = max(stats.oldest_offset, self._channel.log_start_offset)
            position = self._channel.reads.locate_now(offset)
            seconds = None
            if position is not None:
                age_s = (self._shared.clock_ns() - position.append_time_ns) / 1e9
                seconds = max(age_s, 0.0)
        return GroupGauges(
            channel=self._channel.name,
            group=self._name,
            messages_behind=stats.behind,
            seconds_behind=seconds,
            in_flight=stats.in_flight,
            waiting=stats.waiting,
            acked=stats.acked,
            redelivered=stats.redelivered,
            dead=stats.dead,
            expired=stats.expired,
        )
