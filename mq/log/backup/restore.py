"""A backup put back: always copied, never linked, and whole or not a data directory at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from mq.errors import DataDirError
from mq.log.backup.manifest import FileEntry, read_manifest
from mq.log.backup.transfer import make_directory, make_top_directory
from mq.log.envelope import parse_segment_footer
from mq.log.files import OS_FILES, Files, Handle
from mq.log.filewalk import WINDOW_BYTES
from mq.log.format import FOOTER_BYTES, SEGMENT_SUFFIX
from mq.log.layout import CHANNELS_NAME, FORMAT_NAME, GROUPS_NAME, LOCK_NAME
from mq.log.report import size_text


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was put back."""

    backup: str
    directory: str
    made_ns: int
    files: int
    total_bytes: int
    # Whether the backup itself was without damage when it was made.
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """As docs/backup.md describes it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def line(self) -> str:
        """For people."""
        verdict = "" if self.ok else "; it had damage when it was made, see `mq verify`"
        return (
            f"{self.directory}: {self.files} files, {size_text(self.total_bytes)} "
            f"from {self.backup}{verdict}"
        )


def restore(
    backup: Path,
    directory: Path,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    files: Files = OS_FILES,
) -> RestoreReport:
    """Make a data directory from a backup; all of it is durable when this returns.

    ``format.json`` comes last: without it, a broker refuses the directory.

    Args:
        backup: The directory with the manifest.
        directory: Does not exist, or is empty.
        progress: Told how many bytes are done, of how many.
        files: The seam.

    Raises:
        DataDirError: The backup is not complete, or damaged, or the directory is
            not empty.
        OSError: The backup can't be read, or the directory not written.
    """
    manifest = read_manifest(files, backup)
    make_top_directory(files, directory)
    if set(files.list(directory)) - {"lost+found"}:
        raise DataDirError(
            f"{directory} has files in it; name an empty or new directory, or remove what an "
            "interrupted restore has left there"
        )
    lock = files.lock(directory / LOCK_NAME)
    try:
        total = sum(entry.size_bytes for entry in manifest.files.values())
        done = 0
        for name in _in_order(manifest.files):
            entry, target = manifest.files[name], directory / name
            for parent in reversed(target.relative_to(directory).parents[:-1]):
                make_directory(files, directory / parent)
            _copy(files, backup / manifest.tree / name, target, entry)
            done += entry.size_bytes
            progress(done, total)
        _sync_directories(files, directory)
        _copy(
            files,
            backup / manifest.tree / FORMAT_NAME,
            directory / FORMAT_NAME,
            manifest.files[FORMAT_NAME],
        )
        files.sync_dir(directory)
        files.sync_dir(directory.absolute().parent)
    finally:
        del lock
    return RestoreReport(
        str(backup), str(directory), manifest.made_ns, len(manifest.files), total, manifest.sound
    )


def _in_order(entries: dict[str, FileEntry]) -> list[str]:
    return sorted(name for name in entries if name != FORMAT_NAME)


def _copy(files: Files, source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file and compare its checksum on the way."""
    try:
        handle = files.open(source)
    except FileNotFoundError:
        raise _damaged(source, "is missing") from None
    size = files.size(handle)
    if size != entry.size_bytes:
        raise _damaged(source, f"is {size} bytes long and should be {entry.size_bytes}")
    copy, crc = files.create(target), 0
    if source.suffix == SEGMENT_SUFFIX and not _is_sealed(files, handle, size):
        # It will be appended to: its room is taken now, as of a new one.
        files.allocate(copy, size)
    for at in range(0, size, WINDOW_BYTES):
        data = files.read(handle, min(WINDOW_BYTES, size - at), at)
        crc = crc32c(data, crc)
        if data.strip(b"\0"):
            files.write(copy, [data], at)
    if files.size(copy) < size:
        files.write(copy, [b"\0"], size - 1)
    if crc != entry.crc:
        raise _damaged(source, "is damaged")
    files.sync(copy)


def _is_sealed(files: Files, handle: Handle, size: int) -> bool:
    raw = files.read(handle, FOOTER_BYTES, max(0, size - FOOTER_BYTES))
    return parse_segment_footer(raw) is not None


def _sync_directories(files: Files, directory: Path) -> None:
    for parent in (CHANNELS_NAME, GROUPS_NAME):
        path = directory / parent
        make_directory(files, path)
        for name in files.list(path):
            files.sync_dir(path / name)
        files.sync_dir(path)


def _damaged(path: Path, what: str) -> DataDirError:
    return DataDirError(
        f"{path} {what}: the backup is not what it was when it was made; use another one, or save "
        "what can be read by copying its data directory by hand and repairing that"
    )
