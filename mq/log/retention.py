"""Which segments retention removes. Pure: sizes and times in, a choice out.

Only sealed segments go, oldest first, and only a whole run from the log's
start: what stays is always one dense range of offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of a channel; 0: none.

    ``held_from``: the first offset that some group has not acknowledged, if the
    channel keeps such records; ``held_bytes_max`` is the size at which they go
    all the same, 0: never.
    """

    retention_ms: int = 0
    retention_bytes: int = 0
    retention_records: int = 0
    held_from: int | None = None
    held_bytes_max: int = 0

    @property
    def limited(self) -> bool:
        """Whether there is anything to enforce."""
        return bool(
            self.retention_ms
            or self.retention_bytes
            or self.retention_records
            or (self.held_from is not None and self.held_bytes_max)
        )


class SegmentFacts(NamedTuple):
    """What the choice depends on; the last segment of a log is never removed."""

    base_offset: int
    end_offset: int
    size_bytes: int
    last_append_time_ns: int


class Removal(NamedTuple):
    """A segment to remove, and why."""

    segment: SegmentFacts
    reason: str


def choose(segments: Sequence[SegmentFacts], policy: Policy, now_ns: int) -> list[Removal]:
    """The segments to remove now, oldest first.

    A limit in bytes or records is met when removing one more segment would go
    below it: so between the limit and the limit plus one segment is kept.

    Args:
        segments: All segments of the log, oldest first; the last is the active one.
        policy: The limits.
        now_ns: Unix nanoseconds. The clock may have gone back; nothing goes early.
    """
    removals = []
    left_bytes = sum(segment.size_bytes for segment in segments)
    left_records = segments[-1].end_offset - segments[0].base_offset if segments else 0
    for segment in segments[:-1]:
        left_bytes -= segment.size_bytes
        left_records -= segment.end_offset - segment.base_offset
        reason = _reason(segment, policy, now_ns, left_bytes, left_records)
        if reason is None:
            break
        removals.append(Removal(segment, reason))
    return removals


def _reason(
    segment: SegmentFacts, policy: Policy, now_ns: int, left_bytes: int, left_records: int
) -> str | None:
    """Why the oldest segment goes, if it does; ``left_…`` is what remains without it."""
    held = policy.held_from is not None and segment.end_offset > policy.held_from
    if held:
        if policy.held_bytes_max and left_bytes >= policy.held_bytes_max:
            return f"over retain_unacknowledged_bytes {policy.held_bytes_max}"
        return None
    age_ms = (now_ns - segment.last_append_time_ns) // 1_000_000
    if policy.retention_ms and age_ms > policy.retention_ms:
        return f"its last record is {age_ms} ms old, over retention_ms {policy.retention_ms}"
    if policy.retention_bytes and left_bytes >= policy.retention_bytes:
        return f"{left_bytes} bytes remain without it, retention_bytes is {policy.retention_bytes}"
    if policy.retention_records and left_records >= policy.retention_records:
        return (
            f"{left_records} records remain without it, "
            f"retention_records is {policy.retention_records}"
        )
    return None
