"""A pass over all sealed segments of a log: which records go, segment by segment.

Reading and writing take long and need nobody's permission; only taking a
segment's place is for the thread that appends (`Log.swap`). In order, oldest
first: a tombstone goes after everything that it deletes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mq.log.compaction.columns import Columns, parse_columns
from mq.log.compaction.history import History, Pass
from mq.log.compaction.latest import LatestOffsets
from mq.log.compaction.rewrite import Opaque, Rewritten, each_frame, may_thin, rewrite_segment
from mq.log.files import Files
from mq.log.filewalk import FileReader
from mq.log.format import FRAME_HEADER_BYTES
from mq.log.frames import Frame
from mq.log.segment import Segment

# How many keys one pass knows of, 24 bytes each; where there are more, it goes as
# far as it can, and the next one goes on.
KEYS_MAX: Final = 1 << 20


def dirty_ratio(segments: Sequence[Segment], cleaned_offset: int) -> float:
    """How much of some sealed segments no pass has seen, 0 to 1, in bytes of frames."""
    total = sum(segment.stored_bytes for segment in segments)
    new = sum(s.stored_bytes for s in segments if s.end.offset > cleaned_offset)
    return new / total if total else 0.0


class Compaction:
    """One pass.

    Args:
        files: The seam.
        segments: The log's sealed segments, oldest first.
        history: What earlier passes did.
        now_ns: The time, Unix nanoseconds.
        tombstones_since_ns: Tombstones appended later are kept, Unix nanoseconds.
        breathe: Called with each frame; what it raises ends the pass.
        keys_max: How many keys the pass knows of.

    Attributes:
        segments: What there is to rewrite; known once `survey` is done.
    """

    def __init__(
        self,
        files: Files,
        segments: Sequence[Segment],
        history: History,
        now_ns: int,
        tombstones_since_ns: int,
        breathe: Callable[[], object] = bool,
        keys_max: int = KEYS_MAX,
    ) -> None:
        self.segments = segments
        self._files = files
        self._cleaned_offset = history.cleaned_offset
        self._now_ns = now_ns
        self._tombstones_since_ns = tombstones_since_ns
        self._tombstones_before = history.tombstones_before(tombstones_since_ns)
        self._breathe = breathe
        self._keys_max = keys_max
        self._latest = LatestOffsets()
        self._covered_offset = self._cleaned_offset
        # Something before could not be read: it may be what a tombstone deletes.
        self._opaque = False

    def done(self, now_ns: int) -> Pass:
        """What it has done, once all of its segments are in place."""
        return Pass(self._covered_offset, now_ns)

    # ---- Which keys there are ---------------------------------------------

    def survey(self) -> None:
        """Learn the latest offset of each key that is new since the last pass.

        Raises:
            OSError: The device fails.
        """
        for segment in self.segments:
            if segment.end.offset > self._cleaned_offset and not self._survey(segment):
                break
        self._latest.settle()
        self.segments = [s for s in self.segments if s.base_offset < self._covered_offset]

    def _survey(self, segment: Segment) -> bool:
        """Whether there is room for more."""
        try:
            each_frame(self._files, segment, self._learn, self._breathe)
        except Opaque:
            # What it holds from there on is kept, and supersedes nothing.
            pass
        except _Full:
            return False
        self._covered_offset = segment.end.offset
        return True

    def _learn(self, frame: Frame, reader: FileReader) -> None:
        if frame.base_offset < self._cleaned_offset:
            return
        if len(self._latest) >= self._keys_max:
            # Some may have counted twice.
            self._latest.settle()
            if len(self._latest) >= self._keys_max:
                self._covered_offset = frame.base_offset
                raise _Full
        columns = self._columns(frame, reader) if may_thin(frame) else None
        if columns is not None:
            base = frame.base_offset
            for delta, key in zip(columns.offset_deltas, columns.keys, strict=True):
                if key:
                    self._latest.add(key, base + delta)

    @staticmethod
    def _columns(frame: Frame, reader: FileReader) -> Columns | None:
        at = frame.position + FRAME_HEADER_BYTES
        records = reader.read(at, frame.size - FRAME_HEADER_BYTES)
        return _with_keys(frame, records)

    # ---- What goes --------------------------------------------------------

    def rewrite(self, segment: Segment) -> Rewritten | None:
        """What is left of a segment, to be put in its place; None: it stays as it is.

        Raises:
            OSError: The device fails, or has no room.
        """
        try:
            return rewrite_segment(self._files, segment, self._thin, self._breathe, self._now_ns)
        except Opaque:
            self._opaque = True
            return None

    def _thin(self, frame: Frame, records: bytes) -> tuple[bytes, int] | None:
        columns = _with_keys(frame, records)
        if columns is None:
            self._opaque = True
            return None
        kept = self._kept(frame, columns)
        count = sum(kept)
        if count == len(kept):
            return None
        return columns.only(kept).encode(), count

    def _kept(self, frame: Frame, columns: Columns) -> list[bool]:
        """Whether each record stays: no key, or the latest of its key and no old tombstone."""
        base = frame.base_offset
        latest = self._latest.of(columns.keys).tolist()
        old = not self._opaque and frame.append_time_ns <= self._tombstones_since_ns
        before = self._tombstones_before if old else 0
        return [
            not key or (base + delta >= newest and (bool(content) or base + delta >= before))
            for key, delta, newest, content in zip(
                columns.keys, columns.offset_deltas, latest, columns.contents, strict=True
            )
        ]


class _Full(Exception):
    """There is no room for more keys."""


def _with_keys(frame: Frame, records: bytes) -> Columns | None:
    columns = parse_columns(records, frame.record_count, frame.last_offset_delta)
    return columns if columns is not None and columns.keys else None
