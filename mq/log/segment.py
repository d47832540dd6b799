"""One segment file, and reading from it.

``Segment`` is what is always known of a file (a few hundred bytes each);
``Opened`` is its handle, map and index, there only while in use. Both are used
by one writer and any number of readers: a reader holds its own reference to an
``Opened``, so closing a segment never takes anything from under it.

A block is what lies between two index entries. Its frames are checked, both
CRCs, the first time a block is read after opening; later reads of it are
slices. What the writer itself wrote needs no check. Damage never reaches from
one block into another: the next one begins where the index says.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mq.errors import Unavailable
from mq.log.envelope import SegmentFooter, SegmentHeader
from mq.log.files import Files, Handle, Map
from mq.log.format import FOOTER_BYTES, FRAME_HEADER_BYTES, HEADER_BYTES, index_name
from mq.log.frames import (
    frame_base_offset,
    frame_next_offset,
    frame_size,
    frame_time,
    parse_header,
    segment_seed,
)
from mq.log.index import SparseIndex
from mq.log.walk import Bound, Damage, walk

READ_STEP_BYTES: Final = 1 << 20


class Span(NamedTuple):
    """Sound frames ``[start, end)`` of a segment; ``next_offset`` follows the last."""

    opened: Opened
    start: int
    end: int
    next_offset: int

    def view(self) -> memoryview:
        """The bytes, straight from the map."""
        return self.opened.map.view[self.start : self.end]


class DamageList:
    """The damage known of a segment. It outlives the segment's being closed."""

    __slots__ = ("at", "ranges")

    # Adding is rare: one lock for all.
    _adding = threading.Lock()

    def __init__(self) -> None:
        # In order of position; replaced, never changed, so that readers need no lock.
        self.ranges: tuple[Damage, ...] = ()
        # By the position where a walk meets it.
        self.at: dict[int, Damage] = {}

    def add(self, damage: Damage) -> None:
        """Note a damaged range; what is known from its position on stays as it is."""
        with self._adding:
            if damage.position not in self.at:
                self.at[damage.position] = damage
                ranges = list(self.ranges)
                bisect.insort(ranges, damage, key=lambda d: d.position)
                self.ranges = tuple(ranges)

    def holding(self, offset: int) -> Damage | None:
        """The range that holds an offset."""
        for damage in self.ranges:
            if damage.first_offset <= offset < damage.next_offset:
                return damage
        return None


