"""Batches framed one behind another, to be written at once. Pure: no file, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mq.errors import InvalidArgument, MessageTooLarge, MQError
from mq.log.format import FRAME_HEADER_BYTES, LENGTH_MAX, OVERHEAD_BYTES
from mq.log.frames import encode_header
from mq.log.producers import Entry, Producers, Receipt
from mq.log.walk import Bound

_RECORD_COUNT_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Append:
    """A batch to append: ``records`` is a serialized ``Records`` of ``record_count`` records."""

    records: bytes
    record_count: int
    records_crc: int
    producer_id: int = 0
    sequence: int = 0
    attributes: int = 0

    @property
    def frame_bytes(self) -> int:
        """The size of its frame.

        Raises:
            MessageTooLarge: No segment could hold it.
            InvalidArgument: It can't have that many records.
        """
        if not 0 < self.record_count <= _RECORD_COUNT_MAX:
            raise InvalidArgument(
                f"a batch of {self.record_count} records can't be stored; send one or more"
            )
        size = FRAME_HEADER_BYTES + len(self.records)
        if size + OVERHEAD_BYTES > LENGTH_MAX:
            raise MessageTooLarge(
                f"a batch of {len(self.records)} bytes can't be stored; send less at once"
            )
        return size


class Appended(NamedTuple):
    """Where a batch went."""

    base_offset: int
    record_count: int
    append_time_ns: int
    duplicate: bool = False


class Group:
    """Frames that follow each other in one segment, and the outcome of each batch.

    Args:
        producers: Told of each batch; what the group told is taken back by `fail`.
    """

    def __init__(self, producers: Producers) -> None:
        self._producers = producers
        self.results: list[Appended | MQError] = []
        # Header and records, alternating.
        self.buffers: list[bytes] = []
        self.begin(Bound(0, 0), 0, 0, 0, 0)

    def begin(
        self, start: Bound, limit: int, seed: int, append_time_ns: int, durable_through: int
    ) -> None:
        """Gather from ``start`` on; what was gathered before is settled.

        Args:
            start: Where the first frame goes.
            limit: The position where frames have to end.
            seed: The seed of the segment's header CRCs.
            append_time_ns: The time of all these frames.
            durable_through: The durable offset.
        """
        self.start = self.end = start
        self._limit = limit
        self._seed = seed
        self.append_time_ns = append_time_ns
        self._durable_through = durable_through
        self.buffers = []
        # Base offset and position of each.
        self.frames: list[tuple[int, int]] = []
        # Of the results, those that depend on these frames.
        self._depending: list[int] = []
        self._snapshot: dict[int, Entry] | None = None

    def fits(self, frame_bytes: int) -> bool:
        """Whether a frame of that size has room."""
        return self.end.position + frame_bytes <= self._limit

    def repeats(self, batch: Append) -> bool:
        """Whether a producer's batch was appended before; then its result is noted.

        Raises:
            MQError: Its sequence is out of order.
        """
        receipt = self._producers.check(batch.producer_id, batch.sequence, batch.records_crc)
        if receipt is None:
            return False
        if receipt.base_offset >= self.start.offset:
            self._depending.append(len(self.results))
        self.results.append(Appended(*receipt[1:4], duplicate=True))
        return True

    def add(self, batch: Append, frame_bytes: int) -> None:
        """Frame a batch that is no repeat and has room."""
        base, position = self.end
        count, time_ns = batch.record_count, self.append_time_ns
        header = encode_header(
            self._seed,
            len(batch.records),
            base,
            count,
            time_ns,
            batch.records_crc,
            attributes=batch.attributes,
            producer_id=batch.producer_id,
            sequence=batch.sequence,
            durable_through=self._durable_through,
        )
        if batch.producer_id:
            if self._snapshot is None:
                self._snapshot = self._producers.snapshot()
            receipt = Receipt(batch.sequence, base, count, time_ns, batch.records_crc)
            self._producers.record(batch.producer_id, receipt)
        self.buffers += (header, batch.records)
        self.frames.append((base, position))
        self._depending.append(len(self.results))
        self.results.append(Appended(base, count, time_ns))
        self.end = Bound(base + count, position + frame_bytes)

    def fail(self, error: MQError) -> None:
        """Nothing of it was written: that is the outcome of all its batches."""
        if self._snapshot is not None:
            self._producers.restore(self._snapshot)
        for index in self._depending:
            self.results[index] = error
