"""A backup of a whole data directory, beside a running broker or without one.

The order is what makes it consistent (docs/backup.md): first what does not
change any more, which takes long; then the journals of consumer groups; then
the channels. An acknowledgement that a journal has is of a record that was
durable by then, and so is in what is copied of its channel afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mq.errors import DataDirError
from mq.log.backup.gather import LogBackup
from mq.log.backup.manifest import (
    LOCK_NAME,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    is_tree,
    read_manifest,
)
from mq.log.backup.transfer import crc_of, make_directory, make_top_directory, remove_tree
from mq.log.backup.tree import Counts, Earlier, Tree
from mq.log.files import OS_FILES, Files, Handle
from mq.log.layout import (
    CHANNELS_NAME,
    FORMAT_NAME,
    GROUPS_NAME,
    LOG_DIRECTORIES,
    read_format,
    read_small,
)
from mq.log.report import Finding, size_text
from mq.log.verify import find_logs

_OURS: Final = (MANIFEST_NAME, f"{MANIFEST_NAME}.tmp", LOCK_NAME, "lost+found")
Advance = Callable[[int], None]


@dataclass(slots=True)
class BackupReport:
    """A backup that was made."""

    source: str
    destination: str
    data: str
    channels: int = 0
    journals: int = 0
    total_bytes: int = 0
    counts: Counts = field(default_factory=Counts)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing of it is damaged."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As docs/backup.md describes it."""
        return {
            "ok": self.ok,
            "source": self.source,
            "destination": self.destination,
            "data": self.data,
            "channels": self.channels,
            "journals": self.journals,
            "total_bytes": self.total_bytes,
            "copied_bytes": self.counts.copied_bytes,
            "linked_bytes": self.counts.linked_bytes,
            "kept_bytes": self.counts.kept_bytes,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        for finding in self.findings:
            yield finding.line()
        counts = self.counts
        yield (
            f"{self.data}: {self.channels} channels, {size_text(self.total_bytes)}: "
            f"{size_text(counts.copied_bytes)} copied, {size_text(counts.linked_bytes)} linked, "
            f"{size_text(counts.kept_bytes)} from before"
        )
        if not self.ok:
            yield "complete, but what is damaged in the source is damaged in it"


def back_up(
    source: Path,
    destination: Path,
    *,
    previous: Path | None = None,
    link: bool = True,
    jobs: int = 1,
    advance: Advance = lambda _: None,
    clock: Callable[[], int],
    files: Files = OS_FILES,
) -> BackupReport:
    """Back a data directory up.

    Args:
        source: The data directory; a broker may be using it.
        destination: Does not exist, or is empty, or holds an earlier backup, which
            is replaced once the new one is complete.
        previous: Another backup on the file system of ``destination``, whose
            unchanged segments are linked.
        link: Link segments to the source's, where the file system allows it.
        jobs: How many processes may check segments side by side.
        advance: Told how many more bytes are checked.
        clock: Unix nanoseconds.
        files: The seam.

    Raises:
        DataDirError: One of the directories can't be used; or the copy is not
            what the source is.
        OSError: The source can't be read, or the backup not written. What was
            copied is used by the next run.
    """
    read_format(files, source)
    _check_apart(source, destination)
    earlier = [] if previous is None else [_earlier(files, previous)]
    make_top_directory(files, destination)
    names = files.list(destination)
    strange = [name for name in names if name not in _OURS and not is_tree(name)]
    if strange:
        raise DataDirError(
            f"{destination} is no backup: there is {strange[0]} in it; name an empty or new one"
        )
    lock = _lock(files, destination)
    try:
        if MANIFEST_NAME in names:
            earlier.insert(0, _earlier(files, destination))
        return _Backup(files, source, destination, earlier, link, jobs, advance).run(clock())
    finally:
        del lock


def _check_apart(source: Path, destination: Path) -> None:
    one, two = source.resolve(), destination.resolve()
    if one == two or one in two.parents or two in one.parents:
        raise DataDirError(
            f"{destination} and {source} can't be in one another; name a directory elsewhere"
        )


def _lock(files: Files, destination: Path) -> Handle:
    try:
        return files.lock(destination / LOCK_NAME)
    except DataDirError:
        raise DataDirError(
            f"another backup to {destination} is running; wait for it, or name another directory"
        ) from None


def _earlier(files: Files, path: Path) -> Earlier:
    manifest = read_manifest(files, path)
    return Earlier(path / manifest.tree, manifest)


class _Backup:
    """One run."""

    def __init__(
        self,
        files: Files,
        source: Path,
        destination: Path,
        earlier: list[Earlier],
        link: bool,
        jobs: int,
        advance: Advance,
    ) -> None:
        self._files = files
        self._source = source
        self._destination = destination
        self._source_id = _id_of(files, source)
        for root, manifest in earlier:
            if manifest.source_id != self._source_id:
                raise DataDirError(
                    f"{root.parent} is a backup of another data directory than {source}; "
                    "name the right one, or a new one"
                )
        names = [Path(m.tree).name for root, m in earlier if root.parent == destination]
        number = int(names[0].partition("-")[2]) + 1 if names else 1
        self._old = names
        self._root = destination / f"data-{number}"
        self._tree = Tree(files, self._root, earlier, link)
        self._jobs = jobs
        self._advance = advance
        self._report = BackupReport(
            str(source), str(destination), str(self._root), counts=self._tree.counts
        )

    def run(self, now_ns: int) -> BackupReport:
        """All of it."""
        files, root = self._files, self._root
        self._remove_others([*self._old, root.name])
        for path in (root, root / CHANNELS_NAME, root / GROUPS_NAME):
            make_directory(files, path)
        for log in self._logs(CHANNELS_NAME):
            log.gather(whole=False)
        journals = self._gather(GROUPS_NAME)
        channels = self._gather(CHANNELS_NAME)
        # Of a channel that is gone, or had its groups made since: nobody could use it.
        usable = set(journals) & set(channels)
        self._keep_only(GROUPS_NAME, usable)
        self._report.channels, self._report.journals = len(channels), len(usable)
        self._tree.copy_small(self._source / FORMAT_NAME, FORMAT_NAME)
        self._finish(now_ns)
        self._remove_others([root.name])
        return self._report

    def _logs(self, parent: str) -> Iterator[LogBackup]:
        for kind, path in find_logs(self._files, self._source):
            if kind == LOG_DIRECTORIES[parent]:
                name = f"{parent}/{path.name}"
                yield LogBackup(self._tree, kind, path, name, self._advance, self._jobs)

    def _gather(self, parent: str) -> list[str]:
        """Bring all logs of a kind in; their ids."""
        ids = []
        for log in self._logs(parent):
            if log.gather(whole=True):
                ids.append(log.id)
                self._report.findings += log.findings
        self._keep_only(parent, set(ids))
        return ids

    def _keep_only(self, parent: str, ids: set[str]) -> None:
        for name in self._files.list(self._root / parent):
            if name not in ids:
                remove_tree(self._files, self._root / parent / name)

    def _finish(self, now_ns: int) -> None:
        """Sum everything up, make it durable, and only then say that it is there."""
        files, root = self._files, self._root
        entries: dict[str, FileEntry] = {}
        unsound = {finding.file for finding in self._report.findings}
        for path, directories in _walk(files, root):
            if directories:
                files.sync_dir(path)
                continue
            name = str(path.relative_to(root))
            known = self._tree.entries.get(name)
            if known is None:
                self._tree.sync(name)
                known = FileEntry(*crc_of(files, path), name not in unsound)
            entries[name] = known
        files.sync_dir(self._destination)
        self._report.total_bytes = sum(entry.size_bytes for entry in entries.values())
        made = Manifest(self._source_id, root.name, now_ns, self._report.ok, entries)
        files.replace(self._destination / MANIFEST_NAME, made.encode())

    def _remove_others(self, kept: list[str]) -> None:
        for name in self._files.list(self._destination):
            if is_tree(name) and name not in kept:
                remove_tree(self._files, self._destination / name)


def _id_of(files: Files, source: Path) -> str:
    return str(json.loads(read_small(files, source / FORMAT_NAME)).get("id", ""))


def _walk(files: Files, root: Path) -> Iterator[tuple[Path, bool]]:
    """All files below a directory, each directory behind what is in it."""
    for name in files.list(root):
        path = root / name
        if path.is_dir():
            yield from _walk(files, path)
        else:
            yield path, False
    yield root, True
