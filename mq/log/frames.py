"""Making, checking and walking frames. Pure: buffers in, values out.

A *frame* is a ``RecordBatch`` as it lies in a segment: its prefix (tag and
length), its fixed-size header, and the records. Positions are byte positions
within ``buffer``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from mq.log.format import (
    ATTRIBUTE_LOST,
    FRAME_BASE_OFFSET_AT,
    FRAME_CRC_END,
    FRAME_DELTA_AT,
    FRAME_HEADER_BYTES,
    FRAME_LENGTH_AT,
    FRAME_PATTERN,
    FRAME_PREFIX_BYTES,
    FRAME_STRUCT,
    FRAME_TIME_AT,
    TAG_APPEND_TIME,
    TAG_ATTRIBUTES,
    TAG_BASE_OFFSET,
    TAG_DURABLE_THROUGH,
    TAG_FRAME,
    TAG_HEADER_CRC,
    TAG_LAST_OFFSET_DELTA,
    TAG_PRODUCER_ID,
    TAG_RECORD_COUNT,
    TAG_RECORDS,
    TAG_RECORDS_CRC,
    TAG_SEQUENCE,
    pad_varint,
    read_varint,
)

Buffer = bytes | bytearray | memoryview

_ZEROS = bytes(1 << 16)

# What header_crc covers, and what follows.
_CHECKED_STRUCT = struct.Struct("<B5sBQBIBIBQBIBQBQBQBI")
_REST_STRUCT = struct.Struct("<BIB5s")
assert _CHECKED_STRUCT.size == FRAME_CRC_END

_BASE_OFFSET = struct.Struct("<Q")
_BASE_OFFSET_AND_DELTA = struct.Struct("<QxI")
_APPEND_TIME = struct.Struct("<Q")
_DELTA_AND_COUNT = struct.Struct("<IxI")


class Frame(NamedTuple):
    """A frame whose header has been checked."""

    position: int
    size: int
    base_offset: int
    last_offset_delta: int
    record_count: int
    append_time_ns: int
    attributes: int
    producer_id: int
    sequence: int
    durable_through: int
    records_crc: int

    @property
    def end(self) -> int:
        """The position just after the frame."""
        return self.position + self.size

    @property
    def next_offset(self) -> int:
        """The offset after the frame's last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def marks_lost(self) -> bool:
        """Whether it stands for records that are gone; see `lost`."""
        return bool(self.attributes & ATTRIBUTE_LOST)


def segment_seed(segment_id: bytes) -> int:
    """The value that seeds the header CRCs of a segment's frames."""
    return crc32c(segment_id)


def encode_header(
    seed: int,
    records_size: int,
    base_offset: int,
    record_count: int,
    append_time_ns: int,
    records_crc: int,
    *,
    attributes: int = 0,
    producer_id: int = 0,
    sequence: int = 0,
    durable_through: int = 0,
    last_offset_delta: int | None = None,
) -> bytes:
    """The ``FRAME_HEADER_BYTES`` bytes that stand before ``records_size`` bytes of records."""
    checked = _CHECKED_STRUCT.pack(
        TAG_FRAME,
        pad_varint(FRAME_HEADER_BYTES - FRAME_PREFIX_BYTES + records_size),
        TAG_BASE_OFFSET,
        base_offset,
        TAG_LAST_OFFSET_DELTA,
        record_count - 1 if last_offset_delta is None else last_offset_delta,
        TAG_RECORD_COUNT,
        record_count,
        TAG_APPEND_TIME,
        append_time_ns,
        TAG_ATTRIBUTES,
        attributes,
        TAG_PRODUCER_ID,
        producer_id,
        TAG_SEQUENCE,
        sequence,
        TAG_DURABLE_THROUGH,
        durable_through,
        TAG_RECORDS_CRC,
        records_crc,
    )
    crc = crc32c(checked, seed)
    return checked + _REST_STRUCT.pack(TAG_HEADER_CRC, crc, TAG_RECORDS, pad_varint(records_size))


# Of a frame's header: its constant bytes, and where each is.
FRAME_TAGS: Final = (
    TAG_FRAME,
    TAG_BASE_OFFSET,
    TAG_LAST_OFFSET_DELTA,
    TAG_RECORD_COUNT,
    TAG_APPEND_TIME,
    TAG_ATTRIBUTES,
    TAG_PRODUCER_ID,
    TAG_SEQUENCE,
    TAG_DURABLE_THROUGH,
    TAG_RECORDS_CRC,
    TAG_HEADER_CRC,
    TAG_RECORDS,
)
FRAME_TAGS_AT: Final = (0, 6, 15, 20, 25, 34, 39, 48, 57, 66, 71, 76)


