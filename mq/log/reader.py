"""Reading a log: which segments, which part of the map, and without stalling anyone.

Any number of threads read. What they may see is one tuple, which the writer
replaces in one step when it grows, so no lock is needed.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from mq.errors import DataLoss
from mq.log.cache import SegmentCache
from mq.log.files import Files, Map
from mq.log.format import HEADER_BYTES
from mq.log.segment import Opened, Segment, Span, read_through
from mq.log.walk import OFFSET_MAX, Bound

# How far back from its end an active segment is taken to be in memory.
_HOT_BYTES: Final = 4 << 20
_READAHEAD_BYTES: Final = 4 << 20


class View(NamedTuple):
    """What readers may see: the segments, and where the last one's durable part ends."""

    segments: tuple[Segment, ...]
    durable: Bound

    def at(self, offset: int) -> tuple[Segment, Bound]:
        """The segment that holds an offset, and the end of its readable part."""
        segments = self.segments
        low, high = 0, len(segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if segments[middle].base_offset <= offset:
                low = middle
            else:
                high = middle - 1
        return segments[low], self.durable if low == len(segments) - 1 else segments[low].end


class Position(NamedTuple):
    """When a record was appended, Unix nanoseconds, and what lies from it to the end."""

    append_time_ns: int
    bytes_after: int


class ReadResult(NamedTuple):
    """Frames from ``start_offset`` on, in ``spans``; pull next at ``next_offset``."""

    start_offset: int
    next_offset: int
    spans: list[Span]
    # Maps of sealed segments that this read has come to the end of.
    finished: list[Map]

    def join(self, *trailer: bytes) -> bytes:
        """All bytes in one object: the only copy made of them."""
        joined = b"".join([*(span.view() for span in self.spans), *trailer])
        for mapped in self.finished:
            # A replay of everything must not leave everything in our page tables.
            mapped.forget()
        return joined


class Reader:
    """Finds frames by offset and by time."""

    def __init__(self, files: Files, cache: SegmentCache) -> None:
        self._files = files
        self._cache = cache

    def read(
        self, view: View, offset: int, max_bytes: int, max_records: int, *, may_block: bool
    ) -> ReadResult | None:
        """See `Log.read`; ``offset`` is within the log."""
        durable_offset = view.durable.offset
        next_offset = offset
        spans: list[Span] = []
        finished: list[Map] = []
        while next_offset < durable_offset and (max_bytes > 0 or not spans):
            segment, bound = view.at(next_offset)
            found = self._find(segment, next_offset, max_bytes, bound, may_block=may_block)
            if found is None:
                if spans:
                    break
                return None
            opened, entry = found
            try:
                records = max_records and max_records - (next_offset - offset)
                span = opened.span(entry, next_offset, max_bytes, records, bound)
            except DataLoss:
                if spans:
                    break
                raise
            size = span.end - span.start
            if spans and size > max_bytes:
                # Only a first frame is returned whole whatever its size.
                break
            spans.append(span)
            max_bytes -= size
            next_offset = span.next_offset
            if segment.sealed and span.end >= bound.position:
                finished.append(opened.map)
            if span.end < bound.position or 0 < max_records <= next_offset - offset:
                break
        return ReadResult(offset, next_offset, spans, finished)

    def seek_time(self, view: View, append_time_ns: int) -> int:
        """The offset of the first record appended at or after the time.

        The durable offset if there is none.
        """
        wanted = min(max(append_time_ns, 0), OFFSET_MAX)
        for segment in view.segments:
            last = segment is view.segments[-1]
            bound = view.durable if last else segment.end
            if not last and segment.last_append_time_ns < wanted:
                continue
            if bound.offset == segment.base_offset:
                continue
            opened = self._touch(segment)
            found = opened.locate_time(wanted, bound)
            if found < bound.offset:
                return found
        return view.durable.offset

    def locate(self, view: View, offset: int) -> Position:
        """See `Log.locate`; ``offset`` is below the durable one."""
        segment, bound = view.at(offset)
        opened = self._touch(segment)
        index, entry = opened.index, opened.entry(offset)
        later = view.segments[view.segments.index(segment) + 1 :]
        after = bound.position - index.position(entry)
        for each in later:
            end = view.durable if each is view.segments[-1] else each.end
            after += end.position - HEADER_BYTES
        return Position(index.append_time_ns(entry), after)

    def _touch(self, segment: Segment, opened: Opened | None = None) -> Opened:
        opened = opened or segment.opened or segment.open(self._files)
        if segment.sealed and segment.kept is None:
            self._cache.touch(segment)
        return opened

    def _find(
        self, segment: Segment, offset: int, max_bytes: int, bound: Bound, *, may_block: bool
    ) -> tuple[Opened, int] | None:
        """The open segment and the index entry of the offset; None: it would block.

        What is to be read of it is in memory then.
        """
        # Taken once: the cache may close it at any moment.
        opened = segment.opened
        if opened is None and not may_block:
            return None
        opened = self._touch(segment, opened)
        entry = opened.entry(offset)
        start = opened.index.position(entry)
        if segment.sealed or bound.position - start > _HOT_BYTES:
            end = opened.blocks_end(start, max_bytes, bound)
            if not opened.map.resident(start, end):
                if not may_block:
                    return None
                self._load(opened, start, end, bound)
        return opened, entry

    def _load(self, opened: Opened, start: int, end: int, bound: Bound) -> None:
        """Read into the page cache: a fault through the map would hold the GIL."""
        self._files.will_need(opened.handle, start, end - start + _READAHEAD_BYTES)
        try:
            read_through(self._files, opened.handle, start, end)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            opened.condemn(start, end, bound, self._files)
