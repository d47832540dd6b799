"""Where things are in a data directory, for whoever looks into one from outside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from mq.errors import DataDirError
from mq.log.files import Files
from mq.log.format import FORMAT_VERSION, ID_BYTES

LOCK_NAME: Final = "mq.lock"
FORMAT_NAME: Final = "format.json"
CHANNEL_NAME: Final = "channel.json"
CHANNELS_NAME: Final = "channels"
GROUPS_NAME: Final = "groups"
QUARANTINE_NAME: Final = "quarantine"
# Where logs are, and whose they are.
LOG_DIRECTORIES: Final = {CHANNELS_NAME: "channel", GROUPS_NAME: "groups"}

_JSON_BYTES_MAX: Final = 1 << 20


def is_id(name: str) -> bool:
    """Whether a directory's name is the id of a channel."""
    return len(name) == 2 * ID_BYTES and all(c in "0123456789abcdef" for c in name)


def journal_id(channel_id: bytes) -> bytes:
    """The id of the log that journals a channel's consumer groups."""
    return hashlib.blake2b(channel_id, digest_size=ID_BYTES, person=b"mq-groups").digest()


def log_id(kind: str, directory: Path) -> bytes:
    """The id that the segments of a log have in their headers."""
    channel_id = bytes.fromhex(directory.name)
    return channel_id if kind == "channel" else journal_id(channel_id)


def list_directory(files: Files, path: Path) -> list[Path]:
    """What is in a directory, sorted; nothing if there is no such directory."""
    try:
        return [path / name for name in files.list(path)]
    except FileNotFoundError:
        return []


def read_small(files: Files, path: Path) -> bytes:
    """The content of a file that is not large."""
    return files.read(files.open(path), _JSON_BYTES_MAX, 0)


def read_format(files: Files, path: Path) -> int:
    """The format of a data directory.

    Raises:
        DataDirError: It is no data directory, or of another format.
        OSError: It can't be read.
    """
    try:
        values = json.loads(read_small(files, path / FORMAT_NAME))
        found = values["format"]
    except FileNotFoundError:
        path.stat()
        within = sorted(each.parent.name for each in path.glob(f"data-*/{FORMAT_NAME}"))
        if within:
            raise DataDirError(
                f"{path} is a backup, not an mq data directory; name the one that is in it, "
                f"{path / within[-1]}"
            ) from None
        raise DataDirError(
            f"{path} is not an mq data directory (no {FORMAT_NAME}); name the one that the broker "
            "is given with --data-dir"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataDirError(
            f'{path / FORMAT_NAME} is damaged; put back {{"format": {FORMAT_VERSION}}} if this is '
            "an mq data directory of this version"
        ) from None
    if found != FORMAT_VERSION:
        raise DataDirError(
            f"{path} has format {found}, and this version of mq reads format {FORMAT_VERSION}: "
            "use the version of mq that wrote it, or a later one"
        )
    return FORMAT_VERSION


def read_channel_name(files: Files, directory: Path) -> str:
    """The name in a channel's ``channel.json``, which the broker has to find usable too.

    Raises:
        ValueError, KeyError, TypeError: It is not.
        OSError: It can't be read.
    """
    values = json.loads(read_small(files, directory / CHANNEL_NAME))
    name, owner = values["name"], values["id"]
    if owner != directory.name:
        raise ValueError(f"it belongs to the directory {owner}")
    int(values["created_ns"])
    if not isinstance(values["config"], dict):
        raise TypeError("its config is no object")
    return str(name)
