"""Which segments of a log stay, each checked: what the others don't know is set aside."""

from __future__ import annotations

from pathlib import Path

from mq.log.checkpoint import Checkpoint
from mq.log.files import Files
from mq.log.jobs import Advance
from mq.log.repair.lineup import LineUp, Slot, Stranger, linked
from mq.log.segment_check import Checked, Surroundings, check_segment


class Chain:
    """The segments of a log that belong together.

    Args:
        files: The seam.
        directory: The log's.
        log_id: What the segments' headers have to say.
        checkpoint: The log's, if there is a sound one.
        advance: Told how many more bytes are read.

    Attributes:
        slots: The segments, in order.
        strangers: What is to be set aside.
        unknown_base: See `LineUp`.
        start: Where the log begins.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """

    def __init__(
        self,
        files: Files,
        directory: Path,
        log_id: bytes,
        checkpoint: Checkpoint | None,
        advance: Advance,
    ) -> None:
        self._files = files
        self._log_id = log_id
        self._checkpoint = checkpoint
        self._advance = advance
        self._checks: dict[tuple[Path, int | None, bool], Checked] = {}
        lineup = LineUp(files, directory, log_id, checkpoint)
        self.slots = lineup.slots
        self.strangers = lineup.strangers
        self.unknown_base = lineup.unknown_base
        self.start = self.slots[0].base_offset if self.slots else 0
        if checkpoint is not None:
            self.start = checkpoint.log_start_offset
        while (imposter := self._find_imposter()) is not None:
            slot, reason = imposter
            self.slots.remove(slot)
            self.strangers.append(Stranger(slot.path, reason))

    def check(self, slot: Slot, following: Slot | None) -> Checked:
        """The check of a segment, given the one that follows; made once.

        Raises:
            OSError: The device fails otherwise than by unreadable sectors.
        """
        near = following is not None and linked(slot, following)
        next_base = following.base_offset if following is not None and near else None
        known = self._checkpoint
        if following is not None and known is not None:
            known = known if near and known.segment_base == slot.base_offset else None
        key = slot.path, next_base, following is None
        if key not in self._checks:
            around = Surroundings(
                channel_id=self._log_id,
                next_base=next_base,
                linked=near,
                checkpoint=known,
                header=slot.header,
            )
            self._checks[key] = check_segment(self._files, slot.path, around, self._advance)
        return self._checks[key]

    def _find_imposter(self) -> tuple[Slot, str] | None:
        """From the end, which the checkpoint knows: each one names the one before."""
        slots, checkpoint = self.slots, self._checkpoint
        if slots and checkpoint is not None:
            last = slots[-1]
            known = checkpoint.segment_base == last.base_offset and checkpoint.segment_id
            if known and known != last.header.segment_id.hex():
                return last, "it is not the one that the checkpoint knows"
        for number in range(len(slots) - 2, -1, -1):
            before, after = slots[number], slots[number + 1]
            if linked(before, after):
                continue
            if self.check(before, after).end.offset >= after.base_offset:
                return before, f"it is not the one that {after.path.name} was written after"
            if number and not linked(slots[number - 1], before):
                return before, "neither of its neighbours knows it"
        return None
