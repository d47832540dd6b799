"""Batches as a consumer sees them: checked, cut to what was asked, opened lazily.

A `Batch` keeps the bytes that the producer wrote. Contents, keys and headers
are taken out of them on first use, and messages are made one by one as they are
iterated over: who only wants `batch.contents` pays for nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from itertools import repeat

import crc32c
import numpy as np
from numpy.typing import NDArray

from mq.client.arguments import HeaderPairs
from mq.client.records import decode_contents, locate_contents, parse_records
from mq.client.types import time_from_ns
from mq.errors import DataLoss, Internal
from mq.pb import mq_pb2 as pb

_CODEC_MASK = 0b111


class Message:
    """One record of a batch."""

    __slots__ = ("_batch", "content", "offset")

    def __init__(self, batch: Batch, offset: int, content: bytes) -> None:
        self._batch = batch
        self.offset = offset
        self.content = content

    @property
    def channel(self) -> str:
        """The channel it was pulled from."""
        return self._batch.channel

    @property
    def key(self) -> bytes | None:
        """The key, or None; an empty key is none."""
        keys = self._batch.keys
        return (keys[self._index] or None) if keys else None

    @property
    def headers(self) -> HeaderPairs:
        """Pairs of name and value, in the publisher's order; `dict` makes a lookup of them."""
        headers = self._batch.headers
        return headers[self._index] if headers else ()

    @property
    def append_time_ns(self) -> int:
        """When the broker stored it, Unix nanoseconds."""
        return self._batch.append_time_ns

    @property
    def append_time(self) -> datetime:
        """When the broker stored it, in UTC."""
        return self._batch.append_time

    @property
    def _index(self) -> int:
        return bisect_left(self._batch.offsets, self.offset)

    def __repr__(self) -> str:
        return f"Message(channel={self.channel!r}, offset={self.offset}, content={self.content!r})"


class Batch:
    """Consecutive records of one append, cut to the offsets that were asked for."""

    def __init__(
        self,
        channel: str,
        frame: pb.RecordBatch,
        records: bytes,
        offsets: Sequence[int],
        first: int,
    ) -> None:
        self.channel = channel
        self.offsets = offsets
        """The records' offsets: a range, unless compaction has taken some away."""
        self.records = records
        """The batch as it was published, a serialized `Records`: not cut."""
        self.append_time_ns = frame.append_time_ns
        """When the broker stored it, Unix nanoseconds."""
        self._stored_count = frame.record_count
        self._cut = slice(first, first + len(offsets))

    @property
    def base_offset(self) -> int:
        """The first record's offset."""
        return self.offsets[0]

    @property
    def next_offset(self) -> int:
        """One past the last record's offset."""
        return self.offsets[-1] + 1

    @property
    def record_count(self) -> int:
        """How many records there are, at least one."""
        return len(self.offsets)

    @property
    def append_time(self) -> datetime:
        """When the broker stored it, in UTC."""
        return time_from_ns(self.append_time_ns)

    @cached_property
    def contents(self) -> list[bytes]:
        """All contents, in order.

        Raises:
            DataLoss: The batch is not what its header says, in spite of a good CRC.
        """
        try:
            contents = decode_contents(self.records, self._stored_count)
        except ValueError as error:
            raise self._unreadable(error) from None
        return contents if len(contents) == len(self.offsets) else contents[self._cut]

    @cached_property
    def keys(self) -> list[bytes]:
        """One key a record, empty where it has none; an empty list where none has any."""
        return self._columns.keys[self._cut]

    @cached_property
    def headers(self) -> list[HeaderPairs]:
        """One tuple of pairs a record; an empty list where none has any."""
        return [
            tuple((entry.key, entry.value) for entry in each.entries)
            for each in self._columns.headers[self._cut]
        ]

    @cached_property
    def _columns(self) -> pb.Records:
        try:
            return parse_records(self.records)
        except ValueError as error:
            raise self._unreadable(error) from None

    def messages(self) -> Iterator[Message]:
        """The records one by one, made as they are asked for."""
        return map(Message, repeat(self), self.offsets, self.contents)

    def __iter__(self) -> Iterator[Message]:
        return self.messages()

    def __len__(self) -> int:
        return len(self.offsets)

    def offsets_and_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the contents lie in `records`, for work on them without a bytes object each.

        Returns:
            Two int64 arrays of shape ``(record_count,)``: the position of each
            content's first byte in `records`, and its length in bytes.

        Raises:
            DataLoss: The batch is not what its header says, in spite of a good CRC.
        """
        try:
            starts, lengths = locate_contents(self.records, self._stored_count)
        except ValueError as error:
            raise self._unreadable(error) from None
        return starts[self._cut], lengths[self._cut]

    def _unreadable(self, error: ValueError) -> DataLoss:
        return DataLoss(
            f"{self.channel!r}: the batch at offset {self.base_offset} is not what its header "
            f"says ({error}): pull from {self.next_offset} to go on without it",
            self.base_offset,
            self.next_offset,
        )

    def __repr__(self) -> str:
        return (
            f"Batch(channel={self.channel!r}, base_offset={self.base_offset}, "
            f"record_count={self.record_count})"
        )


def read_batch(
    channel: str, frame: pb.RecordBatch, first_offset: int, records_max: int | None = None
) -> Batch | None:
    """Check a frame and cut it to what was asked.

    Args:
        channel: Where it comes from.
        frame: As received.
        first_offset: The first offset wanted.
        records_max: How many records are wanted; None is all.

    Returns:
        The batch; None where no record of it is wanted.

    Raises:
        DataLoss: The records are not those that the producer computed the CRC of.
        Internal: They are encoded in a way that this version doesn't know.
    """
    base = frame.base_offset
    next_offset = base + frame.last_offset_delta + 1
    if next_offset <= first_offset:
        return None
    records = frame.records
    if crc32c.crc32c(records) != frame.records_crc:
        lost = max(base, first_offset)
        raise DataLoss(
            f"{channel!r}: the records at offsets {lost} to {next_offset - 1} don't match "
            f"their producer's CRC32C: pull from {next_offset} to go on without them",
            lost,
            next_offset,
        )
    if frame.attributes & _CODEC_MASK:
        raise Internal(
            f"{channel!r}: the batch at offset {base} has codec "
            f"{frame.attributes & _CODEC_MASK}, which this client doesn't know: upgrade it"
        )
    offsets = _offsets(frame, base, next_offset, records)
    first = max(0, bisect_left(offsets, first_offset))
    wanted = offsets[first:] if records_max is None else offsets[first : first + records_max]
    return Batch(channel, frame, records, wanted, first) if wanted else None


def _offsets(frame: pb.RecordBatch, base: int, next_offset: int, records: bytes) -> Sequence[int]:
    if frame.record_count == next_offset - base:
        return range(base, next_offset)
    deltas = pb.Records.FromString(records).offset_deltas
    if len(deltas) != frame.record_count:
        raise DataLoss(
            f"the batch at offset {base} does not say which {frame.record_count} of its offsets "
            f"are there: pull from {next_offset} to go on without it",
            base,
            next_offset,
        )
    return [base + delta for delta in deltas]
