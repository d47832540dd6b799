"""Byte layouts shared by writer, reader, recovery and verifier.

``docs/log_format.md`` is the prose. All integers are little-endian. A segment
file is protobuf wire format throughout (``SegmentFile`` in ``proto/mq.proto``):
the constant bytes below are field tags, and lengths are varints padded to five
bytes so that every position is constant.
"""

from __future__ import annotations

import re
import struct
from typing import Final

import numpy as np

FORMAT_VERSION: Final = 1
MAGIC: Final = int.from_bytes(b"MQSEGMNT", "little")

SEGMENT_SUFFIX: Final = ".seg"
INDEX_SUFFIX: Final = ".idx"
TORN_SUFFIX: Final = ".torn"
SCRATCH_SUFFIX: Final = ".tmp"
CHECKPOINT_NAME: Final = "checkpoint"
OFFSET_DIGITS: Final = 20

ID_BYTES: Final = 16
NO_ID: Final = bytes(ID_BYTES)

# ---- Frames ---------------------------------------------------------------

# tag, length | 10 fixed-width fields, each behind its tag | tag, length of records
FRAME_STRUCT: Final = struct.Struct("<B5s BQ BI BI BQ BI BQ BQ BQ BI BI B5s".replace(" ", ""))
FRAME_HEADER_BYTES: Final = FRAME_STRUCT.size
FRAME_PREFIX_BYTES: Final = 6
# What header_crc covers: all before its own tag.
FRAME_CRC_END: Final = 71
# Of a frame of n bytes, n - FRAME_PREFIX_BYTES is the length in its prefix.
assert FRAME_HEADER_BYTES == 82

TAG_FRAME: Final = 0x0A
TAG_BASE_OFFSET: Final = 0x09
TAG_LAST_OFFSET_DELTA: Final = 0x15
TAG_RECORD_COUNT: Final = 0x1D
TAG_APPEND_TIME: Final = 0x21
TAG_ATTRIBUTES: Final = 0x2D
TAG_PRODUCER_ID: Final = 0x31
TAG_SEQUENCE: Final = 0x39
TAG_DURABLE_THROUGH: Final = 0x41
TAG_RECORDS_CRC: Final = 0x4D
TAG_HEADER_CRC: Final = 0x55
TAG_RECORDS: Final = 0x7A

# Attributes of a frame: the codec of its records, and whether they have keys.
CODEC_MASK: Final = 0b111
ATTRIBUTE_KEYS: Final = 1 << 4
# Attribute of a frame without records, over offsets that are gone for good.
ATTRIBUTE_LOST: Final = 1 << 5

# Where a walk finds what it needs without unpacking the whole header.
FRAME_LENGTH_AT: Final = 1
FRAME_BASE_OFFSET_AT: Final = 7
FRAME_DELTA_AT: Final = 16
FRAME_TIME_AT: Final = 26

FRAME_DTYPE: Final = np.dtype(
    {
        "names": [
            "base_offset",
            "last_offset_delta",
            "record_count",
            "append_time_ns",
            "attributes",
            "producer_id",
            "sequence",
            "durable_through",
            "records_crc",
            "header_crc",
        ],
        "formats": ["<u8", "<u4", "<u4", "<u8", "<u4", "<u8", "<u8", "<u8", "<u4", "<u4"],
        "offsets": [7, 16, 21, 26, 35, 40, 49, 58, 67, 72],
        "itemsize": FRAME_HEADER_BYTES,
    }
)

# A candidate for a frame's beginning: all its constant bytes. Used to find the
# next frame after damage; the seeded header CRC then decides.
FRAME_PATTERN: Final = re.compile(
    rb"\x0a(?=.{5}\x09.{8}\x15.{4}\x1d.{4}\x21.{8}\x2d.{4}"
    rb"\x31.{8}\x39.{8}\x41.{8}\x4d.{4}\x55.{4}\x7a)",
    re.DOTALL,
)

