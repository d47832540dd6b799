"""A segment's header and footer: encoding and checking. Pure."""

from __future__ import annotations

from typing import NamedTuple

from crc32c import crc32c

from mq.log.format import (
    FOOTER_BYTES,
    FOOTER_CRC_END,
    FOOTER_STRUCT,
    FORMAT_VERSION,
    HEADER_BYTES,
    HEADER_CRC_END,
    HEADER_STRUCT,
    ID_BYTES,
    MAGIC,
    PADDING_PREFIX_BYTES,
    TAG_FOOTER,
    TAG_HEADER,
    TAG_PADDING,
    pad_varint,
)

_HEADER_LENGTH = pad_varint(HEADER_BYTES - 6)
_FOOTER_LENGTH = pad_varint(FOOTER_BYTES - 6)


class SegmentHeader(NamedTuple):
    """The first ``HEADER_BYTES`` of a segment file."""

    base_offset: int
    capacity_bytes: int
    created_ns: int
    channel_id: bytes
    segment_id: bytes
    previous_segment_id: bytes
    format_version: int = FORMAT_VERSION


class SegmentFooter(NamedTuple):
    """The last ``FOOTER_BYTES`` of a sealed segment file."""

    base_offset: int
    end_offset: int
    end_position: int
    frame_count: int
    first_append_time_ns: int
    last_append_time_ns: int
    segment_id: bytes


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The bytes of a segment header."""

    def pack(crc: int) -> bytes:
        return HEADER_STRUCT.pack(
            TAG_HEADER,
            _HEADER_LENGTH,
            0x09,
            MAGIC,
            0x15,
            header.format_version,
            0x19,
            header.base_offset,
            0x21,
            header.capacity_bytes,
            0x29,
            header.created_ns,
            0x32,
            ID_BYTES,
            header.channel_id,
            0x3A,
            ID_BYTES,
            header.segment_id,
            0x42,
            ID_BYTES,
            header.previous_segment_id,
            0x4D,
            crc,
            0x7A,
            20,
            bytes(20),
        )

    return pack(crc32c(pack(0)[:HEADER_CRC_END]))


def parse_segment_header(raw: bytes) -> SegmentHeader | None:
    """The header in the first bytes of a file, or None if it is not sound.

    Another format version is for the caller to refuse: that of a newer header
    is believed even where the rest of it means something else.
    """
    if len(raw) < HEADER_BYTES:
        return None
    f = HEADER_STRUCT.unpack_from(raw)
    if f[0] != TAG_HEADER or f[3] != MAGIC or f[22] != crc32c(raw[:HEADER_CRC_END]):
        return None
    header = SegmentHeader(f[7], f[9], f[11], f[14], f[17], f[20], f[5])
    if header.format_version > FORMAT_VERSION:
        return header
    # The reserved bytes are outside the CRC, and have to be as written.
    return header if encode_segment_header(header) == raw[:HEADER_BYTES] else None


def encode_segment_footer(footer: SegmentFooter) -> bytes:
    """The bytes of a segment footer."""

    def pack(crc: int) -> bytes:
        return FOOTER_STRUCT.pack(
            TAG_FOOTER,
            _FOOTER_LENGTH,
            0x09,
            footer.base_offset,
            0x11,
            footer.end_offset,
            0x19,
            footer.end_position,
            0x21,
            footer.frame_count,
            0x29,
            footer.first_append_time_ns,
            0x31,
            footer.last_append_time_ns,
            0x3A,
            ID_BYTES,
            footer.segment_id,
            0x45,
            crc,
            0x7A,
            43,
            bytes(43),
        )

    return pack(crc32c(pack(0)[:FOOTER_CRC_END]))


def parse_segment_footer(raw: bytes) -> SegmentFooter | None:
    """The footer in the last bytes of a file, or None if there is no sound one."""
    if len(raw) != FOOTER_BYTES:
        return None
    f = FOOTER_STRUCT.unpack(raw)
    if f[0] != TAG_FOOTER or f[18] != crc32c(raw[:FOOTER_CRC_END]):
        return None
    footer = SegmentFooter(f[3], f[5], f[7], f[9], f[11], f[13], f[16])
    return footer if encode_segment_footer(footer) == raw else None


def encode_padding_prefix(end_position: int, capacity_bytes: int) -> bytes:
    """The tag and length that turn the zeros behind the last frame into a field."""
    size = capacity_bytes - FOOTER_BYTES - end_position - PADDING_PREFIX_BYTES
    return bytes((TAG_PADDING,)) + pad_varint(size)
