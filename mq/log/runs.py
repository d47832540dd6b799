"""Runs of sound frames, checked all at once rather than step by step.

Where frames are small, the steps of a walk cost far more than their checksums. A run
is what most of a file is: frames that follow each other, with nothing to tell of any.
Where one ends, for whatever reason, `walk` says why. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from mq.log.format import (
    ATTRIBUTE_LOST,
    FRAME_CRC_END,
    FRAME_DTYPE,
    FRAME_HEADER_BYTES,
    FRAME_PREFIX_BYTES,
    TAG_FRAME,
    read_varint,
)
from mq.log.frames import FRAME_TAGS, FRAME_TAGS_AT, Frame
from mq.log.walk import Bound, Step

# With larger offsets, sums might not fit: those are for the walk.
_OFFSET_MAX: Final = 1 << 62
_RECORDS_LENGTH_AT: Final = FRAME_HEADER_BYTES - 5
_TAGS_AT: Final = np.array(FRAME_TAGS_AT)
_TAGS: Final = np.array(FRAME_TAGS, np.uint8)

_Offsets = npt.NDArray[np.int64]


class Run(NamedTuple):
    """At least one frame; columns with an entry for each."""

    positions: _Offsets
    # Where each ends, and the offset that follows it.
    ends: _Offsets
    next_offsets: _Offsets
    # Of `FRAME_DTYPE`.
    headers: npt.NDArray[np.void]

    def moved(self, distance: int) -> Run:
        """The same with all positions ``distance`` further on."""
        return self._replace(positions=self.positions + distance, ends=self.ends + distance)

    def after(self) -> Bound:
        """Where the frame after the last one begins."""
        return Bound(int(self.next_offsets[-1]), int(self.ends[-1]))

    @property
    def last_append_time_ns(self) -> int:
        """The append time of the last frame."""
        return int(self.headers["append_time_ns"][-1])

    def steps(self) -> Iterator[Step]:
        """The same one by one, as a walk tells them."""
        names = (name for name in FRAME_DTYPE.names or () if name != "header_crc")
        columns = [self.headers[name].tolist() for name in names]
        sizes = (self.ends - self.positions).tolist()
        for fields in zip(self.positions.tolist(), sizes, *columns, strict=True):
            yield Step(Frame(*fields), None)


def find_run(
    buffer: bytes, start: Bound, end: Bound, seed: int, append_time_ns: int = 0
) -> Run | None:
    """The sound frames from ``start`` on that lie in the buffer whole, up to the first oddity.

    Args:
        buffer: Holds the frames at their positions.
        start: Where a frame begins.
        end: The limit of both.
        seed: The seed of the segment's header CRCs.
        append_time_ns: The append time of the frame before.

    Returns:
        Only frames of which `walk` would tell nothing but that they are there; None if
        the first one is no such frame.
    """
    if start.offset > _OFFSET_MAX:
        return None
    limit = min(len(buffer), end.position)
    positions = _follow(buffer, start.position, limit)
    if len(positions) < 2:
        return None
    view = memoryview(buffer)
    header_crcs = [crc32c(buffer[at : at + FRAME_CRC_END], seed) for at in positions[:-1]]
    records_crcs = [
        crc32c(view[at + FRAME_HEADER_BYTES : after]) for at, after in pairwise(positions)
    ]
    begins, ends = np.array(positions[:-1]), np.array(positions[1:])
    windows = np.lib.stride_tricks.sliding_window_view(
        np.frombuffer(buffer, np.uint8), FRAME_HEADER_BYTES
    )
    raw = windows[begins]
    headers: npt.NDArray[np.void] = raw.view(FRAME_DTYPE)[:, 0]
    sound = (raw[:, _TAGS_AT] == _TAGS).all(axis=1)
    sound &= headers["header_crc"] == header_crcs
    sound &= headers["records_crc"] == records_crcs
    sound &= _lengths(raw[:, _RECORDS_LENGTH_AT:]) == ends - begins - FRAME_HEADER_BYTES
    sound &= headers["attributes"] & ATTRIBUTE_LOST == 0
    bases = headers["base_offset"]
    counts = headers["last_offset_delta"].astype(np.int64) + 1
    next_offsets = start.offset + np.cumsum(counts)
    sound &= bases == (next_offsets - counts).astype(np.uint64)
    sound &= next_offsets.astype(np.uint64) <= end.offset
    sound &= headers["record_count"] <= counts
    sound &= headers["durable_through"] <= bases
    times = headers["append_time_ns"]
    sound &= times >= np.concatenate((np.array([append_time_ns], np.uint64), times[:-1]))
    count = len(begins) if sound.all() else int(sound.argmin())
    if count == 0:
        return None
    return Run(begins[:count], ends[:count], next_offsets[:count], headers[:count])


def _follow(buffer: bytes, position: int, limit: int) -> list[int]:
    """Where frames begin, as their lengths say, and at last where the last one ends.

    The lengths are not checked: what is wrong with one, its CRC tells.
    """
    positions = [position]
    sizes: dict[bytes, int] = {}
    while True:
        prefix = buffer[position : position + FRAME_PREFIX_BYTES]
        size = sizes.get(prefix)
        if size is None:
            if len(prefix) < FRAME_PREFIX_BYTES or prefix[0] != TAG_FRAME:
                return positions
            size = sizes[prefix] = read_varint(prefix[1:]) + FRAME_PREFIX_BYTES
        position += size
        if size < FRAME_HEADER_BYTES or position > limit:
            return positions
        positions.append(position)


def _lengths(raw: npt.NDArray[np.uint8]) -> _Offsets:
    """The values of padded five-byte varints; -1 where one is not such."""
    wide = raw.astype(np.int64)
    values: _Offsets = ((wide & 0x7F) << np.array([0, 7, 14, 21, 28])).sum(axis=1)
    padded = (raw[:, :4] & 0x80 == 0x80).all(axis=1) & (raw[:, 4] <= 0x07)
    return np.where(padded, values, -1)
