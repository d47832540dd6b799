"""The room left on the data directory's device."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from mq.broker.model import Stats
from mq.errors import DiskFull

_CHECK_S = 0.5
_DAY_S = 86_400


class DiskWatch:
    """Refuses publishes while there is too little room.

    Args:
        free_bytes: Asks the device.
        free_bytes_min: What has to stay free.
        stats: Told what is free.
        loop: Its clock says when to ask again.
    """

    def __init__(
        self,
        free_bytes: Callable[[], int],
        free_bytes_min: int,
        stats: Stats,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._free_bytes = free_bytes
        self._free_bytes_min = free_bytes_min
        self._stats = stats
        self._loop = loop
        self._checked_s = loop.time() - _CHECK_S

    def check(self) -> None:
        """Refuse a publish while the device has too little room.

        Raises:
            DiskFull: There is less free than ``free_bytes_min``.
        """
        now_s = self._loop.time()
        if now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            # Where it can't be asked, writing finds out what is wrong.
            with contextlib.suppress(OSError):
                self.look()
        if self._stats.disk_free_bytes < self._free_bytes_min:
            raise DiskFull(
                f"{self._stats.disk_free_bytes} bytes are free on the data directory's disk, less "
                f"than min_free_bytes {self._free_bytes_min}: nothing was written. Free some "
                "space, or delete channels; publishing works again by itself"
            )

    def look(self) -> int:
        """Ask the device what is free, in bytes."""
        free = self._stats.disk_free_bytes = self._free_bytes()
        return free

    def days_to_full(self, bytes_per_second: float) -> float:
        """Days until publishes are refused at that rate; 0 if nothing is published."""
        room = max(0, self.look() - self._free_bytes_min)
        return room / bytes_per_second / _DAY_S if bytes_per_second else 0.0
