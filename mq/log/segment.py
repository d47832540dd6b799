"""One segment file, and reading from it.

``Segment`` is what is always known of a file (a few hundred bytes each);
``Opened`` is its handle, map and index, there only while in use. Both are used
by one writer and any number of readers: a reader holds its own reference to an
``Opened``, so closing a segment never takes anything from under it.

A block is what lies between two index entries. Its frames are checked, both
CRCs, the first time a block is read after opening; later reads of it are
slices. What the writer itself wrote needs no check.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from mq.errors import DataLoss
from mq.log.envelope import SegmentFooter, SegmentHeader
from mq.log.files import Files, Handle, Map
from mq.log.format import HEADER_BYTES, index_name
from mq.log.frames import (
    frame_base_offset,
    frame_next_offset,
    frame_size,
    frame_time,
    parse_frame,
    resync,
    segment_seed,
)
from mq.log.index import SparseIndex


class Damage(NamedTuple):
    """Records ``[first_offset, next_offset)`` at ``[position, end)`` can't be read."""

    first_offset: int
    next_offset: int
    position: int
    end: int

    def error(self) -> DataLoss:
        """The error that tells a reader."""
        return DataLoss(
            f"offsets {self.first_offset} to {self.next_offset - 1} are damaged on disk; "
            f"read on from {self.next_offset}, and run `mq verify` on the data directory",
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )


class Bound(NamedTuple):
    """Where a segment's readable part ends."""

    offset: int
    position: int


class Span(NamedTuple):
    """Sound frames ``[start, end)`` of a segment; ``next_offset`` follows the last."""

    opened: Opened
    start: int
    end: int
    next_offset: int

    def view(self) -> memoryview:
        """The bytes, straight from the map."""
        return self.opened.map.view[self.start : self.end]


class Opened:
    """An open segment: handle, map, index, and the damage found so far."""

    __slots__ = ("_lock", "damage", "damaged_at", "handle", "index", "map", "seed")

    def __init__(self, handle: Handle, mapped: Map, index: SparseIndex, seed: int) -> None:
        self.handle = handle
        self.map = mapped
        self.index = index
        self.seed = seed
        # In order of position; `damaged_at` finds one by where a walk meets it.
        self.damage: list[Damage] = []
        self.damaged_at: dict[int, Damage] = {}
        self._lock = threading.Lock()

    def add_damage(self, damage: Damage) -> None:
        """Note a damaged range; one that begins inside a known range is that range."""
        with self._lock:
            for known in self.damage:
                if known.position <= damage.position < known.end:
                    self.damaged_at[damage.position] = known
                    return
            self.damaged_at[damage.position] = damage
            self.damage = sorted([*self.damage, damage], key=lambda d: d.position)

    def locate(self, offset: int, bound: Bound) -> int:
        """The position of the frame that holds ``offset``, which is below the bound.

        Raises:
            DataLoss: The frame is damaged.
        """
        entry = max(self.index.floor_offset(offset), 0)
        self._verify(entry, entry, bound)
        buffer = self.map.view
        position = self.index.position(entry)
        while position < bound.position:
            damage = self.damaged_at.get(position)
            if damage is not None:
                if damage.first_offset <= offset < damage.next_offset:
                    raise damage.error()
                position = damage.end
            elif offset < frame_next_offset(buffer, position):
                return position
            else:
                position += frame_size(buffer, position)
        raise Damage(offset, bound.offset, position, bound.position).error()

    def locate_time(self, append_time_ns: int, bound: Bound) -> int:
        """The offset of the first record appended at or after the time.

        ``bound.offset`` if there is none in this segment.
        """
        entry = max(self.index.before_time(append_time_ns), 0)
        self._verify(entry, entry, bound)
        buffer = self.map.view
        position = self.index.position(entry)
        while position < bound.position:
            damage = self.damaged_at.get(position)
            if damage is not None:
                position = damage.end
                continue
            if frame_time(buffer, position) >= append_time_ns:
                return frame_base_offset(buffer, position)
            position += frame_size(buffer, position)
        return bound.offset

    def span(self, offset: int, max_bytes: int, max_records: int, bound: Bound) -> Span:
        """Frames from the one that holds ``offset``: at least one, about as many as asked.

        Args:
            offset: The first offset wanted, below ``bound.offset``.
            max_bytes: Ends the span at the last frame that fits.
            max_records: Ends it after the frame with the last record wanted; 0: no limit.
            bound: The end of what may be read.

        Raises:
            DataLoss: The first frame is damaged.
        """
        start = self.locate(offset, bound)
        limit = min(bound.position, start + max_bytes)
        if max_records and offset + max_records < bound.offset:
            limit = min(limit, self._after(offset + max_records - 1, bound))
        end = limit
        if limit < bound.position:
            end = self._boundary(start, limit, bound)
        last = self.index.floor_position(end - 1)
        self._verify(self.index.floor_position(start), last, bound)
        for damage in self.damage:
            if start < damage.position < end:
                end = damage.position
                break
        return Span(self, start, end, self._offset_at(end, bound))

    def _after(self, offset: int, bound: Bound) -> int:
        try:
            position = self.locate(offset, bound)
        except DataLoss as loss:
            starts = (d.position for d in self.damage if d.first_offset == loss.first_offset)
            return next(starts, bound.position)
        return position + frame_size(self.map.view, position)

    def _boundary(self, start: int, limit: int, bound: Bound) -> int:
        """The end of the last frame that ends by ``limit``, or else of the first."""
        buffer = self.map.view
        entry = self.index.floor_position(limit)
        self._verify(entry, entry, bound)
        position = max(start, self.index.position(entry))
        while position < limit:
            damage = self.damaged_at.get(position)
            after = damage.end if damage else position + frame_size(buffer, position)
            if after > limit and position > start:
                break
            position = after
        return position

    def _offset_at(self, position: int, bound: Bound) -> int:
        if position >= bound.position:
            return bound.offset
        damage = self.damaged_at.get(position)
        if damage is not None:
            return damage.first_offset
        return frame_base_offset(self.map.view, position)

    def _verify(self, first: int, last: int, bound: Bound) -> None:
        """Check the blocks of entries ``first`` to ``last`` that were not checked yet."""
        verified = self.index.verified
        entry = verified.find(0, first, last + 1)
        while entry != -1:
            self._verify_block(entry, bound)
            verified[entry] = 1
            entry = verified.find(0, entry + 1, last + 1)

    def _verify_block(self, entry: int, bound: Bound) -> None:
        index = self.index
        buffer = self.map.view
        position = index.position(entry)
        expected = index.base_offset(entry)
        end = index.position(entry + 1) if entry + 1 < index.count else bound.position
        while position < min(end, bound.position):
            frame = parse_frame(buffer, position, bound.position, self.seed)
            if frame is not None and frame.base_offset == expected:
                position, expected = frame.end, frame.next_offset
                continue
            damage = find_damage(buffer, position, expected, bound, self.seed)
            self.add_damage(damage)
            position, expected = damage.end, damage.next_offset


