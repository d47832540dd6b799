"""A walk covers all bytes, step after step, and calls nothing sound but what both CRCs vouch for.

And what it calls sound keeps to the offsets and times before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from crc32c import crc32c

from mq.log.format import (
    FRAME_CRC_END,
    FRAME_HEADER_BYTES,
    FRAME_PATTERN,
    FRAME_STRUCT,
    LENGTH_MAX,
    read_varint,
)
from mq.log.frames import encode_header, parse_frame, segment_seed
from mq.log.walk import OFFSET_MAX, Bound, walk
from tests.fuzz.harness import Choices, Harness
from tests.log.batches import encode_records, numbered

_SEED = segment_seed(bytes(range(16)))
_FIX_HEADERS, _FIX_RECORDS, _BOUNDED = 1, 2, 4


def run(data: bytes) -> None:
    """Walk over bytes, the CRCs in them put right or not."""
    choices = Choices(data)
    flags = choices.below(8)
    limit = choices.below(64)
    buffer = choices.rest()
    if flags & _FIX_RECORDS:
        buffer = fixed(buffer, _fix_records)
    if flags & _FIX_HEADERS:
        buffer = fixed(buffer, _fix_header)
    end = Bound(limit if flags & _BOUNDED else OFFSET_MAX, len(buffer))
    check(buffer, Bound(0, 0), end)


def check(buffer: bytes, start: Bound, end: Bound) -> None:
    """All that has to hold of a walk from ``start`` to ``end``."""
    at, time_ns = start, 0
    for step in walk(buffer, start, end, _SEED):
        frame, damage = step
        if frame is not None:
            assert frame.position == at.position
            assert frame.base_offset == at.offset
            assert frame.append_time_ns >= time_ns
            assert frame.size >= FRAME_HEADER_BYTES
            records = buffer[frame.position + FRAME_HEADER_BYTES : frame.end]
            sound = crc32c(records) == frame.records_crc
            assert sound == (damage is None or damage.marked)
            if damage is None:
                assert parse_frame(buffer, frame.position, end.position, _SEED) == frame
            time_ns = frame.append_time_ns
        if damage is not None:
            assert damage.position == at.position
            assert damage.first_offset == at.offset
            assert damage.next_offset >= damage.first_offset
        after = step.after()
        assert at.position < after.position <= end.position
        assert at.offset <= after.offset <= end.offset
        at = after
    assert at.position == end.position


def fixed(buffer: bytes, fix: object) -> bytes:
    """The buffer with something put right in everything that looks like a frame."""
    changed = bytearray(buffer)
    for match in re.finditer(FRAME_PATTERN, buffer):
        if match.start() + FRAME_HEADER_BYTES <= len(buffer):
            assert callable(fix)
            fix(changed, match.start())
    return bytes(changed)


def _fix_header(buffer: bytearray, position: int) -> None:
    crc = crc32c(bytes(buffer[position : position + FRAME_CRC_END]), _SEED)
    at = position + FRAME_CRC_END + 1
    buffer[at : at + 4] = crc.to_bytes(4, "little")


def _fix_records(buffer: bytearray, position: int) -> None:
    size = read_varint(FRAME_STRUCT.unpack_from(buffer, position)[23])
    if 0 <= size <= LENGTH_MAX:
        begin = position + FRAME_HEADER_BYTES
        crc = crc32c(bytes(buffer[begin : begin + size]))
        buffer[position + 67 : position + 71] = crc.to_bytes(4, "little")


def frames(counts: Sequence[int], size: int) -> bytes:
    """Sound frames one behind another."""
    parts, offset = [], 0
    for count in counts:
        records = encode_records(numbered(offset, count, size))
        crc = crc32c(records)
        parts += [encode_header(_SEED, len(records), offset, count, 1000 + offset, crc), records]
        offset += count
    return b"".join(parts)


def seeds() -> list[bytes]:
    """Some frames, with and without zeros behind them, under each of the flags."""
    bodies = (frames((1,), 5), frames((3, 1, 2), 40), frames((2, 2), 300) + bytes(200))
    return [bytes((flags, 10)) + body for flags in range(8) for body in bodies]


HARNESS = Harness("frames", run, seeds)