def parse_header(buffer: Buffer, position: int, limit: int, seed: int) -> Frame | None:
    """The frame at ``position`` if its header is sound and it ends by ``limit``.

    Nothing in the header is believed before its CRC matches; the records are
    not looked at, and need not be in the buffer.
    """
    if min(limit, len(buffer)) - position < FRAME_HEADER_BYTES:
        return None
    fields = FRAME_STRUCT.unpack_from(buffer, position)
    if fields[0] != TAG_FRAME:
        return None
    view = memoryview(buffer)[position : position + FRAME_CRC_END]
    if crc32c(view, seed) != fields[21]:
        return None
    (t0, length, t1, base, t2, delta, t3, count, t4, time_ns, t5, attributes) = fields[:12]
    (t6, producer, t7, sequence, t8, durable, t9, crc, t10, _, t11, records_length) = fields[12:]
    if (t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11) != FRAME_TAGS:
        return None
    size = read_varint(length) + FRAME_PREFIX_BYTES
    if read_varint(records_length) != size - FRAME_HEADER_BYTES:
        return None
    if not FRAME_HEADER_BYTES <= size <= limit - position:
        return None
    return Frame(
        position, size, base, delta, count, time_ns, attributes, producer, sequence, durable, crc
    )


def records_sound(buffer: Buffer, frame: Frame) -> bool:
    """Whether the frame's records have the CRC that its header gives.

    What lies beyond the buffer is taken for zeros.
    """
    crc = crc32c(memoryview(buffer)[frame.position + FRAME_HEADER_BYTES : frame.end])
    missing = frame.end - len(buffer)
    while missing > 0:
        crc = crc32c(memoryview(_ZEROS)[:missing], crc)
        missing -= len(_ZEROS)
    return crc == frame.records_crc


def parse_frame(buffer: Buffer, position: int, limit: int, seed: int) -> Frame | None:
    """Like ``parse_header``, and the records are sound too."""
    frame = parse_header(buffer, position, limit, seed)
    if frame is None or not records_sound(buffer, frame):
        return None
    return frame


def frame_size(buffer: Buffer, position: int) -> int:
    """The size of a frame already known to be sound: its prefix is believed."""
    at = position + FRAME_LENGTH_AT
    return FRAME_PREFIX_BYTES + read_varint(memoryview(buffer)[at : at + 5])


def frame_base_offset(buffer: Buffer, position: int) -> int:
    """The base offset of a frame already known to be sound."""
    base: int = _BASE_OFFSET.unpack_from(buffer, position + FRAME_BASE_OFFSET_AT)[0]
    return base


def frame_next_offset(buffer: Buffer, position: int) -> int:
    """The offset after the last record of a frame already known to be sound."""
    base: int
    delta: int
    base, delta = _BASE_OFFSET_AND_DELTA.unpack_from(buffer, position + FRAME_BASE_OFFSET_AT)
    return base + delta + 1


def frame_time(buffer: Buffer, position: int) -> int:
    """The append time of a frame already known to be sound."""
    time_ns: int = _APPEND_TIME.unpack_from(buffer, position + FRAME_TIME_AT)[0]
    return time_ns


def walk_trusted(buffer: Buffer) -> Iterator[Frame]:
    """The frames of a buffer that holds nothing else, all known to be sound."""
    position, end = 0, len(buffer)
    while position < end:
        fields = FRAME_STRUCT.unpack_from(buffer, position)
        size = FRAME_PREFIX_BYTES + read_varint(fields[1])
        yield Frame(position, size, *fields[3:21:2])
        position += size


def sparse_frames(buffer: Buffer) -> Iterator[Frame]:
    """Of the frames of such a buffer, the ones that lack records of their offsets.

    A fraction of the work where there are none, as a rule.
    """
    view = memoryview(buffer)
    position, end = 0, len(buffer)
    while position < end:
        delta, count = _DELTA_AND_COUNT.unpack_from(buffer, position + FRAME_DELTA_AT)
        size = frame_size(view, position)
        if count <= delta:
            (frame,) = walk_trusted(view[position : position + size])
            yield frame._replace(position=position)
        position += size


def candidates(buffer: Buffer, position: int, limit: int, seed: int) -> Iterator[Frame]:
    """Everything from ``position`` on that has a sound header of this segment.

    Such bytes can also lie inside the records of another frame: whether one is
    the next frame is for the caller to judge.
    """
    view = memoryview(buffer)[:limit]
    for match in FRAME_PATTERN.finditer(view, position):
        frame = parse_header(buffer, match.start(), limit, seed)
        if frame is not None:
            yield frame
