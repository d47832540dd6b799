"""Which file of a log is which segment: by what headers, footers and neighbours say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from mq.log.checkpoint import Checkpoint
from mq.log.ends import Ends, read_ends
from mq.log.envelope import SegmentHeader
from mq.log.files import Files
from mq.log.filewalk import FileReader
from mq.log.format import NO_ID, parse_segment_name, segment_name
from mq.log.frames import segment_seed
from mq.log.repair.seed import find_seed, id_with_seed

# A segment on its way to another name.
MOVED_SUFFIX: Final = ".moved"
CAPACITY_STEP_BYTES: Final = 4096


@dataclass(slots=True)
class Slot:
    """A file that is a segment of the log.

    Attributes:
        path: Where it is.
        header: What its header says, or would if it were sound.
        header_sound: Whether it says so.
        size_bytes: The file's length.
    """

    path: Path
    header: SegmentHeader
    header_sound: bool
    size_bytes: int

    @property
    def base_offset(self) -> int:
        """Where it begins."""
        return self.header.base_offset

    @property
    def names_previous(self) -> bool:
        """Whether it says which segment came before."""
        return self.header.previous_segment_id != NO_ID

    @property
    def proper_path(self) -> Path:
        """Where it belongs."""
        return self.path.with_name(segment_name(self.base_offset))


class Stranger(NamedTuple):
    """A file that is no segment of the log, or not the one it should be."""

    path: Path
    reason: str


class _Candidate(NamedTuple):
    path: Path
    size_bytes: int
    ends: Ends
    base_offset: int
    # Under its own name.
    in_place: bool


class LineUp:
    """The segments of a log, in order.

    Args:
        files: The seam.
        directory: The log's.
        channel_id: What the segments' headers have to say.
        checkpoint: The log's, if there is a sound one.

    Attributes:
        slots: The segments.
        strangers: What is to be set aside.
        unknown_base: Where something that may have been the last segment begins, of
            which nothing else is left.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """

    def __init__(
        self, files: Files, directory: Path, channel_id: bytes, checkpoint: Checkpoint | None
    ) -> None:
        self._files = files
        self._channel_id = channel_id
        self._checkpoint = checkpoint
        self.strangers: list[Stranger] = []
        self.unknown_base: int | None = None
        self.slots = self._resolve(self._pick(self._candidates(directory)))

    def _candidates(self, directory: Path) -> Iterator[_Candidate]:
        for name in self._files.list(directory):
            base = parse_segment_name(name.removesuffix(MOVED_SUFFIX))
            if base is None:
                continue
            path = directory / name
            handle = self._files.open(path)
            size = self._files.size(handle)
            ends = read_ends(FileReader(self._files, handle), size)
            if ends.header is not None and ends.header.channel_id != self._channel_id:
                self.strangers.append(Stranger(path, "it belongs to another log"))
                continue
            claimed = base if ends.header is None else ends.header.base_offset
            yield _Candidate(path, size, ends, claimed, name == segment_name(claimed))

    def _pick(self, candidates: Iterator[_Candidate]) -> list[_Candidate]:
        """One for each base offset, in order; without those that were being removed."""
        by_base: dict[int, _Candidate] = {}
        for each in candidates:
            other = by_base.setdefault(each.base_offset, each)
            if other is each:
                continue
            # A sound header before a damaged one, its own place before another's.
            best = max(other, each, key=lambda c: (c.ends.header is not None, c.in_place))
            worse = each if best is other else other
            self.strangers.append(Stranger(worse.path, f"{best.path.name} is this segment"))
            by_base[each.base_offset] = best
        picked = [by_base[base] for base in sorted(by_base)]
        start = self._checkpoint.log_start_offset if self._checkpoint else 0
        while len(picked) > 1 and picked[1].base_offset <= start:
            picked.pop(0)
        return picked

    def _resolve(self, candidates: list[_Candidate]) -> list[Slot]:
        """From the last to the first: each is named by the one that follows."""
        slots: list[Slot] = []
        for each in reversed(candidates):
            header = each.ends.header
            if header is None:
                segment_id = self._id_from_elsewhere(each, slots[-1] if slots else None)
                if segment_id is None:
                    reason = "its header is damaged, and its id is nowhere else"
                    self.strangers.append(Stranger(each.path, reason))
                    if not slots and self.unknown_base is None:
                        self.unknown_base = each.base_offset
                    continue
                capacity = -(-each.size_bytes // CAPACITY_STEP_BYTES) * CAPACITY_STEP_BYTES
                header = SegmentHeader(
                    base_offset=each.base_offset,
                    capacity_bytes=max(capacity, CAPACITY_STEP_BYTES),
                    created_ns=0,
                    channel_id=self._channel_id,
                    segment_id=segment_id,
                    previous_segment_id=NO_ID,
                )
            slots.append(Slot(each.path, header, each.ends.header is not None, each.size_bytes))
        slots.reverse()
        return slots

    def _id_from_elsewhere(self, candidate: _Candidate, following: Slot | None) -> bytes | None:
        base, footer, checkpoint = candidate.base_offset, candidate.ends.footer, self._checkpoint
        ids = []
        if footer is not None and footer.base_offset == base:
            ids.append(footer.segment_id)
        if following is not None and following.names_previous:
            ids.append(following.header.previous_segment_id)
        if checkpoint is not None and checkpoint.segment_base == base and checkpoint.segment_id:
            ids.append(bytes.fromhex(checkpoint.segment_id))
        # The next one may name another, between them, that is missing.
        reader = FileReader(self._files, self._files.open(candidate.path))
        seed = find_seed(reader, base, candidate.size_bytes)
        for each in ids:
            if seed in (None, segment_seed(each)):
                return each
        if seed is None:
            return None
        return id_with_seed(seed, self._channel_id + base.to_bytes(8, "little"))


def linked(before: Slot, after: Slot) -> bool:
    """Whether ``after`` was written after ``before``, as far as it says."""
    previous = after.header.previous_segment_id
    return previous in (NO_ID, before.header.segment_id)


def pairs(slots: list[Slot]) -> Iterator[tuple[Slot, Slot | None]]:
    """Each segment and the one that follows."""
    return itertools.zip_longest(slots, slots[1:])