class Opened:
    """An open segment: handle, map, index, and the damage found so far."""

    __slots__ = ("damage", "handle", "index", "map", "seed")

    def __init__(
        self, handle: Handle, mapped: Map, index: SparseIndex, seed: int, damage: DamageList
    ) -> None:
        self.handle = handle
        self.map = mapped
        self.index = index
        self.seed = seed
        self.damage = damage

    def entry(self, offset: int) -> int:
        """The index entry whose block holds ``offset``."""
        return max(self.index.floor_offset(offset), 0)

    def _locate(self, entry: int, offset: int, bound: Bound) -> int:
        """The position of the frame that holds ``offset``, which is below the bound.

        Raises:
            DataLoss: The frame is damaged.
        """
        buffer = self.map.view
        for position, damage in self._block(entry, bound):
            if damage is not None:
                if damage.first_offset <= offset < damage.next_offset:
                    raise damage.error()
            elif offset < frame_next_offset(buffer, position):
                return position
        lost = self.damage.holding(offset)
        raise (lost or Damage(offset, bound.offset, bound.position, bound.position)).error()

    def locate_time(self, append_time_ns: int, bound: Bound) -> int:
        """The offset of the first record appended at or after the time.

        Where damage lies just before it, whose time can't be known, that of the
        damage. ``bound.offset`` if there is none in this segment.
        """
        entry = max(self.index.before_time(append_time_ns), 0)
        buffer = self.map.view
        unknown: int | None = None
        while entry < self.index.count and self.index.position(entry) < bound.position:
            for position, damage in self._block(entry, bound):
                if damage is not None:
                    unknown = damage.first_offset if unknown is None else unknown
                elif frame_time(buffer, position) < append_time_ns:
                    unknown = None
                elif unknown is not None:
                    return unknown
                else:
                    return frame_base_offset(buffer, position)
            entry += 1
        return bound.offset if unknown is None else unknown

    def span(self, entry: int, offset: int, max_bytes: int, max_records: int, bound: Bound) -> Span:
        """Frames from the one that holds ``offset``: at least one, about as many as asked.

        Args:
            entry: The index entry whose block holds the offset.
            offset: The first offset wanted, below ``bound.offset``.
            max_bytes: Ends the span at the last frame that fits.
            max_records: Ends it after the frame with the last record wanted; 0: no limit.
            bound: The end of what may be read.

        Raises:
            DataLoss: The first frame is damaged.
        """
        start = self._locate(entry, offset, bound)
        end = min(bound.position, start + max_bytes)
        if max_records and offset + max_records < bound.offset:
            end = min(end, self._after(offset + max_records - 1, bound))
        last = self.index.floor_position(end)
        if end < bound.position:
            end = self._boundary(last, start, end, bound)
        self._verify(entry, last, bound)
        for damage in self.damage.ranges:
            if start < damage.position <= end:
                end = damage.position
                break
        return Span(self, start, end, self._offset_at(end, bound))

    def _after(self, offset: int, bound: Bound) -> int:
        """The end of the frame that holds ``offset``, or the beginning of its damage."""
        buffer = self.map.view
        for position, damage in self._block(self.entry(offset), bound):
            if damage is not None:
                if offset < damage.next_offset:
                    return position
            elif offset < frame_next_offset(buffer, position):
                return position + frame_size(buffer, position)
        return bound.position

    def _boundary(self, entry: int, start: int, limit: int, bound: Bound) -> int:
        """The end of the last frame that ends by ``limit``, or else of the first.

        ``entry`` is that of the block in which the limit lies.
        """
        buffer = self.map.view
        after = start
        for position, damage in self._block(entry, bound):
            if position < start:
                continue
            end = damage.end if damage else position + frame_size(buffer, position)
            if end > limit:
                return end if position == start else position
            after = end
        return after

    def _offset_at(self, position: int, bound: Bound) -> int:
        """The offset of what begins at a boundary whose block is verified."""
        damage = self.damage.at.get(position)
        if damage is not None:
            return damage.first_offset
        if position >= bound.position:
            return bound.offset
        return frame_base_offset(self.map.view, position)

    # ---- Blocks -----------------------------------------------------------

    def blocks_end(self, start: int, max_bytes: int, bound: Bound) -> int:
        """Where the last block ends that reading from ``start`` may touch."""
        limit = start + max_bytes
        if limit >= bound.position:
            return bound.position
        return self._block_end(self.index.floor_position(limit), bound).position

    def condemn(self, start: int, end: int, bound: Bound, files: Files) -> None:
        """Note as damaged the blocks in ``[start, end)`` that the device can't read.

        Raises:
            OSError: Something else is wrong than unreadable sectors.
        """
        index = self.index
        for entry in range(index.floor_position(start), index.floor_position(end - 1) + 1):
            position, block_end = index.position(entry), self._block_end(entry, bound)
            try:
                read_through(files, self.handle, position, block_end.position)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                base = index.base_offset(entry)
                self.damage.add(Damage(base, block_end.offset, position, block_end.position))
                # It must not be looked at through the map, where it would be fatal.
                index.verified[entry] = 1

    def _block(self, entry: int, bound: Bound) -> Iterator[tuple[int, Damage | None]]:
        """The positions of a block's frames, and its damage where it lies. Verifies it."""
        self._verify(entry, entry, bound)
        position = self.index.position(entry)
        end = self._block_end(entry, bound).position
        damaged = self.damage.at
        buffer = self.map.view
        while position < end:
            damage = damaged.get(position) if damaged else None
            yield position, damage
            position = damage.end if damage else position + frame_size(buffer, position)

    def _block_end(self, entry: int, bound: Bound) -> Bound:
        index = self.index
        if entry + 1 < index.count:
            position = index.position(entry + 1)
            if position < bound.position:
                return Bound(index.base_offset(entry + 1), position)
        return bound

    def _verify(self, first: int, last: int, bound: Bound) -> None:
        """Check the blocks of entries ``first`` to ``last`` that were not checked yet."""
        verified = self.index.verified
        entry = verified.find(0, first, last + 1)
        while entry != -1:
            start = Bound(self.index.base_offset(entry), self.index.position(entry))
            end = self._block_end(entry, bound)
            for step in walk(self.map.view, start, end, self.seed):
                if step.damage is not None:
                    self.damage.add(step.damage)
            verified[entry] = 1
            entry = verified.find(0, entry + 1, last + 1)


