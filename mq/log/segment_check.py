"""Checking one segment file by itself: header, every frame, index, padding, footer.

Reads only. Segments are checked one by one and independently, so that several
can be at once; how they fit together is for `verify` to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mq.log.checkpoint import Checkpoint
from mq.log.ends import read_ends
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
)
from mq.log.files import Files
from mq.log.filewalk import WINDOW_BYTES, FileReader, walk_runs
from mq.log.format import (
    FOOTER_BYTES,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    NO_ID,
    OVERHEAD_BYTES,
    PADDING_PREFIX_BYTES,
    SEAL_BYTES,
    index_name,
    parse_segment_name,
)
from mq.log.frames import Frame, segment_seed
from mq.log.index import SparseIndex
from mq.log.recovery import Tail, padding_begin, scan_tail
from mq.log.report import SegmentReport, Severity
from mq.log.runs import Run
from mq.log.walk import OFFSET_MAX, Bound, Damage, Step

DAMAGE, FAULT, NOTICE = Severity.DAMAGE, Severity.FAULT, Severity.NOTICE
# How often the end of a segment that is being written is looked at again.
_LOOKS_MAX = 8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of a segment from other files."""

    # Of the log; None: not known, and learned from the segments.
    channel_id: bytes | None = None
    # Where the next segment begins; None: it is the last one.
    next_base: int | None = None
    # The next one names it: that is where it has to end, whatever its footer says.
    linked: bool = False
    # From the next segment's header.
    segment_id: bytes | None = None
    checkpoint: Checkpoint | None = None
    # A broker is running.
    live: bool = False
    # What its header says or should say, where that was settled before.
    header: SegmentHeader | None = None


class Lost(NamedTuple):
    """Damaged records, and the time of the frame before, or of their own."""

    damage: Damage
    append_time_ns: int


@dataclass(slots=True)
class Checked:
    """A checked segment: the report, and what its neighbours are compared with.

    Attributes:
        report: What was found.
        header: Its header, found elsewhere if need be; None: no frame could be checked.
        first_append_time_ns: Of its first frame; 0: none.
        last_append_time_ns: Of its last one.
        end: Where its frames end, damaged ones included.
        lost: The damage in it, in order.
        gone: Records that were stored behind its end and of which nothing is left.
        torn: Bytes behind its end that no one was told of.
    """

    report: SegmentReport
    header: SegmentHeader | None
    first_append_time_ns: int
    last_append_time_ns: int
    end: Bound
    lost: list[Lost]
    gone: Damage | None
    torn: tuple[int, int] | None


def check_segment(
    files: Files, path: Path, around: Surroundings, progress: Callable[[int], None]
) -> Checked:
    """Check a segment file.

    Args:
        files: The seam.
        path: The file.
        around: What is known from other files.
        progress: Told how many more bytes were checked.

    Raises:
        DataDirError: It is of a newer format.
        OSError: It is gone, or can't be opened.
    """
    return _Check(files, path, around, progress).run()


def _ends_sound(step: Step) -> bool:
    """Whether what is sound ends before it."""
    return step.frame is None or (step.damage is not None and not step.damage.marked)


