"""The `Records` wire format: columns to bytes, bytes to columns, and numpy views.

A producer's batch is joined from its messages and a table of ready-made
prefixes, not built as a protobuf message: half the time, and no copy of each
message. The consumer's side leaves the parsing to protobuf's C decoder and only
computes where each message lies.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from mq.pb import mq_pb2 as pb

CONTENTS_TAG = 1 << 3 | 2
KEYS_TAG = 2 << 3 | 2
HEADERS_TAG = 3 << 3 | 2

# Room that one record needs beside its content, key and headers: three tags
# and three lengths, one of them up to five bytes long.
RECORD_OVERHEAD_BYTES = 10

_PREFIX_TABLE_LENGTH = 4096
_VARINT_BYTES_MAX = 10
_I64 = np.int64

Located = tuple[NDArray[np.int64], NDArray[np.int64]]


def varint(value: int) -> bytes:
    """Encode a non-negative integer as a protobuf varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_records(
    contents: Sequence[bytes], keys: Sequence[bytes] = (), headers: Sequence[bytes] = ()
) -> bytes:
    """Serialize a `Records` message.

    Args:
        contents: One entry a record.
        keys: Empty, or one entry a record.
        headers: Empty, or one serialized `Headers` a record.

    Returns:
        The same bytes that protobuf's own serializer writes.
    """
    pieces = _column(CONTENTS_TAG, contents)
    if keys:
        pieces += _column(KEYS_TAG, keys)
    if headers:
        pieces += _column(HEADERS_TAG, headers)
    return b"".join(pieces)


def _column(tag: int, items: Sequence[bytes]) -> list[bytes]:
    pieces = [b""] * (2 * len(items))
    pieces[1::2] = items
    try:
        pieces[::2] = map(_prefixes(tag).__getitem__, map(len, items))
    except IndexError:
        start = bytes((tag,))
        pieces[::2] = [start + varint(len(item)) for item in items]
    return pieces


@functools.cache
def _prefixes(tag: int) -> tuple[bytes, ...]:
    start = bytes((tag,))
    return tuple(start + varint(length) for length in range(_PREFIX_TABLE_LENGTH))


def decode_contents(records: bytes, record_count: int) -> list[bytes]:
    """All contents of a serialized `Records`, in order.

    Raises:
        ValueError: The bytes are not a `Records` of that many contents.
    """
    if record_count == 1:
        # Nothing but one content of a usual length: saves the parser's objects.
        size = len(records) - 2
        size -= size >= 0x80
        if 0 <= size < _PREFIX_TABLE_LENGTH:
            prefix = _prefixes(CONTENTS_TAG)[size]
            if records.startswith(prefix):
                return [records[len(prefix) :]]
    contents = parse_records(records).contents[:]
    if len(contents) != record_count:
        raise ValueError(f"holds {len(contents)} records where {record_count} were announced")
    return contents


def parse_records(records: bytes) -> pb.Records:
    """Parse a serialized `Records`.

    Raises:
        ValueError: The bytes are none.
    """
    try:
        return pb.Records.FromString(records)
    except DecodeError as error:
        raise ValueError(f"no Records: {error}") from None


def locate_contents(records: bytes, record_count: int) -> Located:
    """Where each content lies within a serialized `Records`.

    Args:
        records: The serialized message.
        record_count: How many contents it holds.

    Returns:
        Two int64 arrays of that length: the first byte of each content, and
        its length in bytes.

    Raises:
        ValueError: The bytes are not a `Records` of that many contents.
    """
    if record_count == 0:
        return np.empty(0, _I64), np.empty(0, _I64)
    return (
        _locate_uniform(records, record_count)
        or _locate_canonical(records, record_count)
        or _locate_any(records, record_count)
    )


def _locate_uniform(records: bytes, record_count: int) -> Located | None:
    """Contents of one length each, found by their stride."""
    length, start = _read_varint(records, 1)
    stride = start + length
    if records[0] != CONTENTS_TAG or stride * record_count > len(records):
        return None
    rows = np.frombuffer(records, np.uint8, stride * record_count).reshape(record_count, stride)
    if not (rows[:, :start] == rows[0, :start]).all():
        return None
    starts = np.arange(record_count, dtype=_I64) * stride + start
    return starts, np.full(record_count, length, _I64)


def _locate_canonical(records: bytes, record_count: int) -> Located | None:
    """Contents that come first and with the shortest lengths, as serializers write them.

    The lengths, from the parser, imply all positions. They are right if at each
    of them stands the tag and length expected: if one record's start is, so is
    the next one's.
    """
    contents = decode_contents(records, record_count)
    lengths = np.fromiter(map(len, contents), _I64, record_count)
    length_bytes = np.ones(record_count, _I64)
    for bits in (7, 14, 21, 28):
        length_bytes += lengths >= 1 << bits
    starts = np.cumsum(1 + length_bytes + lengths) - lengths
    if starts[-1] + lengths[-1] > len(records):
        return None
    buffer = np.frombuffer(records, np.uint8)
    first = starts - length_bytes
    if not (buffer[first - 1] == CONTENTS_TAG).all():
        return None
    for index in range(int(length_bytes.max())):
        (has,) = np.nonzero(length_bytes > index)
        wanted = (lengths[has] >> 7 * index) & 0x7F
        wanted |= np.where(length_bytes[has] > index + 1, 0x80, 0)
        if not (buffer[first[has] + index] == wanted).all():
            return None
    return starts, lengths


def _locate_any(records: bytes, record_count: int) -> Located:
    """Any encoding that a protobuf parser accepts, field by field."""
    starts: list[int] = []
    lengths: list[int] = []
    position = 0
    while position < len(records):
        tag, position = _read_varint(records, position)
        kind = tag & 7
        if kind == 2:
            size, position = _read_varint(records, position)
            if tag == CONTENTS_TAG:
                starts.append(position)
                lengths.append(size)
        elif kind == 0:
            size = _read_varint(records, position)[1] - position
        else:
            size = {1: 8, 5: 4}.get(kind, len(records) + 1)
        position += size
    if position != len(records) or len(starts) != record_count:
        raise ValueError(f"not the Records of {record_count} records")
    return np.array(starts, _I64), np.array(lengths, _I64)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"no varint at byte {position}")
