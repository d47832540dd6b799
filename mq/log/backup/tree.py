"""The directory in which a backup is made, and what earlier backups have for it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mq.log.backup.manifest import FileEntry, Manifest
from mq.log.backup.transfer import Identity, copy_file, identity_of, link_file
from mq.log.files import Files


class Earlier(NamedTuple):
    """A complete backup made before; ``root`` is where its data is."""

    root: Path
    manifest: Manifest


@dataclass(slots=True)
class Counts:
    """How the bytes of a backup came into it."""

    copied_bytes: int = 0
    linked_bytes: int = 0
    # Linked to an earlier backup, or there since a run that was interrupted.
    kept_bytes: int = 0


@dataclass(slots=True)
class Tree:
    """Takes files into a backup that is being made.

    Attributes:
        root: The directory.
        earlier: Where unchanged segments are taken from, the best one first.
        link: Whether segments may be linked to the source's.
        counts: How the bytes came here.
        entries: The files whose checksum is known, by their path.
    """

    files: Files
    root: Path
    earlier: Sequence[Earlier] = ()
    link: bool = True
    counts: Counts = field(default_factory=Counts)
    entries: dict[str, FileEntry] = field(default_factory=dict)
    # Taken in this run, by path.
    _taken: dict[str, Identity] = field(default_factory=dict)

    def take(self, source: Path, name: str) -> None:
        """Have a sealed segment, as it is in the source now.

        Raises:
            FileNotFoundError: It is gone from there.
            OSError: It can't be done.
        """
        wanted = identity_of(self.files, source)
        if wanted is None:
            raise FileNotFoundError(source)
        if self._taken.get(name) == wanted:
            return
        self.entries.pop(name, None)
        target = self.root / name
        if not self._take_earlier(name, wanted) and not self._keep(target, wanted):
            self._take_source(source, target)
        self._taken[name] = wanted

    def _take_earlier(self, name: str, wanted: Identity) -> bool:
        for root, manifest in self.earlier:
            entry = manifest.files.get(name)
            if entry is None or not entry.sound or entry.size_bytes != wanted.size_bytes:
                continue
            if identity_of(self.files, root / name) == wanted and link_file(
                self.files, root / name, self.root / name
            ):
                self.entries[name] = entry
                self.counts.kept_bytes += wanted.size_bytes
                return True
        return False

    def _keep(self, target: Path, wanted: Identity) -> bool:
        """Whether an interrupted run has left it; all of it is checked like a new one."""
        if identity_of(self.files, target) != wanted:
            return False
        self.counts.kept_bytes += wanted.size_bytes
        return True

    def _take_source(self, source: Path, target: Path) -> None:
        if self.link and link_file(self.files, source, target):
            self.counts.linked_bytes += self.files.size(self.files.open(target))
        else:
            self.counts.copied_bytes += copy_file(self.files, source, target)

    def copy_again(self, source: Path, name: str) -> None:
        """The copy is not what the source is: replace it.

        Raises:
            OSError: It can't be done.
        """
        self.counts.copied_bytes += copy_file(self.files, source, self.root / name)

    def copy_small(self, source: Path, name: str) -> None:
        """Copy a small file, if it is there.

        Raises:
            OSError: It can't be done.
        """
        target = self.root / name
        with contextlib.suppress(FileNotFoundError):
            self.files.unlink(target)
        self.entries.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            self.counts.copied_bytes += copy_file(self.files, source, target)

    def sync(self, name: str) -> None:
        """Make a file durable, and let the next read ask the device."""
        handle = self.files.open(self.root / name)
        self.files.sync(handle)
        self.files.forget(handle)
