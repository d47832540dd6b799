"""Batches as a consumer sees them: checked, cut to what was asked, opened lazily.

A `Batch` keeps the bytes that the producer wrote. Contents, keys and headers
are taken out of them on first use, and messages are made one by one as they are
iterated over: who only wants `batch.contents` pays for nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import repeat
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from mq.client.arguments import HeaderPairs
from mq.client.records import decode_contents, locate_contents, parse_records
from mq.client.types import time_from_ns
from mq.errors import DataLoss, Internal
from mq.pb import mq_pb2 as pb

_CODEC_MASK = 0b111


class _Columns(NamedTuple):
    keys: list[bytes]
    headers: list[HeaderPairs]


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

    __slots__ = (
        "_columns",
        "_contents",
        "_first",
        "_stored_count",
        "append_time_ns",
        "channel",
        "offsets",
        "records",
    )

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
        self._first = first
        self._contents: list[bytes] | None = None
        self._columns: _Columns | None = None

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

    @property
    def contents(self) -> list[bytes]:
        """All contents, in order.

        Raises:
            DataLoss: The batch is not what its header says, in spite of a good CRC.
        """
        contents = self._contents
        if contents is None:
            try:
                contents = decode_contents(self.records, self._stored_count)
            except ValueError as error:
                raise self._unreadable(error) from None
            if len(contents) != len(self.offsets):
                contents = contents[self._cut]
            self._contents = contents
        return contents

    @property
    def keys(self) -> list[bytes]:
        """One key a record, empty where it has none; an empty list where none has any."""
        return self._other_columns().keys

    @property
    def headers(self) -> list[HeaderPairs]:
        """One tuple of pairs a record; an empty list where none has any."""
        return self._other_columns().headers

    def _other_columns(self) -> _Columns:
        if self._columns is None:
            try:
                records = parse_records(self.records)
            except ValueError as error:
                raise self._unreadable(error) from None
            headers = [
                tuple((entry.key, entry.value) for entry in each.entries)
                for each in records.headers[self._cut]
            ]
            self._columns = _Columns(records.keys[self._cut], headers)
        return self._columns

    @property
    def _cut(self) -> slice:
        return slice(self._first, self._first + len(self.offsets))

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
    if crc32c(records) != frame.records_crc:
        raise _damaged(channel, max(base, first_offset), next_offset)
    codec = frame.attributes & _CODEC_MASK
    if codec:
        raise Internal(
            f"{channel!r}: the batch at offset {base} has codec {codec}, "
            "which this client doesn't know: upgrade it"
        )
    offsets: Sequence[int] = range(base, next_offset)
    if frame.record_count == len(offsets):
        first = max(0, first_offset - base)
    else:
        offsets = _sparse_offsets(channel, frame, records)
        first = bisect_left(offsets, first_offset)
    wanted = offsets[first:] if records_max is None else offsets[first : first + records_max]
    return Batch(channel, frame, records, wanted, first) if wanted else None


def _damaged(channel: str, lost: int, next_offset: int) -> DataLoss:
    return DataLoss(
        f"{channel!r}: the records at offsets {lost} to {next_offset - 1} don't match "
        f"their producer's CRC32C: pull from {next_offset} to go on without them",
        lost,
        next_offset,
    )


def _sparse_offsets(channel: str, frame: pb.RecordBatch, records: bytes) -> list[int]:
    """The offsets of a batch of which some records are gone."""
    base, next_offset = frame.base_offset, frame.base_offset + frame.last_offset_delta + 1
    try:
        deltas = parse_records(records).offset_deltas[:]
    except ValueError:
        deltas = []
    if len(deltas) != frame.record_count:
        raise DataLoss(
            f"{channel!r}: the batch at offset {base} does not say which {frame.record_count} "
            f"of its offsets are there: pull from {next_offset} to go on without it",
            base,
            next_offset,
        )
    return [base + delta for delta in deltas]
