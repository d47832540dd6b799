"""The next segment's file, allocated before it is needed.

Allocating and syncing a large file takes a while, and is done in another
thread than the one that appends. A file never has the name of another that is
still in use: each gets a number of its own.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Final

from mq.log.files import Files, Handle
from mq.log.format import SCRATCH_SUFFIX

# How far before its frames a segment's blocks are written, as zeros; see `Writer`.
ZERO_AHEAD_BYTES: Final = 1 << 20


def zeroed_bytes(capacity_bytes: int) -> int:
    """How much of a new file is written already."""
    return min(capacity_bytes, ZERO_AHEAD_BYTES)


class Spare:
    """At most one allocated file that waits to become a segment. Thread-safe."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._lock = threading.Lock()
        self._ready: tuple[Handle, int] | None = None
        self._serial = 0
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        return self._ready is not None

    def prepare(self, capacity_bytes: int) -> None:
        """Allocate one, unless there is one.

        Raises:
            OSError: There is no room.
        """
        with self._lock:
            if self._ready is None and not self._closed:
                self._ready = self._allocate(capacity_bytes)

    def take(self, needed_bytes: int, capacity_bytes: int) -> tuple[Handle, int]:
        """The one that waits if it has ``needed_bytes``, else a new one; with its capacity.

        Raises:
            OSError: There is no room.
        """
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is not None:
                if ready[1] >= needed_bytes:
                    return ready
                self.discard(ready[0])
            return self._allocate(capacity_bytes)

    def give_back(self, handle: Handle, capacity_bytes: int) -> None:
        """Keep one that was taken and not used."""
        with self._lock:
            self._ready = handle, capacity_bytes

    def discard(self, handle: Handle) -> None:
        """Remove the file of one that can't be used."""
        with contextlib.suppress(OSError):
            self._files.unlink(handle.path)

    def close(self) -> None:
        """Remove what waits, and prepare nothing any more."""
        with self._lock:
            self._closed = True
            if self._ready is not None:
                self.discard(self._ready[0])
                self._ready = None

    def _allocate(self, capacity_bytes: int) -> tuple[Handle, int]:
        self._serial += 1
        handle = self._files.create(self._directory / f"next-{self._serial}{SCRATCH_SUFFIX}")
        try:
            self._files.allocate(handle, capacity_bytes)
            self._files.write_zeros(handle, 0, zeroed_bytes(capacity_bytes))
            self._files.sync(handle)
        except OSError:
            self.discard(handle)
            raise
        return handle, capacity_bytes
