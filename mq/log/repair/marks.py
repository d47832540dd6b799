"""Which ranges of a segment are to be marked as lost, and where it ends then. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mq.log.lost import lost_bytes
from mq.log.segment_check import Lost
from mq.log.walk import Bound, Damage


class Marks(NamedTuple):
    """What is to be marked in a segment.

    Attributes:
        lost: In order; together with what is sound they fill the segment.
        end: Where its frames end then.
        left: What can't be marked: bytes that are no frame and stand for no record.
    """

    lost: list[Lost]
    end: Bound
    left: list[Damage]


def plan_marks(found: Iterable[Lost], end: Bound, append_time_ns: int) -> Marks:
    """Decide what to mark.

    Args:
        found: What is damaged, in order, and at last what is gone behind the end.
        end: Where the segment's frames end, damaged ones included.
        append_time_ns: The time of the last frame before the segment.
    """
    lost, left, time_ns = [], [], append_time_ns
    for damage, own_time_ns in _merged(found):
        time_ns = max(time_ns, own_time_ns)
        need_bytes = lost_bytes(damage)
        last = damage.end >= end.position
        if need_bytes == 0 or (need_bytes > damage.end - damage.position and not last):
            left.append(damage)
            continue
        after = max(damage.end, damage.position + need_bytes)
        if last:
            end = Bound(damage.next_offset, after)
        lost.append(Lost(damage._replace(end=after), time_ns))
    return Marks(lost, end, left)


def _merged(found: Iterable[Lost]) -> Iterator[Lost]:
    """Damage that goes on where the one before ends is one with it."""
    current: Lost | None = None
    for each in found:
        damage = each.damage
        if current is not None:
            before = current.damage
            if (before.next_offset, before.end) == (damage.first_offset, damage.position):
                whole = before._replace(next_offset=damage.next_offset, end=damage.end)
                current = Lost(whole, current.append_time_ns)
                continue
            yield current
        current = each
    if current is not None:
        yield current
