"""Keyed batches, passes of compaction, and what has to be left after them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from mq.log.format import ATTRIBUTE_KEYS
from mq.log.log import Append, Log
from mq.pb import mq_pb2 as pb


class Keyed(NamedTuple):
    """A record with a key, as a consumer sees it; no content: a tombstone."""

    offset: int
    key: bytes
    content: bytes
    header: bytes
    append_time_ns: int


def keyed_batch(
    records: Iterable[tuple[bytes, bytes]], *, producer_id: int = 0, sequence: int = 0
) -> Append:
    """A batch of these keys and contents, each with a header that is its content."""
    pairs = list(records)
    columns = pb.Records(
        contents=[content for _, content in pairs],
        headers=[pb.Headers(entries=[pb.Header(key="h", value=c)]) for _, c in pairs],
    )
    if any(key for key, _ in pairs):
        columns.keys.extend(key for key, _ in pairs)
    encoded = columns.SerializeToString()
    attributes = ATTRIBUTE_KEYS if columns.keys else 0
    return Append(encoded, len(pairs), crc32c(encoded), producer_id, sequence, attributes)


def put(log: Log, *records: tuple[bytes, bytes]) -> int:
    """Append one batch and make it durable; its base offset."""
    (outcome,) = log.append([keyed_batch(records)])
    assert not isinstance(outcome, Exception)
    log.sync()
    return outcome.base_offset


def random_records(source: random.Random, keys: int) -> list[tuple[bytes, bytes]]:
    """Some records: few keys, some tombstones, some without a key."""
    records = []
    for _ in range(source.randrange(1, 8)):
        key = b"" if source.random() < 0.1 else b"key-%d" % source.randrange(keys)
        gone = key and source.random() < 0.2
        records.append((key, b"" if gone else source.randbytes(source.choice((1, 30, 300)))))
    return records


def parse_keyed(data: bytes) -> Iterator[Keyed]:
    """The records in the frames of a read, as any protobuf parser sees them."""
    for frame in pb.PullResponse.FromString(data).batches:
        columns = pb.Records.FromString(frame.records)
        assert crc32c(frame.records) == frame.records_crc
        count = len(columns.contents)
        assert count == frame.record_count
        deltas = list(columns.offset_deltas) or list(range(count))
        assert count == frame.last_offset_delta + 1 or len(columns.offset_deltas) == count
        keys = list(columns.keys) or [b""] * count
        rows = zip(deltas, keys, columns.contents, columns.headers, strict=True)
        for delta, key, content, headers in rows:
            assert delta <= frame.last_offset_delta
            header = headers.entries[0].value
            yield Keyed(frame.base_offset + delta, key, content, header, frame.append_time_ns)


def read_keyed(log: Log, max_bytes: int = 1 << 20) -> list[Keyed]:
    """Every record of a log, by as many reads as it takes."""
    records: list[Keyed] = []
    offset = log.log_start_offset
    while offset < log.durable_offset:
        result = log.read(offset, max_bytes)
        assert result is not None
        assert result.next_offset > offset
        records += [r for r in parse_keyed(result.join()) if r.offset >= offset]
        offset = result.next_offset
    return records


def compact(log: Log, now_ns: int, tombstone_ns: int) -> int:
    """One whole pass; how many segments were rewritten."""
    since_ns = now_ns - tombstone_ns
    compaction = log.begin_compaction(since_ns)
    compaction.survey()
    swapped = 0
    for segment in compaction.segments:
        rewritten = compaction.rewrite(segment)
        if rewritten is not None:
            swapped += log.swap(segment, rewritten)
    log.note_compaction(compaction, now_ns, since_ns)
    return swapped


def left(records: list[Keyed], sealed_end: int) -> list[Keyed]:
    """What one pass leaves of records if no tombstone may go."""
    latest = {r.key: r.offset for r in records if r.key and r.offset < sealed_end}
    return [r for r in records if not r.key or r.offset >= sealed_end or r.offset == latest[r.key]]
