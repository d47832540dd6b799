"""What a fetch brought: messages under a lease, which of them are settled, which are lost.

A parcel is as much of one stored batch as one delivery covers. Each of its
records has a position, and a byte that says where it is; so a batch is settled
by filling a slice, and a message by setting a byte.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mq.client.batch import Batch, read_batch
from mq.client.group_types import Refusal
from mq.errors import DataLoss, Internal, MQError
from mq.pb import mq_pb2 as pb

# Where a record is.
HELD = 0
SETTLED = 1
# Worked on for so long that its lease is no longer prolonged.
LET_GO = 2
LOST = 3

_HELD_RUN = re.compile(rb"\x00+")
_SAME_RUN = re.compile(rb"\x00+|\x01+|\x02+|\x03+")


@dataclass(slots=True)
class Lease:
    """One deadline for what was fetched, or prolonged, together.

    Attributes:
        until_s: When it ends, on this side's clock.
        held: How many messages are under it.
    """

    until_s: float
    held: int = 0


class Parcel:
    """Records of one batch that were delivered together.

    Args:
        batch: The whole batch that they are of.
        start: The index in the batch of the first record.
        bounds: One more than records: the offsets from ``bounds[i]`` up to
            ``bounds[i + 1]`` are those of record ``i``, with the ones that
            compaction has removed after it.
        delivery_count: 1 for a first delivery.
        generation: The number of the fetch.
    """

    __slots__ = (
        "batch",
        "bounds",
        "cursor",
        "delivery_count",
        "generation",
        "handed_s",
        "lease",
        "left",
        "refusal",
        "start",
        "states",
    )

    def __init__(
        self,
        batch: Batch,
        start: int,
        bounds: Sequence[int],
        delivery_count: int,
        generation: int = 0,
    ) -> None:
        self.batch = batch
        self.start = start
        self.bounds = bounds
        self.delivery_count = delivery_count
        self.generation = generation
        self.left = len(bounds) - 1
        """How many are held."""
        self.states = bytearray(self.left)
        self.cursor = 0
        """Positions below have been handed out, or never will be."""
        self.handed_s = 0.0
        """When one was handed out last."""
        self.refusal: Refusal = "unknown"
        """Why those that are lost are."""
        self.lease = Lease(0.0)

    @property
    def record_count(self) -> int:
        """How many records there are."""
        return len(self.states)

    @property
    def first(self) -> int:
        """The first offset."""
        return self.bounds[0]

    @property
    def next(self) -> int:
        """One past the last offset."""
        return self.bounds[-1]

    def mark(self, low: int, high: int, state: int) -> int:
        """Put positions in a state; returns how many of them were held."""
        held = high - low
        if held == 1:
            held = self.states[low] == HELD
            self.states[low] = state
        else:
            held = self.states.count(HELD, low, high)
            self.states[low:high] = bytes((state,)) * (high - low)
        self.left -= held
        self.lease.held -= held
        return held

    def next_held(self) -> int:
        """The first position to hand out; -1 where there is none."""
        return self.states.find(HELD, self.cursor)

    def held_run(self, low: int) -> int:
        """Where the run of held positions that begins here ends."""
        match = _HELD_RUN.match(self.states, low)
        return match.end() if match else low

    def held_ranges(self) -> Iterator[tuple[int, int]]:
        """The offsets of what is held."""
        for match in _HELD_RUN.finditer(self.states):
            yield self.bounds[match.start()], self.bounds[match.end()]

    def runs(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Positions of one state each: low, high, state."""
        for match in _SAME_RUN.finditer(self.states, low, high):
            yield match.start(), match.end(), match[0][0]

    def positions(self, first: int, following: int) -> tuple[int, int]:
        """The positions of the records whose offsets are in a range."""
        low = bisect_left(self.bounds, first, 0, self.record_count)
        return low, max(low, bisect_left(self.bounds, following, 0, self.record_count))

    def keys(self, low: int, high: int) -> list[bytes]:
        """The keys of positions, empty for none; an empty list where none has any."""
        return self.batch.keys[self.start + low : self.start + high]


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a delivery that can't be read."""

    error: MQError
    first: int
    next: int
    generation: int


Piece = Parcel | Damage


def open_fetch(
    channel: str, answer: pb.FetchResponse, generation: int
) -> tuple[list[Piece], list[tuple[int, int]]]:
    """Check the batches of an answer and cut them to what was delivered.

    Args:
        channel: Where it comes from.
        answer: As received.
        generation: The number of the fetch.

    Returns:
        Parcels and damage, in order; and ranges that were delivered but have
        no records any more, which are to be acknowledged.
    """
    frames = _Frames(channel, answer.batches)
    pieces: list[Piece] = []
    empty: list[tuple[int, int]] = []
    for delivery in answer.deliveries:
        covered = frames.covering(delivery.first_offset, delivery.next_offset)
        if not covered:
            empty.append((delivery.first_offset, delivery.next_offset))
        for index, first, following in covered:
            batch = frames.open(index)
            if isinstance(batch, MQError):
                pieces.append(Damage(batch, first, following, generation))
                continue
            parcel = None
            if batch is not None:
                parcel = _cut(batch, first, following, delivery.delivery_count, generation)
            if parcel is None:
                empty.append((first, following))
            else:
                pieces.append(parcel)
    return pieces, empty


class _Frames:
    """The frames of one answer, each checked once, when it is needed."""

    def __init__(self, channel: str, frames: Sequence[pb.RecordBatch]) -> None:
        self._channel = channel
        self._frames = frames
        self._firsts = [frame.base_offset for frame in frames]
        self._nexts = [frame.base_offset + frame.last_offset_delta + 1 for frame in frames]
        self._opened: dict[int, Batch | MQError | None] = {}

    def covering(self, first: int, following: int) -> list[tuple[int, int, int]]:
        """The frames of a range, each with the part of the range up to the next frame."""
        index = bisect_left(self._nexts, first + 1)
        last = bisect_left(self._firsts, following)
        parts = []
        while index < last:
            end = following if index + 1 == last else self._firsts[index + 1]
            parts.append((index, first, end))
            index, first = index + 1, end
        return parts

    def open(self, index: int) -> Batch | MQError | None:
        """The frame's batch, or why it can't be had; None: nothing of it is left."""
        if index not in self._opened:
            self._opened[index] = self._read(self._frames[index])
        return self._opened[index]

    def _read(self, frame: pb.RecordBatch) -> Batch | MQError | None:
        try:
            return read_batch(self._channel, frame, frame.base_offset)
        except (DataLoss, Internal) as error:
            return error


def _cut(
    batch: Batch, first: int, following: int, delivery_count: int, generation: int
) -> Parcel | None:
    """The records of a batch in a range of offsets; None where there are none."""
    start = bisect_left(batch.offsets, first)
    offsets = batch.offsets[start : bisect_left(batch.offsets, following)]
    if not offsets:
        return None
    bounds: Sequence[int] = range(first, following + 1)
    if len(offsets) != following - first:
        bounds = [first, *offsets[1:], following]
    return Parcel(batch, start, bounds, delivery_count, generation)
