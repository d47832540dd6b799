"""The manifest of a backup: which files it consists of. Written last; without it there is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from crc32c import crc32c

from mq.errors import DataDirError
from mq.log.files import Files

MANIFEST_NAME: Final = "manifest.json"
LOCK_NAME: Final = "backup.lock"
FORMAT: Final = 1

_TREE = re.compile(r"data-[0-9]{1,18}")
# Nothing else is ever read from a backup, or written by a restore.
_FILE = re.compile(
    r"format\.json|(channels|groups)/[0-9a-f]{32}/(channel\.json|checkpoint|[0-9]{20}\.(seg|idx))"
)


class FileEntry(NamedTuple):
    """A file: its length, the CRC32C of all of it, whether a check found it sound."""

    size_bytes: int
    crc: int
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete backup: ``files`` by their path below ``tree``, itself below the backup."""

    source_id: str
    tree: str
    made_ns: int
    sound: bool
    files: dict[str, FileEntry] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The file's content: JSON, with the CRC32C of what it says."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "source_id": self.source_id,
            "tree": self.tree,
            "made_ns": self.made_ns,
            "sound": self.sound,
            "files": {name: list(entry) for name, entry in sorted(self.files.items())},
        }
        return json.dumps({"crc32c": _crc_of(body), "backup": body}, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> Manifest:
        """What `encode` gave.

        Raises:
            ValueError: It is damaged, of another format, or names files that it must not.
        """
        try:
            values = json.loads(raw)
            body = values["backup"]
            if values["crc32c"] != _crc_of(body):
                raise ValueError("its checksum is wrong")
            if body["format"] != FORMAT:
                raise ValueError(f"it has format {body['format']}, this version reads {FORMAT}")
            files = {str(name): FileEntry(*entry) for name, entry in body["files"].items()}
            made = cls(body["source_id"], body["tree"], body["made_ns"], body["sound"], files)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is no manifest ({error!r})") from error
        if not is_tree(made.tree) or not all(_FILE.fullmatch(name) for name in files):
            raise ValueError("it names files that are none of a backup's")
        return made


def is_tree(name: str) -> bool:
    """Whether a directory's name is one of those that hold a backup's data."""
    return _TREE.fullmatch(name) is not None


def read_manifest(files: Files, path: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        DataDirError: There is no complete backup, or its manifest can't be used.
        OSError: It can't be read.
    """
    try:
        handle = files.open(path / MANIFEST_NAME)
        return Manifest.decode(files.read(handle, files.size(handle), 0))
    except FileNotFoundError:
        path.stat()
        raise DataDirError(
            f"{path} holds no complete backup (no {MANIFEST_NAME}): run `mq backup` to its end, "
            "or name another directory"
        ) from None
    except ValueError as error:
        raise DataDirError(
            f"{path / MANIFEST_NAME} can't be used: {error}; use another backup"
        ) from None


def _crc_of(body: dict[str, Any]) -> str:
    return f"{crc32c(json.dumps(body, sort_keys=True).encode()):08x}"
