"""Reads what was leased to a consumer, as much of it as one answer holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mq.broker.groups.plan import Delivery
from mq.broker.groups.ranges import Range
from mq.broker.reading import Reads
from mq.errors import DataLoss


class Handout(NamedTuple):
    """What could be read of some deliveries.

    Attributes:
        frames: They hold the records of ``taken``, and others.
        taken: The beginning of the deliveries.
        loss: The damage that ended the reading, or None.
    """

    frames: list[bytes]
    taken: list[Delivery]
    loss: DataLoss | None


async def gather(reads: Reads, deliveries: Sequence[Delivery], max_bytes: int) -> Handout:
    """Read deliveries, which are in order of offset, up to about ``max_bytes``.

    Raises:
        MQError: They can't be read; but damage is part of what is returned.
    """
    reading = _Reading(max_bytes)
    taken: list[Delivery] = []
    loss: DataLoss | None = None
    for delivery in deliveries:
        end, loss = await _read(reads, delivery, reading)
        if end > delivery.first:
            taken.append(delivery._replace(next=end))
        if end < delivery.next:
            break
    return Handout(reading.frames, taken, loss)


async def _read(reads: Reads, delivery: Delivery, reading: _Reading) -> tuple[int, DataLoss | None]:
    """Gather a delivery's frames; returns how far it came, and what damage it met."""
    offset = max(delivery.first, reading.next_offset)
    loss = None
    while offset < delivery.next and not reading.full:
        try:
            data, offset = await reads.frames(offset, reading.room_bytes, delivery.next - offset)
        except DataLoss as error:
            loss = error
            break
        reading.add(data, offset)
    return min(delivery.next, offset), loss


class _Reading:
    """The frames gathered for one answer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self.frames: list[bytes] = []
        # One past the last record gathered; ranges are read in order of offset.
        self.next_offset = 0

    @property
    def room_bytes(self) -> int:
        """How much more may be gathered."""
        return max(self._max_bytes - self._size, 1)

    @property
    def full(self) -> bool:
        """Whether that is nothing."""
        return self._size >= self._max_bytes

    def add(self, data: bytes, next_offset: int) -> None:
        """Gather frames."""
        self.frames.append(data)
        self._size += len(data)
        self.next_offset = next_offset


def without(deliveries: Sequence[Delivery], taken: Sequence[Delivery]) -> list[Range]:
    """The part of ``deliveries`` that is not in ``taken``, which is the beginning of it."""
    rest: list[Range] = []
    for position, delivery in enumerate(deliveries):
        first = taken[position].next if position < len(taken) else delivery.first
        if first < delivery.next:
            rest.append((first, delivery.next))
    return rest


def outside(ranges: Sequence[Range], first: int, following: int) -> list[Range]:
    """The parts of ranges that are not in ``[first, following)``."""
    parts = [
        part
        for start, end in ranges
        for part in ((start, min(end, first)), (max(start, following), end))
    ]
    return [(start, end) for start, end in parts if start < end]


def spare(deliveries: Sequence[Delivery], gone: Sequence[Range]) -> list[Delivery]:
    """Deliveries without the offsets in ranges."""
    left = list(deliveries)
    for first, following in gone:
        left = [
            delivery._replace(first=start, next=end)
            for delivery in left
            for start, end in outside([(delivery.first, delivery.next)], first, following)
        ]
    return left