# The largest value of a length field that the format takes; protobuf's own
# limit is one byte less than 2 GiB.
LENGTH_MAX: Final = (1 << 31) - 1

# ---- Segment header and footer --------------------------------------------

# tag, length | magic, version, base_offset, capacity, created | channel id,
# segment id, previous id (tag, length byte, 16 bytes) | crc | reserved
HEADER_STRUCT: Final = struct.Struct("<B5sBQBIBQBQBQBB16sBB16sBB16sBIBB20s")
HEADER_BYTES: Final = HEADER_STRUCT.size
HEADER_CRC_END: Final = 101
assert HEADER_BYTES == 128
TAG_HEADER: Final = 0x72

# tag, length | base_offset, end_offset, end_position, frame_count, first and
# last append time | segment id | crc | reserved
FOOTER_STRUCT: Final = struct.Struct("<B5sBQBQBQBQBQBQBB16sBIBB43s")
FOOTER_BYTES: Final = FOOTER_STRUCT.size
FOOTER_CRC_END: Final = 78
assert FOOTER_BYTES == 128
TAG_FOOTER: Final = 0x7A

TAG_PADDING: Final = 0x6A
PADDING_PREFIX_BYTES: Final = 6
# Kept free at the end of every segment for the padding's prefix and the footer.
SEAL_BYTES: Final = PADDING_PREFIX_BYTES + FOOTER_BYTES
# What a segment takes besides its frames.
OVERHEAD_BYTES: Final = HEADER_BYTES + SEAL_BYTES

# ---- Index ----------------------------------------------------------------

INDEX_MAGIC: Final = int.from_bytes(b"MQSEGIDX", "little")
# magic, version, crc of what follows the crc, segment id, entry count
INDEX_STRUCT: Final = struct.Struct("<QII16sQ")
INDEX_CRC_FROM: Final = 16
# A frame gets an entry when it begins at least this far past the last entry's.
INDEX_INTERVAL_BYTES: Final = 4096

# ---- Sizes ----------------------------------------------------------------

SEGMENT_BYTES_MIN: Final = 1 << 16
SEGMENT_BYTES_MAX: Final = 1 << 30
SEGMENT_BYTES_DEFAULT: Final = 1 << 26
# A channel's first segment is small and each next one four times the last, up
# to segment_bytes: ten thousand quiet channels must not take ten thousand
# full-sized files.
SEGMENT_BYTES_FIRST: Final = 1 << 16
SEGMENT_GROWTH: Final = 4


def pad_varint(value: int) -> bytes:
    """The five-byte varint of ``value``, ``0 <= value <= LENGTH_MAX``."""
    return bytes(
        (
            value & 0x7F | 0x80,
            value >> 7 & 0x7F | 0x80,
            value >> 14 & 0x7F | 0x80,
            value >> 21 & 0x7F | 0x80,
            value >> 28,
        )
    )


def read_varint(raw: bytes | memoryview) -> int:
    """The value of a padded five-byte varint, or -1 if it is not one."""
    b0, b1, b2, b3, b4 = raw
    if not (b0 & b1 & b2 & b3 & 0x80) or b4 > 0x07:
        return -1
    return b0 & 0x7F | (b1 & 0x7F) << 7 | (b2 & 0x7F) << 14 | (b3 & 0x7F) << 21 | b4 << 28


def segment_name(base_offset: int) -> str:
    """The file name of the segment that begins at ``base_offset``."""
    return f"{base_offset:0{OFFSET_DIGITS}d}{SEGMENT_SUFFIX}"


def index_name(base_offset: int) -> str:
    """The file name of that segment's index."""
    return f"{base_offset:0{OFFSET_DIGITS}d}{INDEX_SUFFIX}"


def parse_segment_name(name: str) -> int | None:
    """The base offset that a segment's file name gives, or None for another file."""
    stem, dot, suffix = name.partition(".")
    if dot + suffix != SEGMENT_SUFFIX or len(stem) != OFFSET_DIGITS:
        return None
    return int(stem) if stem.isascii() and stem.isdecimal() else None
