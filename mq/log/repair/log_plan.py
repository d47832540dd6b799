"""What is to be done in one log so that it is whole again: a list of steps.

Reads only. Every segment is checked as verification does it; what can't be read
becomes lost ranges, and everything that is not as it should be a step.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from mq.log.envelope import SegmentHeader
from mq.log.files import Files
from mq.log.filewalk import PAGE_BYTES
from mq.log.format import (
    CHECKPOINT_NAME,
    HEADER_BYTES,
    ID_BYTES,
    NO_ID,
    OVERHEAD_BYTES,
    SEAL_BYTES,
    SEGMENT_BYTES_FIRST,
    SEGMENT_BYTES_MAX,
    SEGMENT_GROWTH,
    segment_name,
)
from mq.log.frames import segment_seed
from mq.log.jobs import Advance
from mq.log.layout import log_id
from mq.log.log_check import load_checkpoint
from mq.log.lost import lost_bytes
from mq.log.repair.chain import Chain
from mq.log.repair.lineup import CAPACITY_STEP_BYTES, Slot, pairs
from mq.log.repair.marks import Marks, plan_marks
from mq.log.repair.report import Action
from mq.log.repair.steps import (
    AddSegment,
    Clear,
    MarkLost,
    Rearrange,
    Resize,
    Seal,
    SetAside,
    Settle,
    Step,
    WriteHeader,
)
from mq.log.report import LogReport
from mq.log.segment_check import Checked, Lost
from mq.log.walk import Bound, Damage

_SEAL_KINDS: Final = frozenset({"footer", "footer-content", "padding"})
_INDEX_KINDS: Final = frozenset({"index", "index-missing"})
# Kinds of findings for which the checkpoint is written anew; with it the index of
# the last segment is.
_CHECKPOINT_KINDS: Final = frozenset({"checkpoint", "index"})
_RECORD_BYTES_MIN: Final = 2


class LogPlan:
    """The plan for one log.

    Args:
        files: The seam.
        root: The data directory.
        directory: The log's.
        kind: Whose log it is, ``channel`` or ``groups``.
        advance: Told how many more bytes are read.

    Attributes:
        steps: What is to be done, in order.
        left: What can't be repaired.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """

    def __init__(
        self, files: Files, root: Path, directory: Path, kind: str, advance: Advance
    ) -> None:
        self._root = root
        self._directory = directory
        self._kind = kind
        self._id = log_id(kind, directory)
        self.steps: list[Step] = []
        self.left: list[str] = []
        report = LogReport(kind, directory.name, str(directory))
        self._checkpoint = load_checkpoint(files, directory, report)
        # Whether it has to be made anew.
        self._changed = bool(report.own_findings)
        self._chain = Chain(files, directory, self._id, self._checkpoint, advance)
        # Of the segment planned last: its id, the time of its end, and where it ends.
        self._previous_id: bytes | None = None
        self._time_ns = 0
        self._end = Bound(self._chain.start, HEADER_BYTES)
        self._plan_files()
        for slot, following in pairs(self._chain.slots):
            self._plan_segment(slot, following)
        self._plan_end()
        self._plan_checkpoint()

    # ---- Whole files ----------------------------------------------------------

    def _plan_files(self) -> None:
        for path, reason in self._chain.strangers:
            remedy = "move it into the quarantine"
            self.steps.append(SetAside(Action("set-aside", self._name(path), reason, remedy), path))
        slots = self._chain.slots
        moves = [(s.path, s.proper_path) for s in slots if s.path != s.proper_path]
        if moves:
            names = ", ".join(f"{path.name} to {target.name}" for path, target in moves)
            problem = f"{len(moves)} of its segments are not under their own names"
            action = Action("rename", self._name(self._directory), problem, f"rename {names}")
            self.steps.append(Rearrange(action, moves))

    # ---- One segment ----------------------------------------------------------

    def _plan_segment(self, slot: Slot, following: Slot | None) -> None:
        checked = self._chain.check(slot, following)
        if slot.base_offset > self._end.offset:
            named = slot.header.previous_segment_id if slot.names_previous else None
            problem = f"what was before {slot.proper_path.name} is missing"
            self._add_segment(problem, slot.base_offset, named, sealed=True)
        path, kinds = slot.proper_path, {f.kind for f in checked.report.findings}
        sealed = checked.report.sealed or following is not None
        marks = self._marks(slot, checked, following, sealed=sealed)
        capacity = slot.header.capacity_bytes
        if marks.end.position + SEAL_BYTES > capacity:
            capacity = _round_up(marks.end.position + SEAL_BYTES)
        header = slot.header._replace(
            capacity_bytes=capacity,
            previous_segment_id=self._previous_id or slot.header.previous_segment_id,
        )
        if header != slot.header or not slot.header_sound:
            self._write_header(path, header, sound=slot.header_sound)
        resized = capacity != slot.size_bytes
        if resized:
            problem = f"it is {slot.size_bytes} bytes long and should be {capacity}"
            action = Action("size", self._name(path), problem, "make it that long")
            self.steps.append(Resize(action, path, capacity))
        if not sealed:
            self._clear(path, checked)
        for lost in marks.lost:
            self._mark(path, segment_seed(header.segment_id), lost, checked)
        if sealed:
            changed = resized or not checked.report.sealed
            self._seal(path, header, marks.end, kinds, changed=changed, marked=bool(marks.lost))
        self._previous_id, self._end = header.segment_id, marks.end
        times = [lost.append_time_ns for lost in marks.lost]
        self._time_ns = max(self._time_ns, checked.last_append_time_ns, *times, 0)
        self._changed |= following is None and bool(kinds & _CHECKPOINT_KINDS)

    def _marks(
        self, slot: Slot, checked: Checked, following: Slot | None, *, sealed: bool
    ) -> Marks:
        found, gone = list(checked.lost), checked.gone
        if gone is not None and following is None:
            # Of a sealed one, it was in a segment of its own.
            room_bytes = slot.header.capacity_bytes - SEAL_BYTES - gone.position
            gone = None if sealed else self._with_unknown(gone, room_bytes)
        if gone is not None:
            found.append(Lost(gone, checked.last_append_time_ns))
        marks = plan_marks(found, checked.end, self._time_ns)
        for damage in marks.left:
            where = f"bytes {damage.position} to {damage.end - 1} are no frame"
            self.left.append(f"{self._name(slot.proper_path)}: {where}")
        return marks

    def _write_header(self, path: Path, header: SegmentHeader, *, sound: bool) -> None:
        problem = "does not fit what is around it" if sound else "is damaged"
        action = Action("header", self._name(path), f"its header {problem}", "write it anew")
        self.steps.append(WriteHeader(action, path, header))

    def _clear(self, path: Path, checked: Checked) -> None:
        """What is behind the frames of a segment that will be appended to."""
        if checked.torn is not None:
            start, after = checked.torn
            problem = f"{after - start} bytes behind its end were never acknowledged"
            self._clear_bytes("cut-torn", path, problem, start, after)
            self._changed = True
        for finding in checked.report.findings:
            at = finding.position
            if finding.kind == "unreadable" and at is not None and at >= checked.end.position:
                problem = f"the device can't read the page at byte {at}"
                self._clear_bytes("unreadable", path, problem, at, at + PAGE_BYTES)

    def _clear_bytes(self, kind: str, path: Path, problem: str, position: int, end: int) -> None:
        action = Action(
            kind, self._name(path), problem, "overwrite them with zeros", position=position, end=end
        )
        self.steps.append(Clear(action, path, position, end))

    def _mark(self, path: Path, seed: int, lost: Lost, checked: Checked) -> None:
        first, after, position, end, _ = lost.damage
        known = min(after, max(checked.report.end_offset, first))
        action = Action(
            "mark-lost",
            self._name(path),
            f"offsets {first} to {known - 1} are damaged or gone",
            self._remedy("mark them as lost", known, after),
            first,
            known,
            position,
            end,
        )
        self.steps.append(MarkLost(action, path, seed, lost.damage, lost.append_time_ns))
        self._changed = True

    def _seal(
        self,
        path: Path,
        header: SegmentHeader,
        end: Bound,
        kinds: set[str],
        *,
        changed: bool,
        marked: bool,
    ) -> None:
        name = self._name(path)
        if changed or kinds & _SEAL_KINDS:
            problem = "its end does not tell what is in it"
            action = Action("seal", name, problem, "write padding, footer and index anew")
        elif marked:
            problem = "its footer and index are older than its marks"
            action = Action("seal", name, problem, "write them anew")
        elif kinds & _INDEX_KINDS:
            problem = "its index is missing, damaged or wrong"
            action = Action("index", name, problem, "write it anew")
        else:
            return
        self.steps.append(Seal(action, path, header, end))

    # ---- What is missing ------------------------------------------------------

    def _plan_end(self) -> None:
        """What was stored behind the last segment, or instead of all of them."""
        slots, checkpoint, unknown = self._chain.slots, self._checkpoint, self._chain.unknown_base
        known = max(checkpoint.durable_offset if checkpoint else 0, unknown or 0)
        if slots and not self._chain.check(slots[-1], None).report.sealed:
            return
        if known <= self._end.offset and unknown is None:
            return
        named = None
        if checkpoint is not None and checkpoint.segment_base == self._end.offset:
            named = bytes.fromhex(checkpoint.segment_id) or None
        room_bytes = SEGMENT_BYTES_MAX
        if slots:
            room_bytes = min(slots[-1].header.capacity_bytes * SEGMENT_GROWTH, room_bytes)
        known = max(known, self._end.offset)
        gone = Damage(self._end.offset, known, HEADER_BYTES, HEADER_BYTES)
        after = self._with_unknown(gone, room_bytes).next_offset
        self._add_segment("the end of the log is missing", after, named, sealed=False, known=known)

    def _with_unknown(self, gone: Damage, room_bytes: int) -> Damage:
        """What was stored after the last checkpoint is known to no one.

        No more than there was room for. After a stop in order there was nothing.
        """
        if self._checkpoint is not None and self._checkpoint.clean:
            return gone
        return gone._replace(next_offset=gone.next_offset + room_bytes // _RECORD_BYTES_MIN)

    def _add_segment(
        self,
        problem: str,
        next_offset: int,
        segment_id: bytes | None,
        *,
        sealed: bool,
        known: int | None = None,
    ) -> None:
        first = self._end.offset
        known = next_offset if known is None else known
        lost = Damage(first, next_offset, HEADER_BYTES, HEADER_BYTES)
        need = OVERHEAD_BYTES + lost_bytes(lost)
        header = SegmentHeader(
            base_offset=first,
            capacity_bytes=_round_up(need if sealed else max(need, SEGMENT_BYTES_FIRST)),
            created_ns=0,
            channel_id=self._id,
            segment_id=segment_id or self._made_up_id(first),
            previous_segment_id=self._previous_id or NO_ID,
        )
        if known > first:
            problem += f", with offsets {first} to {known - 1}"
        action = Action(
            "add-segment",
            self._name(self._directory / segment_name(first)),
            problem,
            self._remedy("add a segment that marks them as lost", known, next_offset),
            first,
            known,
        )
        step = AddSegment(action, self._directory, header, lost, self._time_ns, sealed)
        self.steps.append(step)
        self._previous_id = header.segment_id
        self._end = Bound(next_offset, HEADER_BYTES + lost_bytes(lost))
        self._changed = True

    def _remedy(self, remedy: str, known: int, next_offset: int) -> str:
        if next_offset > known:
            remedy += f", and leave out offsets up to {next_offset - 1}, so that none is used twice"
        if self._kind == "groups":
            remedy += "; the channel's consumer groups may be given messages again"
        return remedy

    def _made_up_id(self, base_offset: int) -> bytes:
        """The same at each try."""
        salt = self._id + base_offset.to_bytes(8, "little")
        return hashlib.blake2b(salt, digest_size=ID_BYTES, person=b"mq-repair").digest()

    # ---- The checkpoint -------------------------------------------------------

    def _plan_checkpoint(self) -> None:
        checkpoint, slots = self._checkpoint, self._chain.slots
        if checkpoint is not None and slots:
            # Nothing of it is lost, but its segment is missing.
            self._changed |= checkpoint.segment_base > slots[-1].base_offset
        if not self._changed:
            return
        name = self._name(self._directory / CHECKPOINT_NAME)
        problem = "it is damaged or does not fit the segments any more"
        action = Action("checkpoint", name, problem, "write it anew")
        self.steps.append(
            Settle(action, self._directory, self._id, checkpoint, self._chain.start, self._end)
        )

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))


def _round_up(size_bytes: int) -> int:
    return -(-size_bytes // CAPACITY_STEP_BYTES) * CAPACITY_STEP_BYTES
