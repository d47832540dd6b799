"""Walking over a segment file by windows, past what the device can't read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from mq.log.files import Files, Handle
from mq.log.runs import Run, find_run
from mq.log.walk import Bound, Step, walk

WINDOW_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096


class FileReader:
    """Reads a file; pages that can't be read are zeros, and noted."""

    def __init__(self, files: Files, handle: Handle) -> None:
        self.path = handle.path
        self._files = files
        self._handle = handle
        # The beginnings of pages that can't be read.
        self.unreadable: set[int] = set()

    def read(self, position: int, length: int) -> bytes:
        """``length`` bytes from ``position`` on; zeros beyond the file's end.

        Raises:
            OSError: Something else is wrong than unreadable sectors.
        """
        try:
            data = self._files.read(self._handle, length, position)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b"".join(self._pages(position, length))
        return data.ljust(length, b"\0")

    def _pages(self, position: int, length: int) -> Iterator[bytes]:
        end = position + length
        while position < end:
            after = min(end, (position // PAGE_BYTES + 1) * PAGE_BYTES)
            try:
                data = self._files.read(self._handle, after - position, position)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self.unreadable.add(position // PAGE_BYTES * PAGE_BYTES)
                data = b""
            yield data.ljust(after - position, b"\0")
            position = after


def walk_file(
    reader: FileReader,
    start: Bound,
    end: Bound,
    seed: int,
    append_time_ns: int = 0,
    window_bytes: int = WINDOW_BYTES,
) -> Iterator[Step]:
    """Like `walk`, over a file, with no more of it in memory than is needed."""
    for part in walk_runs(reader, start, end, seed, append_time_ns, window_bytes):
        if isinstance(part, Run):
            yield from part.steps()
        else:
            yield part


def walk_runs(
    reader: FileReader,
    start: Bound,
    end: Bound,
    seed: int,
    append_time_ns: int = 0,
    window_bytes: int = WINDOW_BYTES,
) -> Iterator[Run | Step]:
    """The same with frames of which there is nothing to tell taken together."""
    at, time_ns = start, append_time_ns
    length = window_bytes
    while at.position < end.position:
        origin = at.position
        length = min(length, end.position - origin)
        data = reader.read(origin, length)
        last = origin + length == end.position
        begin, limit = Bound(at.offset, 0), Bound(end.offset, length)
        run = find_run(data, begin, limit, seed, time_ns)
        if run is not None:
            begin, time_ns = run.after(), run.last_append_time_ns
            moved_run = run.moved(origin)
            yield moved_run
            at = moved_run.after()
        for step in walk(data, begin, limit, seed, time_ns):
            if not last and step.frame is None and step.after().position == length:
                # It may only go on behind the window.
                break
            moved = step.moved(origin)
            yield moved
            at = moved.after()
            if step.frame is not None:
                time_ns = step.frame.append_time_ns
        length = window_bytes if at.position > origin else length * 4
