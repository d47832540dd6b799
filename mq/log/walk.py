"""Walking over frames: every one in order, and the damage in place of what can't be read.

Pure. This is the one place that decides whether bytes are the next frame of a
log; reading, recovery and verification all ask here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mq.errors import DataLoss, RecordsLost
from mq.log.frames import Buffer, Frame, candidates, parse_header, records_sound

# Stands for an end whose offset is not known.
OFFSET_MAX: Final = (1 << 64) - 1


class Bound(NamedTuple):
    """A frame boundary: the offset of the frame that begins there, and its position."""

    offset: int
    position: int


class Damage(NamedTuple):
    """Records ``[first_offset, next_offset)`` at ``[position, end)`` can't be read."""

    first_offset: int
    next_offset: int
    position: int
    end: int
    # A sound frame says so, which a repair has put there.
    marked: bool = False

    def error(self) -> DataLoss:
        """The error that tells a reader."""
        if self.marked:
            return RecordsLost(
                f"offsets {self.first_offset} to {self.next_offset - 1} were damaged and are "
                f"marked as lost; read on from {self.next_offset}",
                first_offset=self.first_offset,
                next_offset=self.next_offset,
            )
        return DataLoss(
            f"offsets {self.first_offset} to {self.next_offset - 1} are damaged on disk; "
            f"read on from {self.next_offset}, and run `mq verify` on the data directory",
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )


class Step(NamedTuple):
    """One step of a walk: a frame, damage, or a frame whose records are damaged or gone."""

    # Its header is sound.
    frame: Frame | None
    damage: Damage | None

    def moved(self, distance: int) -> Step:
        """The same with all positions ``distance`` further on."""
        frame, damage = self
        if frame is not None:
            frame = frame._replace(position=frame.position + distance)
        if damage is not None:
            damage = damage._replace(position=damage.position + distance, end=damage.end + distance)
        return Step(frame, damage)

    def after(self) -> Bound:
        """Where the next step begins."""
        if self.frame is not None:
            return Bound(self.frame.next_offset, self.frame.end)
        assert self.damage is not None, "a step is a frame or damage"
        return Bound(self.damage.next_offset, self.damage.end)


def walk(
    buffer: Buffer, start: Bound, end: Bound, seed: int, append_time_ns: int = 0
) -> Iterator[Step]:
    """Step from ``start`` to ``end``, checking both CRCs, over any damage.

    Where a header is sound, damage to the records is exactly that frame.
    Otherwise it reaches to the next frame that can follow: of this segment (its
    seed), with an offset not below the one expected nor beyond the end's, and a
    time that doesn't go back. A copy of an earlier frame, inside a message that
    someone published, fits none of that.

    Args:
        buffer: Holds the frames at their positions. What lies beyond it, up to
            the end, is zeros.
        start: Where a frame begins.
        end: The limit of both; `OFFSET_MAX` where its offset is not known.
        seed: The seed of the segment's header CRCs.
        append_time_ns: The append time of the frame before.
    """
    expected, position = start
    time_ns = append_time_ns
    while position < end.position:
        frame = parse_header(buffer, position, end.position, seed)
        if (
            frame is None
            or frame.base_offset != expected
            or frame.append_time_ns < time_ns
            or frame.next_offset > end.offset
        ):
            found = _resync(buffer, Bound(expected, position + 1), end, seed, time_ns)
            if found is None:
                yield Step(None, Damage(expected, end.offset, position, end.position))
                return
            yield Step(None, Damage(expected, found.base_offset, position, found.position))
            expected, position = found.base_offset, found.position
            continue
        damage = None
        sound = records_sound(buffer, frame)
        if not sound or frame.marks_lost:
            damage = Damage(expected, frame.next_offset, position, frame.end, marked=sound)
        yield Step(frame, damage)
        expected, position, time_ns = frame.next_offset, frame.end, frame.append_time_ns


def _resync(buffer: Buffer, start: Bound, end: Bound, seed: int, time_ns: int) -> Frame | None:
    for frame in candidates(buffer, start.position, end.position, seed):
        if (
            frame.base_offset >= start.offset
            and frame.next_offset <= end.offset
            and frame.append_time_ns >= time_ns
        ):
            return frame
    return None
