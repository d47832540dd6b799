"""Taking records out of a serialized ``Records``. Pure: bytes in, bytes out.

Entries are cut out and put together again as they are; only packed numbers are
read. What isn't understood to the last byte is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, pairwise
from typing import Final, NamedTuple

_BYTES, _VARINT = 2, 0
# Fields of ``Records``: one entry a record, or none at all.
_CONTENTS, _KEYS, _HEADERS, _DELTAS, _DELIVER_AFTER, _EXPIRES_AFTER = range(1, 7)
_TEXTS: Final = (_CONTENTS, _KEYS, _HEADERS)
_NUMBERS: Final = (_DELTAS, _DELIVER_AFTER, _EXPIRES_AFTER)
_VARINT_BYTES_MAX: Final = 10


class Columns(NamedTuple):
    """The columns of some records.

    ``deltas`` are those of a frame where some records are gone; empty: 0, 1, 2, ...
    """

    contents: list[bytes]
    keys: list[bytes]
    headers: list[bytes]
    deltas: list[int]
    deliver_after_ms: list[int]
    expires_after_ms: list[int]

    @property
    def offset_deltas(self) -> Sequence[int]:
        """Which offsets the records have, relative to the frame's base offset."""
        return self.deltas or range(len(self.contents))

    def only(self, kept: Sequence[bool]) -> Columns:
        """These columns with the records of which ``kept`` says so."""
        contents, keys, headers, _, deliver, expires = (
            list(compress(column, kept)) for column in self
        )
        deltas = list(compress(self.offset_deltas, kept))
        return Columns(contents, keys, headers, deltas, deliver, expires)  # type: ignore[arg-type]

    def encode(self) -> bytes:
        """A serialized ``Records``, as any protobuf library writes it."""
        pieces: list[bytes] = []
        for field in _TEXTS:
            tag = bytes((field << 3 | _BYTES,))
            for entry in self[field - 1]:
                pieces += (tag, _varint(len(entry)), entry)  # type: ignore[arg-type]
        for field in _NUMBERS:
            packed = b"".join(map(_varint, self[field - 1]))  # type: ignore[arg-type]
            if packed:
                pieces += (bytes((field << 3 | _BYTES,)), _varint(len(packed)), packed)
        return b"".join(pieces)


def parse_columns(records: bytes, record_count: int, last_offset_delta: int) -> Columns | None:
    """The columns of a frame's records, or None where they are not understood.

    Args:
        records: A serialized ``Records``.
        record_count: How many the frame's header says there are.
        last_offset_delta: That of the frame; no record's is larger.
    """
    try:
        columns = _parse(records)
    except (IndexError, ValueError):
        return None
    if len(columns.contents) != record_count:
        return None
    if any(len(column) not in (0, record_count) for column in columns):
        return None
    deltas = columns.deltas
    if not deltas:
        return columns if record_count == last_offset_delta + 1 else None
    ascending = all(a < b for a, b in pairwise(deltas))
    return columns if ascending and deltas[-1] <= last_offset_delta else None


def _parse(records: bytes) -> Columns:
    columns = Columns([], [], [], [], [], [])
    position = 0
    while position < len(records):
        tag, position = _read_varint(records, position)
        field, kind = tag >> 3, tag & 7
        if field in _NUMBERS and kind == _VARINT:
            value, position = _read_varint(records, position)
            columns[field - 1].append(value)  # type: ignore[arg-type]
            continue
        if kind != _BYTES or not _CONTENTS <= field <= _EXPIRES_AFTER:
            raise ValueError(f"unknown field {field}")
        size, position = _read_varint(records, position)
        end = position + size
        if end > len(records):
            raise ValueError("an entry is longer than the rest")
        if field in _TEXTS:
            columns[field - 1].append(records[position:end])  # type: ignore[arg-type]
        else:
            while position < end:
                value, position = _read_varint(records, position)
                columns[field - 1].append(value)  # type: ignore[arg-type]
            if position != end:
                raise ValueError("a number is longer than its column")
        position = end
    return columns


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for shift in range(7, 7 * _VARINT_BYTES_MAX, 7):
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
    raise ValueError("a number has no end")


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
