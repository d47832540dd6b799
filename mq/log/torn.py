"""A torn tail: kept in a file of its own, then overwritten with zeros.

Never acknowledged, as far as anything shows; but damage to the very last
records looks the same, so it is not thrown away.
"""

from __future__ import annotations

from pathlib import Path

from mq.log.files import Files, Handle
from mq.log.format import TORN_SUFFIX


class TornTail:
    """Bytes ``[start, end)`` of a segment that are to be cut off.

    Args:
        files: The seam.
        handle: The segment's file, open for writing.
        start: Where its sound frames end.
        end: Where its last byte that is not zero ends.
    """

    def __init__(self, files: Files, handle: Handle, start: int, end: int) -> None:
        self._files = files
        self._handle = handle
        self._start = start
        self._end = end
        # Where it was kept.
        self.aside: Path | None = None

    @property
    def description(self) -> str:
        """What it is, for a notice."""
        return (
            f"{self._end - self._start} bytes that were never acknowledged, "
            f"at the end of {self._handle.path.name}"
        )

    def cut(self) -> None:
        """Keep it aside, then zero it, so that nothing of it is ever found again.

        Raises:
            OSError: As when the disk is full; to be called again then.
        """
        if self.aside is None:
            self.aside = self._keep()
        self._files.write_zeros(self._handle, self._start, self._end)
        self._files.sync_data(self._handle)

    def _keep(self) -> Path:
        segment = self._handle.path
        taken = set(self._files.list(segment.parent))
        serial = 1
        while (name := f"{segment.stem}.{self._start}-{serial}{TORN_SUFFIX}") in taken:
            serial += 1
        aside = segment.with_name(name)
        content = self._files.read(self._handle, self._end - self._start, self._start)
        self._files.replace(aside, content)
        return aside
