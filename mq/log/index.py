"""The sparse index of one segment: numpy arrays, binary search, a checked file.

An entry is a frame's base offset, position and append time; there is one for
the first frame and for each frame that begins ``INDEX_INTERVAL_BYTES`` or more
past the last one with an entry. The file is a hint: it can be rebuilt from the
segment, and is ignored where its CRC or its segment id doesn't match.

One thread adds, others search: entries are filled in before the count that
makes them visible, and growing swaps the whole array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from mq.log.format import (
    FORMAT_VERSION,
    INDEX_CRC_FROM,
    INDEX_INTERVAL_BYTES,
    INDEX_MAGIC,
    INDEX_STRUCT,
)
from mq.log.runs import Run

_OFFSETS, _POSITIONS, _TIMES = range(3)
_GROWTH_MIN = 16


class SparseIndex:
    """Base offsets, positions and append times of some frames, in ascending order."""

    __slots__ = ("_columns", "count", "verified")

    def __init__(self, columns: npt.NDArray[np.uint64] | None = None) -> None:
        if columns is None:
            columns = np.zeros((3, _GROWTH_MIN), np.uint64)
            self.count = 0
        else:
            self.count = columns.shape[1]
        self._columns = columns
        # One byte an entry: 1 once every frame from it to the next entry has
        # been checked, or was written, by this process.
        self.verified = bytearray(self.count)

    def add(self, base_offset: int, position: int, append_time_ns: int) -> None:
        """Add an entry for a checked frame if it lies far enough past the last one."""
        count = self.count
        columns = self._columns
        if count and position - int(columns[_POSITIONS, count - 1]) < INDEX_INTERVAL_BYTES:
            return
        if count == columns.shape[1]:
            more = np.zeros((3, max(count, _GROWTH_MIN)), np.uint64)
            columns = np.concatenate((columns, more), axis=1)
            self._columns = columns
        columns[:, count] = base_offset, position, append_time_ns
        self.verified.append(1)
        self.count = count + 1

    def add_run(self, run: Run) -> None:
        """The same of all frames of a run."""
        positions, headers = run.positions, run.headers
        at = 0
        while at < len(positions):
            wanted = self.position(self.count - 1) + INDEX_INTERVAL_BYTES if self.count else 0
            at += int(np.searchsorted(positions[at:], wanted))
            if at < len(positions):
                header = headers[at]
                self.add(
                    int(header["base_offset"]), int(positions[at]), int(header["append_time_ns"])
                )

    def position(self, entry: int) -> int:
        """The byte position of an entry's frame."""
        return int(self._columns[_POSITIONS, entry])

    def base_offset(self, entry: int) -> int:
        """The base offset of an entry's frame."""
        return int(self._columns[_OFFSETS, entry])

    def append_time_ns(self, entry: int) -> int:
        """The append time of an entry's frame."""
        return int(self._columns[_TIMES, entry])

    def entries(self) -> list[tuple[int, int, int]]:
        """Base offset, position and append time of each."""
        offsets, positions, times = self._columns[:, : self.count].tolist()
        return list(zip(offsets, positions, times, strict=True))

    def floor_offset(self, offset: int) -> int:
        """The last entry whose base offset is at most ``offset``; -1 if none is."""
        return self._floor(_OFFSETS, offset, "right")

    def floor_position(self, position: int) -> int:
        """The last entry whose position is at most ``position``; -1 if none is."""
        return self._floor(_POSITIONS, position, "right")

    def before_time(self, append_time_ns: int) -> int:
        """The last entry appended before the time; -1 if none was."""
        return self._floor(_TIMES, append_time_ns, "left")

    def _floor(self, column: int, value: int, side: Any) -> int:
        # A plain int would be compared as float64, which can't tell times apart.
        row = self._columns[column, : self.count]
        return int(row.searchsorted(np.uint64(value), side)) - 1

    def truncated(self, position: int) -> SparseIndex:
        """A copy with only the entries before ``position``, nothing in it verified."""
        keep = self.floor_position(position - 1) + 1
        return SparseIndex(self._columns[:, :keep].copy())

    def encode(self, segment_id: bytes) -> bytes:
        """The index file's content."""
        body = self._columns[:, : self.count].astype("<u8").tobytes()
        head = INDEX_STRUCT.pack(INDEX_MAGIC, FORMAT_VERSION, 0, segment_id, self.count)
        crc = crc32c(body, crc32c(head[INDEX_CRC_FROM:]))
        return INDEX_STRUCT.pack(INDEX_MAGIC, FORMAT_VERSION, crc, segment_id, self.count) + body

    @classmethod
    def decode(cls, raw: bytes, segment_id: bytes) -> SparseIndex | None:
        """The index in a file's content, or None if it is not this segment's or not sound."""
        if len(raw) < INDEX_STRUCT.size:
            return None
        magic, version, crc, owner, count = INDEX_STRUCT.unpack_from(raw)
        if (magic, version, owner) != (INDEX_MAGIC, FORMAT_VERSION, segment_id):
            return None
        if len(raw) != INDEX_STRUCT.size + 24 * count or crc32c(raw[INDEX_CRC_FROM:]) != crc:
            return None
        flat = np.frombuffer(raw, "<u8", offset=INDEX_STRUCT.size)
        return cls(flat.reshape(3, count).astype(np.uint64))
