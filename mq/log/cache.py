"""Which sealed segments are open: the most recently read, up to a bound.

Shared by all logs of a process, so that descriptors and maps stay bounded
however many segments there are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from mq.log.segment import Segment


class SegmentCache:
    """Closes the least recently read segment when more than ``open_max`` are open."""

    def __init__(self, open_max: int = 256) -> None:
        self._open_max = open_max
        self._segments: OrderedDict[Segment, None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._segments)

    def touch(self, segment: Segment) -> None:
        """Note that an open segment is read now."""
        with self._lock:
            self._segments[segment] = None
            self._segments.move_to_end(segment)
            while len(self._segments) > self._open_max:
                oldest, _ = self._segments.popitem(last=False)
                oldest.opened = None

    def drop(self, segment: Segment) -> None:
        """Close a segment if it is open."""
        with self._lock:
            self._segments.pop(segment, None)
            segment.opened = None