class _Check:
    """The check of one segment."""

    def __init__(
        self, files: Files, path: Path, around: Surroundings, progress: Callable[[int], None]
    ) -> None:
        base = around.header.base_offset if around.header else parse_segment_name(path.name)
        assert base is not None, "only segments are checked"
        self.files = files
        self.path = path
        self.around = around
        self.progress = progress
        self.handle = files.open(path)
        self.reader = FileReader(files, self.handle)
        self.size = self.capacity = files.size(self.handle)
        self.report = SegmentReport(path.name, base, base, file_bytes=self.size)
        self.header: SegmentHeader | None = None
        self.footer: SegmentFooter | None = None
        self.seed = 0
        self.first_time_ns = self.last_time_ns = 0
        self.durable_through = base
        self.index = SparseIndex()
        self.end = Bound(base, HEADER_BYTES)
        self.lost: list[Lost] = []
        self.gone: Damage | None = None
        self.torn: tuple[int, int] | None = None
        self.advanced_bytes = 0
        # Of the checkpoint, where it is about this segment.
        self.checkpoint = around.checkpoint
        if self.checkpoint is not None and self.checkpoint.segment_base != base:
            self.checkpoint = None
        # Where a frame has to end, or the first one to begin; None once one does.
        self.vouched: Bound | None = None
        if self.checkpoint is not None:
            self.vouched = Bound(self.checkpoint.durable_offset, self.checkpoint.position)
            if self.vouched == (base, HEADER_BYTES):
                self.vouched = None

    def run(self) -> Checked:
        """Everything there is to check."""
        self._check_envelope()
        # After the footer: what is sealed has all of its index by then. And before the
        # frames: there are none yet that it doesn't know.
        stored = self._read_index()
        if self.header is not None:
            self.seed = segment_seed(self.header.segment_id)
            if self.footer is not None:
                self.end = self._check_sealed(self.footer)
            else:
                self.end = self._check_unsealed()
            self.report.end_offset = self.gone.next_offset if self.gone else self.end.offset
            self._check_index(stored)
            self._check_checkpoint()
        for position in sorted(self.reader.unreadable):
            self.report.add(
                FAULT,
                "unreadable",
                f"the device can't read the page at byte {position}",
                position=position,
            )
        self._advance(self.size)
        used = self.report.frame_bytes + OVERHEAD_BYTES
        self.report.unused_bytes = max(0, self.size - used) if self.report.sealed else 0
        return Checked(
            self.report,
            self.header,
            self.first_time_ns,
            self.last_time_ns,
            self.end,
            self.lost,
            self.gone,
            self.torn,
        )

    def _advance(self, position: int) -> None:
        """All before a position is checked."""
        if position > self.advanced_bytes:
            self.progress(position - self.advanced_bytes)
            self.advanced_bytes = position

    # ---- Header and footer ----------------------------------------------------

    def _check_envelope(self) -> None:
        report, around = self.report, self.around
        stored, footer, self.capacity = read_ends(self.reader, self.size, around.header)
        header = around.header or stored or self._header_from_elsewhere(footer)
        if stored is None:
            report.add(FAULT, "header", self._bad_header(header))
        if header is None:
            self._all_lost()
            return
        if header.base_offset != report.base_offset:
            report.add(FAULT, "misplaced", f"it holds offsets from {header.base_offset}")
            self._all_lost()
            return
        if around.channel_id not in (None, header.channel_id):
            report.add(FAULT, "foreign", "it belongs to another channel")
            self._all_lost()
            return
        self.header = header
        if header.capacity_bytes != self.size:
            message = f"it is {self.size} bytes long and should be {header.capacity_bytes}"
            report.add(FAULT, "size", message)
        if footer is not None and self._belongs(footer, header):
            self.footer = footer
            report.sealed = True
        elif around.next_base is not None:
            report.add(FAULT, "footer", "the footer is damaged")
            report.sealed = True

    def _header_from_elsewhere(self, footer: SegmentFooter | None) -> SegmentHeader | None:
        around, base = self.around, self.report.base_offset
        segment_id = around.segment_id
        if footer is not None and footer.base_offset == base:
            segment_id = footer.segment_id
        elif self.checkpoint is not None and self.checkpoint.segment_id:
            segment_id = bytes.fromhex(self.checkpoint.segment_id)
        if segment_id is None or self.size < OVERHEAD_BYTES:
            return None
        return SegmentHeader(base, self.size, 0, around.channel_id or NO_ID, segment_id, NO_ID)

    @staticmethod
    def _bad_header(found: SegmentHeader | None) -> str:
        if found is None:
            return "the header is damaged, and its id is nowhere else: no frame can be checked"
        return "the header is damaged; its id was found elsewhere"

    def _belongs(self, footer: SegmentFooter, header: SegmentHeader) -> bool:
        around = self.around
        return (
            footer.segment_id == header.segment_id
            and footer.base_offset == header.base_offset
            and HEADER_BYTES <= footer.end_position <= self.capacity - SEAL_BYTES
            and (not around.linked or footer.end_offset == around.next_base)
        )

    def _all_lost(self) -> None:
        """Nothing can be said of the frames; the next segment tells how many records it is."""
        base, after = self.report.base_offset, self.around.next_base
        if after is None and self.checkpoint is not None:
            after = self.checkpoint.durable_offset
        self.report.end_offset = base if after is None else after
        if after is not None:
            self._lose(Damage(base, after, 0, self.size))

    # ---- Frames ---------------------------------------------------------------

    def _lose(self, damage: Damage, append_time_ns: int = 0) -> None:
        first, after, position, end, _ = damage
        told = f"offsets {first} to {after - 1}"
        where = {"first_offset": first, "next_offset": after, "position": position, "end": end}
        if damage.marked:
            self.report.add(NOTICE, "lost", f"{told} were lost, and are marked as lost", **where)
            return
        if end > position:
            self.lost.append(Lost(damage, append_time_ns))
            told += f" are damaged (bytes {position} to {end - 1})"
        else:
            self.gone = damage
            told += " are gone"
        self.report.add(DAMAGE, "records", told, **where)

    def _take(self, frame: Frame) -> None:
        report = self.report
        report.frames += 1
        report.records += frame.record_count
        report.frame_bytes += frame.size
        self.index.add(frame.base_offset, frame.position, frame.append_time_ns)
        if report.frames == 1:
            self.first_time_ns = frame.append_time_ns
        self.last_time_ns = frame.append_time_ns
        self.durable_through = max(self.durable_through, frame.durable_through)
        if (
            frame.record_count > frame.last_offset_delta + 1
            or frame.durable_through > frame.base_offset
        ):
            self.report.add(
                FAULT,
                "frame-fields",
                f"the frame of offset {frame.base_offset} has a sound checksum over a header "
                "that makes no sense",
                position=frame.position,
            )
        if self.vouched == (frame.next_offset, frame.end):
            self.vouched = None

    def _take_run(self, run: Run) -> None:
        report, headers = self.report, run.headers
        if report.frames == 0:
            self.first_time_ns = int(headers["append_time_ns"][0])
        report.frames += len(headers)
        report.records += int(headers["record_count"].sum())
        report.frame_bytes += int(run.ends[-1] - run.positions[0])
        self.index.add_run(run)
        self.last_time_ns = run.last_append_time_ns
        self.durable_through = max(self.durable_through, int(headers["durable_through"].max()))
        if self.vouched is not None:
            at = int(np.searchsorted(run.ends, self.vouched.position))
            if at < len(headers) and self.vouched == (run.next_offsets[at], run.ends[at]):
                self.vouched = None

    def _parts(self, start: Bound, end: Bound) -> Iterator[Run | Step]:
        for part in walk_runs(self.reader, start, end, self.seed):
            yield part
            position = part.after().position
            if position - self.advanced_bytes >= WINDOW_BYTES:
                self._advance(position)

    def _check_sealed(self, footer: SegmentFooter) -> Bound:
        at = Bound(self.report.base_offset, HEADER_BYTES)
        end = Bound(footer.end_offset, footer.end_position)
        for part in self._parts(at, end):
            at = part.after()
            self._take_part(part)
        if at != end:
            self.report.add(
                FAULT,
                "footer-content",
                f"the footer says that offsets end at {end.offset}, byte {end.position}; "
                f"the frames end at {at.offset}, byte {at.position}",
            )
        elif not self.lost and not self._agrees(footer):
            self.report.add(FAULT, "footer-content", "the footer disagrees with the frames")
        self._check_padding(footer.end_position)
        return end

    def _take_part(self, part: Run | Step) -> None:
        if isinstance(part, Run):
            self._take_run(part)
        else:
            self._take_step(part)

    def _take_step(self, step: Step) -> None:
        frame, damage = step
        if frame is not None and (damage is None or damage.marked):
            self._take(frame)
        if damage is not None:
            self._lose(damage, self.last_time_ns if frame is None else frame.append_time_ns)

    def _agrees(self, footer: SegmentFooter) -> bool:
        return (
            footer.frame_count == self.report.frames
            and footer.first_append_time_ns in (self.first_time_ns, 0)
            and footer.last_append_time_ns == self.last_time_ns
        )

    def _check_padding(self, position: int) -> None:
        end = self.capacity - FOOTER_BYTES
        prefix = self.reader.read(position, PADDING_PREFIX_BYTES)
        sound = prefix == encode_padding_prefix(position, self.capacity)
        at = position + PADDING_PREFIX_BYTES
        while sound and at < end:
            length = min(WINDOW_BYTES, end - at)
            sound = not self.reader.read(at, length).strip(b"\0")
            at += length
        if not sound:
            message = "the padding between frames and footer is damaged; no record is in it"
            self.report.add(FAULT, "padding", message, position=position)

    def _check_unsealed(self) -> Bound:
        """No footer: the frames themselves have to tell where they end."""
        at = Bound(self.report.base_offset, HEADER_BYTES)
        limit = min(self.files.data_end(self.handle, HEADER_BYTES), self.capacity - SEAL_BYTES)
        limit = min(self.capacity, max(HEADER_BYTES, limit) + FRAME_HEADER_BYTES)
        for part in self._parts(at, Bound(OFFSET_MAX, limit)):
            if isinstance(part, Step) and _ends_sound(part):
                break
            self._take_part(part)
            at = part.after()
        tail = self._judge_tail(at)
        for step in tail.steps:
            self._take_step(step)
        end = tail.end
        if tail.lost_through is not None:
            after = min(tail.lost_through, self.around.next_base or tail.lost_through)
            self._lose(Damage(end.offset, after, end.position, end.position))
        elif self.around.live and self.around.next_base is None:
            self.report.live = True
            return end
        self.torn = tail.torn
        if self.torn is not None and self.around.next_base is None and self.gone is None:
            self._note_torn(*self.torn)
        return end

    def _judge_tail(self, at: Bound) -> Tail:
        """As recovery would judge it; where it is being written, what stays damaged."""
        tail = self._scan_tail(at)
        for _ in range(_LOOKS_MAX if self.around.live else 0):
            if not tail.damage and tail.lost_through is None:
                break
            before, tail = tail, self._scan_tail(at)
            if (before.damage, before.lost_through) == (tail.damage, tail.lost_through):
                break
        return tail

    def _scan_tail(self, at: Bound) -> Tail:
        around = self.around
        limit = self.capacity - SEAL_BYTES
        length = min(self.files.data_end(self.handle, at.position), limit) - at.position
        data = self.reader.read(at.position, max(0, length) + FRAME_HEADER_BYTES)
        checkpoint = around.checkpoint
        vouched = Bound(self.durable_through, 0)
        if around.next_base is not None:
            begin = padding_begin(data, at.position, self.capacity)
            vouched = Bound(around.next_base, min(begin, limit))
        elif checkpoint is not None and checkpoint.durable_offset > vouched.offset:
            known = 0 if self.checkpoint is None else checkpoint.position
            vouched = Bound(checkpoint.durable_offset, known)
        return scan_tail(data, at, self.seed, self.capacity, self.last_time_ns, vouched)

    def _note_torn(self, start: int, end: int) -> None:
        self.report.add(
            NOTICE,
            "torn",
            f"{end - start} bytes that were never acknowledged, at byte {start}, as a crash "
            "leaves them; the broker cuts them off when it starts",
            position=start,
            end=end,
        )

    # ---- Hints ----------------------------------------------------------------

    def _read_index(self) -> bytes | None:
        """The index file's content; None: there is none."""
        try:
            handle = self.files.open(self.path.with_name(index_name(self.report.base_offset)))
            return self.files.read(handle, self.files.size(handle), 0)
        except FileNotFoundError:
            return None

    def _check_index(self, raw: bytes | None) -> None:
        assert self.header is not None
        name = index_name(self.report.base_offset)
        if raw is None:
            if self.report.sealed:
                message = f"the index {name} is missing; the broker makes it again"
                self.report.add(NOTICE, "index-missing", message)
            return
        stored = SparseIndex.decode(raw, self.header.segment_id)
        if stored is None:
            message = f"the index {name} is damaged; the broker makes it again"
            self.report.add(FAULT, "index", message)
        elif not self._index_agrees(stored) and not self._was_replaced():
            message = f"the index {name} disagrees with the frames; remove it"
            self.report.add(FAULT, "index", message)

    def _index_agrees(self, stored: SparseIndex) -> bool:
        found = self.index.entries()
        said = stored.entries()
        if self.lost or self.gone:
            # Which frames have an entry depends on those that can't be read.
            known = {entry[1]: entry for entry in found}
            return all(known.get(entry[1], entry) == entry for entry in said)
        complete = len(said) == len(found) or not self.report.sealed
        return complete and said == found[: len(said)]

    def _was_replaced(self) -> bool:
        """Whether a running broker has put a compacted file in this one's place meanwhile."""
        if not self.around.live:
            return False
        handle = self.files.open(self.path)
        now = read_ends(FileReader(self.files, handle), self.files.size(handle))
        return now.footer != self.footer

    def _check_checkpoint(self) -> None:
        checkpoint = self.checkpoint
        if checkpoint is None:
            return
        assert self.header is not None
        report, end = self.report, self.end
        if checkpoint.segment_id not in ("", self.header.segment_id.hex()):
            message = "it is not the one that the checkpoint knows: it was replaced by another"
            report.add(FAULT, "replaced", message)
        elif checkpoint.durable_offset > report.end_offset:
            after = checkpoint.durable_offset
            self._lose(Damage(end.offset, after, end.position, end.position))
            report.end_offset = after
        elif self.vouched is not None and not self.lost and self.gone is None:
            if report.sealed and report.records < report.end_offset - report.base_offset:
                # Sealed since, and compacted: no frame need begin there any more.
                return
            message = "the checkpoint disagrees with the frames; remove it"
            report.add(FAULT, "checkpoint", message, position=self.vouched.position)
