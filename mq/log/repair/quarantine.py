"""Where a repair puts what it replaces: ``DATA_DIR/quarantine/<number>/``.

A number for each run; below it, the paths of the data directory. Bytes of a
file are in ``<file>.<position>-<end>``. The broker never looks there.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from mq.log.files import Files, Handle
from mq.log.filewalk import WINDOW_BYTES, FileReader
from mq.log.layout import QUARANTINE_NAME

_REPORT_NAME = "report.json"


class Quarantine:
    """The quarantine of one run; its directory is made when it is needed first.

    Args:
        files: The seam.
        root: The data directory.
    """

    def __init__(self, files: Files, root: Path) -> None:
        self._files = files
        self._root = root
        self.path: Path | None = None

    def keep(self, path: Path, position: int, end: int) -> None:
        """Copy bytes of a file; pages that the device can't read are zeros in the copy.

        Raises:
            OSError: It can't be done; nothing may be overwritten then.
        """
        source = self._files.open(path)
        end = min(end, self._files.size(source))
        if position >= end:
            return
        target = self._place(path)
        copy = target.with_name(f"{target.name}.{position}-{end}")
        self._copy(source, copy, position, end)

    def keep_file(self, path: Path) -> None:
        """Copy a whole file, if it is there.

        Raises:
            OSError: It can't be done.
        """
        try:
            source = self._files.open(path)
        except FileNotFoundError:
            return
        self._copy(source, self._place(path), 0, self._files.size(source))

    def move(self, path: Path) -> None:
        """Take a file or directory away.

        Raises:
            OSError: It can't be done.
        """
        target = self._place(path)
        self._files.rename(path, target)
        self._files.sync_dir(target.parent)
        self._files.sync_dir(path.parent)

    def write_report(self, values: dict[str, Any]) -> None:
        """Say in the quarantine what this run is about, if there is one."""
        if self.path is not None:
            content = json.dumps(values, indent=2).encode() + b"\n"
            self._files.replace(self.path / _REPORT_NAME, content)

    def _copy(self, source: Handle, target: Path, position: int, end: int) -> None:
        reader = FileReader(self._files, source)
        copy = self._files.create(target)
        for at in range(position, end, WINDOW_BYTES):
            length = min(WINDOW_BYTES, end - at)
            self._files.write(copy, [reader.read(at, length)], at - position)
        self._files.sync(copy)
        self._files.sync_dir(target.parent)

    def _place(self, path: Path) -> Path:
        """Where a file's copy goes; its directory is made."""
        if self.path is None:
            self.path = self._make()
        place = self.path
        for part in path.relative_to(self._root).parts[:-1]:
            place /= part
            self._mkdir(place)
        return place / path.name

    def _make(self) -> Path:
        parent = self._root / QUARANTINE_NAME
        self._mkdir(parent)
        taken = [int(name) for name in self._files.list(parent) if name.isdecimal()]
        path = parent / f"{max(taken, default=0) + 1:04d}"
        self._mkdir(path)
        return path

    def _mkdir(self, path: Path) -> None:
        try:
            self._files.mkdir(path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        else:
            self._files.sync_dir(path.parent)
