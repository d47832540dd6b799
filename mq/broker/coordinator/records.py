"""What the coordinator reads in records: delays, keys, and whole messages. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mq.broker.groups import Schedule
from mq.broker.groups.ranges import Range, append_range
from mq.log.format import FRAME_HEADER_BYTES
from mq.log.frames import Frame, sparse_frames, walk_trusted
from mq.pb import mq_pb2 as pb

# Bits of a frame's attributes.
HAS_SCHEDULE = 1 << 3
HAS_KEYS = 1 << 4


def attributes_of(columns: pb.Records) -> int:
    """The attributes of a batch with these columns."""
    scheduled = columns.deliver_after_ms or columns.expires_after_ms
    return (HAS_SCHEDULE if scheduled else 0) | (HAS_KEYS if columns.keys else 0)


class Facts(NamedTuple):
    """What a group has to know of records ``[first_offset, next_offset)``.

    ``gone``: the offsets among them that have no record any more.
    """

    first_offset: int
    next_offset: int
    schedule: Schedule
    keys: list[bytes | None]
    gone: Sequence[Range] = ()


def columns_of(data: bytes, frame: Frame) -> pb.Records:
    """The records of a frame."""
    return pb.Records.FromString(data[frame.position + FRAME_HEADER_BYTES : frame.end])


def deltas_of(columns: pb.Records) -> Sequence[int]:
    """The offsets of records, relative to the base offset of their frame."""
    return columns.offset_deltas or range(len(columns.contents))


def read_facts(data: bytes, first_offset: int, next_offset: int, *, with_keys: bool) -> Facts:
    """Read frames for delays and expiry, for what is gone, and for keys if they matter.

    Args:
        data: Sound frames that hold ``[first_offset, next_offset)``.
        first_offset: Where to begin.
        next_offset: Where to end.
        with_keys: Whether to return a key, or None, for each record.
    """
    schedule: list[tuple[int, int, int | None, int | None]] = []
    keys: list[bytes | None] = []
    for frame in walk_trusted(data):
        scheduled = bool(frame.attributes & HAS_SCHEDULE)
        keyed = with_keys and bool(frame.attributes & HAS_KEYS)
        columns = columns_of(data, frame) if scheduled or keyed else None
        if scheduled and columns is not None:
            schedule += _schedule(columns, frame)
        if with_keys:
            first, last = max(first_offset, frame.base_offset), min(next_offset, frame.next_offset)
            of_frame: list[bytes | None] = [None] * max(0, last - first)
            if columns is not None and keyed:
                for delta, key in zip(deltas_of(columns), columns.keys, strict=True):
                    if first <= frame.base_offset + delta < last:
                        of_frame[frame.base_offset + delta - first] = key or None
            keys += of_frame
    gone = find_gone(data, [(first_offset, next_offset)])
    return Facts(first_offset, next_offset, schedule, keys, gone)


def find_gone(data: bytes, ranges: Sequence[Range]) -> list[Range]:
    """The offsets in ranges, which frames hold, of which there is no record any more."""
    gone: list[Range] = []
    for frame in sparse_frames(data):
        for first, following in _gaps(data, frame):
            for start, end in ranges:
                if max(first, start) < min(following, end):
                    append_range(gone, max(first, start), min(following, end))
    return gone


def _gaps(data: bytes, frame: Frame) -> Iterator[Range]:
    """The offsets of a frame that have no record."""
    expected = frame.base_offset
    for delta in deltas_of(columns_of(data, frame)):
        offset = frame.base_offset + delta
        if offset > expected:
            yield expected, offset
        expected = offset + 1
    if expected < frame.next_offset:
        yield expected, frame.next_offset


def _schedule(
    columns: pb.Records, frame: Frame
) -> Iterator[tuple[int, int, int | None, int | None]]:
    """Delay and expiry as times; neighbours that share both are one range."""
    appended_ms = frame.append_time_ns // 1_000_000
    count = frame.record_count
    delays = columns.deliver_after_ms or [0] * count
    lives = columns.expires_after_ms or [0] * count
    first = following = frame.base_offset
    current = (0, 0)
    for delta, *pair in zip(deltas_of(columns), delays, lives, strict=True):
        offset = frame.base_offset + delta
        if (pair[0], pair[1]) != current or offset != following:
            yield from _run(first, following, current, appended_ms)
            first, current = offset, (pair[0], pair[1])
        following = offset + 1
    yield from _run(first, following, current, appended_ms)


def _run(
    first: int, following: int, pair: tuple[int, int], appended_ms: int
) -> Iterator[tuple[int, int, int | None, int | None]]:
    delay_ms, life_ms = pair
    if first < following and (delay_ms or life_ms):
        not_before_ms = appended_ms + delay_ms if delay_ms else None
        expires_at_ms = appended_ms + life_ms if life_ms else None
        yield first, following, not_before_ms, expires_at_ms


class Record(NamedTuple):
    """One message, whole."""

    content: bytes
    key: bytes
    headers: tuple[tuple[str, bytes], ...]


def find_record(data: bytes, offset: int) -> Record | None:
    """The message at an offset, in frames; None if it is not there, or not any more."""
    for frame in walk_trusted(data):
        if frame.base_offset <= offset < frame.next_offset:
            columns = columns_of(data, frame)
            deltas = deltas_of(columns)
            at = bisect_left(deltas, offset - frame.base_offset)
            if at == len(deltas) or deltas[at] != offset - frame.base_offset:
                return None
            headers: tuple[tuple[str, bytes], ...] = ()
            if columns.headers:
                headers = tuple((h.key, h.value) for h in columns.headers[at].entries)
            return Record(columns.contents[at], columns.keys[at] if columns.keys else b"", headers)
    return None


def encode_record(record: Record) -> bytes:
    """A serialized ``Records`` with one message."""
    columns = pb.Records(contents=[record.content])
    if record.key:
        columns.keys.append(record.key)
    if record.headers:
        entries = [pb.Header(key=key, value=value) for key, value in record.headers]
        columns.headers.append(pb.Headers(entries=entries))
    return columns.SerializeToString()


def contents_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and content of every record in frames."""
    for frame in walk_trusted(data):
        columns = columns_of(data, frame)
        for delta, content in zip(deltas_of(columns), columns.contents, strict=True):
            yield frame.base_offset + delta, content
