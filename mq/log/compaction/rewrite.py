"""One sealed segment, written anew under another name without the records that are to go.

It has the same ids, the same offsets from beginning to end, and a size of its
own. Frames that keep all their records are copied as they are; of the others
the records are written anew, and where none is left, a frame without records
covers the offsets of all such frames in a row.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crc32c import crc32c

from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
)
from mq.log.files import Files, Handle
from mq.log.filewalk import WINDOW_BYTES, FileReader, walk_file
from mq.log.format import (
    ATTRIBUTE_KEYS,
    CODEC_MASK,
    FOOTER_BYTES,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    SCRATCH_SUFFIX,
    SEAL_BYTES,
)
from mq.log.frames import Frame, encode_header
from mq.log.index import SparseIndex
from mq.log.segment import Segment
from mq.log.walk import Bound

_CAPACITY_STEP_BYTES: Final = 4096
# The most offsets that one frame covers.
_OFFSETS_MAX: Final = 1 << 32

# What is left of a frame: None, all of it; otherwise its records and how many.
Thin = Callable[[Frame, bytes], "tuple[bytes, int] | None"]


class Opaque(Exception):
    """A segment has something in it that can't be read: it is left as it is."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A finished file that can take a segment's place."""

    files: Files
    path: Path
    header: SegmentHeader
    footer: SegmentFooter
    index: SparseIndex

    def discard(self) -> None:
        """Remove it, if it is there; it is not wanted after all."""
        with contextlib.suppress(OSError):
            self.files.unlink(self.path)


def each_frame(
    files: Files,
    segment: Segment,
    take: Callable[[Frame, FileReader], None],
    breathe: Callable[[], object],
) -> None:
    """Call ``take`` with each frame of a sealed segment, and what reads its bytes.

    Raises:
        Opaque: Something in it can't be read, or retention has removed it.
        OSError: The device fails.
    """
    try:
        reader = FileReader(files, files.open(segment.path))
    except FileNotFoundError:
        raise Opaque(segment.path.name) from None
    start = Bound(segment.base_offset, HEADER_BYTES)
    for frame, damage in walk_file(reader, start, segment.end, segment.seed):
        if frame is None or (damage is not None and not damage.marked):
            raise Opaque(segment.path.name)
        breathe()
        take(frame, reader)


def may_thin(frame: Frame) -> bool:
    """Whether a frame's records can be told apart, and have keys."""
    attributes = frame.attributes
    return bool(attributes & ATTRIBUTE_KEYS) and not attributes & CODEC_MASK


def rewrite_segment(
    files: Files, segment: Segment, thin: Thin, breathe: Callable[[], object], now_ns: int
) -> Rewritten | None:
    """Write what is left of a segment; None: all of it is.

    Durable when this returns, and read back.

    Args:
        files: The seam.
        segment: A sealed one.
        thin: Decides about a frame whose records have keys.
        breathe: Called with each frame.
        now_ns: For people, and to tell the new file from the old one.

    Raises:
        Opaque: Something in it can't be read.
        OSError: The device fails, or has no room; nothing is left behind.
    """
    work = _Work(files, segment, thin, now_ns)
    try:
        each_frame(files, segment, work.take, breathe)
        return work.finish()
    except BaseException:
        work.give_up()
        raise


@dataclass(slots=True)
class _Gone:
    """Frames in a row of which nothing is left."""

    first: Frame
    last: Frame


