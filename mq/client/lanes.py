"""Producer ids for single calls: a repeat is recognised, however many run at once.

A broker takes the sequences of one producer id in order and remembers a limited
number of ids. So a call takes a lane, an id with its next sequence, for itself,
and gives it back when it was answered; as many lanes exist as calls ran at
once. The lane last given back is used first, which keeps few of them warm. A
call that fails drops its lane: whether its sequence was used is not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Lane:
    """A producer id that one call at a time uses."""

    producer_id: int
    next_sequence: int = 1


class LanePool:
    """The lanes of one client, by channel. Safe to use from several threads."""

    def __init__(self, new_producer_id: Callable[[], int]) -> None:
        self._new_producer_id = new_producer_id
        self._free: defaultdict[str, list[Lane]] = defaultdict(list)

    def take(self, channel: str) -> Lane:
        """A lane that no other call uses."""
        try:
            return self._free[channel].pop()
        except IndexError:
            return Lane(self._new_producer_id())

    def give_back(self, channel: str, lane: Lane) -> None:
        """Return the lane of a call that was acknowledged."""
        lane.next_sequence += 1
        self._free[channel].append(lane)