class Segment:
    """What is always known of a segment file."""

    __slots__ = (
        "base_offset",
        "capacity_bytes",
        "channel_id",
        "created_ns",
        "end",
        "frame_count",
        "last_append_time_ns",
        "opened",
        "path",
        "previous_segment_id",
        "sealed",
        "segment_id",
    )

    def __init__(self, path: Path, header: SegmentHeader) -> None:
        self.path = path
        self.base_offset = header.base_offset
        self.capacity_bytes = header.capacity_bytes
        self.created_ns = header.created_ns
        self.channel_id = header.channel_id
        self.segment_id = header.segment_id
        self.previous_segment_id = header.previous_segment_id
        self.sealed = False
        # Of a sealed segment, what its footer says; the log keeps an active one's.
        self.end = Bound(header.base_offset, HEADER_BYTES)
        self.frame_count = 0
        self.last_append_time_ns = 0
        self.opened: Opened | None = None

    @property
    def stored_bytes(self) -> int:
        """The bytes of its frames, once sealed."""
        return self.end.position - HEADER_BYTES

    def seal(self, footer: SegmentFooter) -> None:
        """Take over what a footer says."""
        self.end = Bound(footer.end_offset, footer.end_position)
        self.frame_count = footer.frame_count
        self.last_append_time_ns = footer.last_append_time_ns
        self.sealed = True

    def open(self, files: Files) -> Opened:
        """Handle, map and index; the index is rebuilt in memory if its file can't be used.

        Raises:
            OSError: The file is gone or can't be read.
        """
        opened = self.opened
        if opened is None:
            handle = files.open(self.path)
            mapped = files.map(handle, self.capacity_bytes)
            seed = segment_seed(self.segment_id)
            index = self.read_index(files)
            if index is None:
                index, damage = scan_index(mapped.view, self.base_offset, self.end, seed)
                opened = Opened(handle, mapped, index, seed)
                for found in damage:
                    opened.add_damage(found)
            else:
                opened = Opened(handle, mapped, index, seed)
            self.opened = opened
        return opened

    def read_index(self, files: Files) -> SparseIndex | None:
        """The index in this segment's index file, or None if there is no usable one."""
        try:
            handle = files.open(self.path.with_name(index_name(self.base_offset)))
            raw = files.read(handle, files.size(handle), 0)
        except OSError:
            return None
        index = SparseIndex.decode(raw, self.segment_id)
        if index is None or index.count == 0 or index.position(0) != HEADER_BYTES:
            return None
        return index


def scan_index(
    buffer: memoryview, base_offset: int, end: Bound, seed: int
) -> tuple[SparseIndex, list[Damage]]:
    """Build a segment's index by reading all its frames; they count as verified."""
    index = SparseIndex()
    damages = []
    position, expected = HEADER_BYTES, base_offset
    while position < end.position:
        frame = parse_frame(buffer, position, end.position, seed)
        if frame is not None and frame.base_offset == expected:
            index.add(frame.base_offset, position, frame.append_time_ns)
            position, expected = frame.end, frame.next_offset
            continue
        if index.count == 0:
            # The first entry always stands for the segment's beginning.
            index.add(base_offset, HEADER_BYTES, 0)
        damage = find_damage(buffer, position, expected, end, seed)
        damages.append(damage)
        position, expected = damage.end, damage.next_offset
    return index, damages


def find_damage(buffer: memoryview, position: int, expected: int, end: Bound, seed: int) -> Damage:
    """The damaged range that begins at ``position``, where ``expected`` should be."""
    found = resync(buffer, position + 1, end.position, seed, expected)
    if found is None:
        return Damage(expected, end.offset, position, end.position)
    return Damage(expected, found.base_offset, position, found.position)