@dataclass(slots=True)
class _Work:
    """The segment as it grows; a file is made at the first frame that changes."""

    files: Files
    segment: Segment
    thin: Thin
    now_ns: int
    handle: Handle | None = None
    end: Bound = field(init=False)
    index: SparseIndex = field(default_factory=SparseIndex)
    frame_count: int = 0
    first_time_ns: int = 0
    last_time_ns: int = 0
    gone: _Gone | None = None
    buffers: list[bytes] = field(default_factory=list)
    # Where the buffers go.
    position: int = HEADER_BYTES

    def __post_init__(self) -> None:
        self.end = Bound(self.segment.base_offset, HEADER_BYTES)

    # ---- Frames -----------------------------------------------------------

    def take(self, frame: Frame, reader: FileReader) -> None:
        """The next frame of the old file."""
        left: tuple[bytes, int] | None = None
        if frame.record_count == 0 and not frame.marks_lost:
            # Of an earlier pass: it may join others.
            left = b"", 0
        elif may_thin(frame):
            raw = reader.read(frame.position + FRAME_HEADER_BYTES, frame.size - FRAME_HEADER_BYTES)
            left = self.thin(frame, raw)
        if left is not None and left[1] == 0:
            self._let_go(frame, reader)
            return
        self._put_gone(reader)
        if left is None:
            self._keep(frame, reader)
        else:
            self._put(frame, frame.next_offset, frame.append_time_ns, *left, reader)

    def _let_go(self, frame: Frame, reader: FileReader) -> None:
        gone = self.gone
        if gone is not None and frame.next_offset - gone.first.base_offset > _OFFSETS_MAX:
            self._put_gone(reader)
            gone = None
        self.gone = _Gone(gone.first if gone else frame, frame)

    def _put_gone(self, reader: FileReader) -> None:
        gone, self.gone = self.gone, None
        if gone is None:
            return
        first, last = gone.first, gone.last
        if first is last and first.record_count == 0:
            self._keep(first, reader)
        else:
            self._put(first, last.next_offset, last.append_time_ns, b"", 0, reader)

    def _keep(self, frame: Frame, reader: FileReader) -> None:
        """A frame stays as it is: its header's CRC holds wherever it lies in this segment."""
        if self.handle is not None:
            self.buffers.append(reader.read(frame.position, frame.size))
        self._note(frame.base_offset, frame.next_offset, frame.append_time_ns, frame.size)

    def _put(
        self,
        frame: Frame,
        next_offset: int,
        append_time_ns: int,
        records: bytes,
        record_count: int,
        reader: FileReader,
    ) -> None:
        """Another frame in place of one or more that begin with ``frame``.

        It is nobody's batch any more: a producer's repeat must not be compared
        with it, and the checkpoint knows of the batch it was.
        """
        if self.handle is None:
            self._begin(reader)
        header = encode_header(
            self.segment.seed,
            len(records),
            frame.base_offset,
            record_count,
            append_time_ns,
            crc32c(records),
            attributes=frame.attributes if record_count else 0,
            durable_through=frame.durable_through,
            last_offset_delta=next_offset - frame.base_offset - 1,
        )
        self.buffers += (header, records)
        size = FRAME_HEADER_BYTES + len(records)
        self._note(frame.base_offset, next_offset, append_time_ns, size)

    def _note(self, base_offset: int, next_offset: int, append_time_ns: int, size: int) -> None:
        self.index.add(base_offset, self.end.position, append_time_ns)
        if self.frame_count == 0:
            self.first_time_ns = append_time_ns
        self.last_time_ns = append_time_ns
        self.frame_count += 1
        self.end = Bound(next_offset, self.end.position + size)
        if self.end.position - self.position >= WINDOW_BYTES:
            self._flush()

    # ---- The file ---------------------------------------------------------

    def _begin(self, reader: FileReader) -> None:
        """Make the file, with all that came before and stays as it is."""
        path = self.segment.path
        self.handle = self.files.create(path.with_name(path.name + SCRATCH_SUFFIX))
        at, end = HEADER_BYTES, self.end.position
        while at < end:
            data = reader.read(at, min(WINDOW_BYTES, end - at))
            self.files.write(self.handle, [data], at)
            at += len(data)
        self.position = end

    def _flush(self) -> None:
        if self.handle is not None and self.buffers:
            self.files.write(self.handle, self.buffers, self.position)
        self.buffers, self.position = [], self.end.position

    def finish(self) -> Rewritten | None:
        """Padding, footer and header, durable and read back; None: there is nothing to do."""
        if self.gone is not None:
            self._put_gone(FileReader(self.files, self.files.open(self.segment.path)))
        handle, segment, files = self.handle, self.segment, self.files
        if handle is None:
            return None
        self._flush()
        assert self.end.offset == segment.end.offset, "every offset is in a frame"
        position = self.end.position
        capacity = -(-(position + SEAL_BYTES) // _CAPACITY_STEP_BYTES) * _CAPACITY_STEP_BYTES
        header = SegmentHeader(
            segment.base_offset,
            capacity,
            max(self.now_ns, segment.created_ns + 1),
            segment.channel_id,
            segment.segment_id,
            segment.previous_segment_id,
        )
        footer = SegmentFooter(
            segment.base_offset,
            self.end.offset,
            position,
            self.frame_count,
            self.first_time_ns,
            self.last_time_ns,
            segment.segment_id,
        )
        files.allocate(handle, capacity)
        files.write(handle, [encode_segment_header(header)], 0)
        files.write(handle, [encode_padding_prefix(position, capacity)], position)
        files.write(handle, [encode_segment_footer(footer)], capacity - FOOTER_BYTES)
        files.sync(handle)
        self._read_back(handle)
        return Rewritten(files, handle.path, header, footer, self.index)

    def _read_back(self, handle: Handle) -> None:
        """What takes the place of sound records has to be sound on the device.

        Raises:
            OSError: It is not.
        """
        self.files.forget(handle)
        count, at = 0, Bound(self.segment.base_offset, HEADER_BYTES)
        reader = FileReader(self.files, handle)
        for step in walk_file(reader, at, self.end, self.segment.seed):
            if step.frame is None or (step.damage is not None and not step.damage.marked):
                break
            count, at = count + 1, step.after()
        if at != self.end or count != self.frame_count:
            raise OSError(errno.EIO, "a compacted segment reads back otherwise", str(handle.path))

    def give_up(self) -> None:
        """Leave nothing behind."""
        if self.handle is not None:
            with contextlib.suppress(OSError):
                self.files.unlink(self.handle.path)
