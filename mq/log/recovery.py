"""What the unsealed end of a log means after a crash. Pure: bytes in, a verdict out.

The rule (docs/log_format.md, "Torn or corrupt"): let W be the largest durable
offset that anything vouches for: the checkpoint, a sealed footer, or
``durable_through`` of any frame found. A frame that can't be read and begins
below W was durable once, so it is damage, and is kept and reported. At or above W it was
never acknowledged: the log is cut there, whatever comes after, because the
kernel writes pages back in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from mq.log.frames import Frame, records_sound, walk_headers
from mq.log.segment import Bound, Damage


@dataclass(frozen=True, slots=True)
class Tail:
    """What a scan found from a known good position to the end of the data."""

    frames: list[Frame]
    end: Bound
    last_append_time_ns: int
    damage: list[Damage]
    # Bytes behind `end` that are not zeros, [start, end); None: there are none.
    torn: tuple[int, int] | None
    # W, where it lies beyond `end`: records up to it were durable and are gone.
    lost_through: int | None


def scan_tail(
    data: bytes,
    origin: int,
    seed: int,
    expected_offset: int,
    last_append_time_ns: int,
    durable_offset: int,
) -> Tail:
    """Judge ``data``, what a segment holds from position ``origin`` to its last non-zero.

    Args:
        data: The bytes from ``origin`` on; empty if only zeros follow.
        origin: Their position in the segment, where a frame begins or will begin.
        seed: The seed of the segment's header CRCs.
        expected_offset: The offset that the next frame must have.
        last_append_time_ns: The append time of the frame before.
        durable_offset: What checkpoint and footers vouch for.
    """
    headers = walk_headers(data, 0, len(data), seed, expected_offset)
    sound = [(frame, records_sound(data, frame)) for frame in headers]
    durable = max((f.durable_through for f, _ in sound), default=0)
    durable = max(durable, durable_offset)

    frames: list[Frame] = []
    damage: list[Damage] = []
    position, expected, time_ns = 0, expected_offset, last_append_time_ns
    for frame, records_ok in sound:
        skipped = frame.position != position or frame.base_offset != expected
        if (skipped or not records_ok) and expected >= durable:
            break
        if skipped:
            if frame.base_offset > expected:
                damage.append(
                    Damage(expected, frame.base_offset, origin + position, origin + frame.position)
                )
            elif frame.base_offset < expected:
                continue
        if frame.append_time_ns < time_ns:
            # Passed its CRC and still goes back in time: not of this history.
            break
        moved = frame._replace(position=origin + frame.position)
        if records_ok:
            frames.append(moved)
        elif frame.base_offset >= durable:
            break
        else:
            damage.append(Damage(frame.base_offset, frame.next_offset, moved.position, moved.end))
        position, expected, time_ns = frame.end, frame.next_offset, frame.append_time_ns

    torn = None
    if data[position:].strip(b"\0"):
        torn = (origin + position, origin + len(data.rstrip(b"\0")))
    return Tail(
        frames=frames,
        end=Bound(expected, origin + position),
        last_append_time_ns=time_ns,
        damage=damage,
        torn=torn,
        lost_through=durable if durable > expected else None,
    )