class Segment:
    """What is always known of a segment file."""

    __slots__ = (
        "_opening",
        "base_offset",
        "capacity_bytes",
        "channel_id",
        "created_ns",
        "damage",
        "end",
        "frame_count",
        "kept",
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
        self.damage = DamageList()
        self.opened: Opened | None = None
        # What readers go on with once another file has its name; see `keep`.
        self.kept: Opened | None = None
        self._opening = threading.Lock()

    @property
    def seed(self) -> int:
        """The seed of its header CRCs."""
        return segment_seed(self.segment_id)

    @property
    def occupied_bytes(self) -> int:
        """About what the file takes on the device: a sealed one's padding is given back."""
        if not self.sealed:
            return self.capacity_bytes
        return min(self.capacity_bytes, self.end.position + FOOTER_BYTES)

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
        """Handle, map and index of a sealed segment; one without a usable index is given one.

        Raises:
            Unavailable: It is an active one, which only its log can open.
            OSError: The file is gone or can't be read.
        """
        opened = self.opened or self.kept
        if opened is None:
            if not self.sealed:
                raise Unavailable("the log was closed meanwhile; try again")
            handle = files.open(self.path)
            mapped = files.map(handle, self.capacity_bytes)
            index = self.read_index(files)
            if index is None or not self._is_of(index, files, handle):
                index = self._rebuild_index(files, handle, mapped)
            opened = Opened(handle, mapped, index, self.seed, self.damage)
            with self._opening:
                if self.kept is not None:
                    # Its files may be those of its successor by now.
                    return self.kept
                self.opened = opened
        return opened

    def keep(self, files: Files) -> None:
        """Stay open as long as anyone reads: another file is about to take its name.

        Raises:
            OSError: The file is gone or can't be read.
        """
        opened = self.open(files)
        with self._opening:
            # From now on nothing is opened or written under its names.
            self.kept = opened

    def let_go(self) -> None:
        """The file keeps its name after all."""
        with self._opening:
            self.kept = None

    def read_index(self, files: Files) -> SparseIndex | None:
        """The index in this segment's index file, or None if there is no usable one."""
        try:
            handle = files.open(self._index_path)
            raw = files.read(handle, files.size(handle), 0)
        except OSError:
            return None
        index = SparseIndex.decode(raw, self.segment_id)
        if index is None or index.count == 0 or index.position(0) != HEADER_BYTES:
            return None
        return index

    def _is_of(self, index: SparseIndex, files: Files, handle: Handle) -> bool:
        """Whether an index fits this file: one of before a compaction has the same id."""
        last = index.count - 1
        position = index.position(last)
        try:
            raw = files.read(handle, FRAME_HEADER_BYTES, position)
        except OSError:
            # The block is damaged, and is found to be when it is read.
            return True
        frame = parse_header(raw, 0, self.end.position - position, self.seed)
        return frame is not None and frame.base_offset == index.base_offset(last)

    @property
    def _index_path(self) -> Path:
        return self.path.with_name(index_name(self.base_offset))

    def _rebuild_index(self, files: Files, handle: Handle, mapped: Map) -> SparseIndex:
        # Through the map, this much cold data would stall every thread.
        read_through(files, handle, 0, self.end.position)
        start = Bound(self.base_offset, HEADER_BYTES)
        index, damage = scan_index(mapped.view, start, self.end, self.seed)
        for found in damage:
            self.damage.add(found)
        with self._opening, contextlib.suppress(OSError):
            if self.kept is None:
                files.replace(self._index_path, index.encode(self.segment_id))
        return index


def read_through(files: Files, handle: Handle, start: int, end: int) -> None:
    """Have ``[start, end)`` in the page cache: an unreadable sector is an error here.

    Through a map it would be a signal that kills the process.
    """
    for at in range(start, end, READ_STEP_BYTES):
        files.read(handle, min(READ_STEP_BYTES, end - at), at)


def scan_index(
    buffer: memoryview, start: Bound, end: Bound, seed: int
) -> tuple[SparseIndex, list[Damage]]:
    """Build a segment's index by reading all its frames; they count as verified."""
    index = SparseIndex()
    damages = []
    for frame, damage in walk(buffer, start, end, seed):
        if damage is not None:
            damages.append(damage)
        if frame is not None and (damage is None or damage.marked):
            index.add(frame.base_offset, frame.position, frame.append_time_ns)
        elif index.count == 0:
            # The first entry always stands for the segment's beginning.
            index.add(start.offset, start.position, 0)
    return index, damages
