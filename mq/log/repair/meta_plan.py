"""What is to be done about ``format.json``, and each channel's ``channel.json``."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mq.errors import DataDirError
from mq.log.ends import read_ends
from mq.log.files import Files
from mq.log.filewalk import FileReader
from mq.log.format import FORMAT_VERSION, ID_BYTES, parse_segment_name
from mq.log.layout import (
    CHANNEL_NAME,
    CHANNELS_NAME,
    FORMAT_NAME,
    is_id,
    list_directory,
    read_channel_name,
    read_format,
    read_small,
)
from mq.log.repair.report import Action
from mq.log.repair.steps import Rename, Replace, SetAside, Step

# What a channel's name is made of (mq/broker/names.py).
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+=~#-]{0,254}")
_NAME_FIELD = re.compile(rb'"name": "([^"\\]{1,255})"')


def plan_format(files: Files, root: Path) -> Iterator[Step]:
    """Make ``format.json`` again where there is a log of this format.

    Raises:
        DataDirError: It is no data directory, or of another format.
        OSError: It can't be read.
    """
    try:
        read_format(files, root)
    except DataDirError:
        if _says_another_format(files, root) or not _has_segments(files, root):
            raise
        ids = "".join(path.name for path in list_directory(files, root / CHANNELS_NAME))
        made_up = hashlib.blake2b(ids.encode(), digest_size=ID_BYTES, person=b"mq-repair")
        values = {"format": FORMAT_VERSION, "id": made_up.hexdigest()}
        problem = "it is missing or damaged, and there are segments of this format"
        action = Action("format-json", FORMAT_NAME, problem, "write it anew")
        content = json.dumps(values).encode() + b"\n"
        yield Replace(action, root / FORMAT_NAME, content)


def _says_another_format(files: Files, root: Path) -> bool:
    try:
        values = json.loads(read_small(files, root / FORMAT_NAME))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("format") not in (None, FORMAT_VERSION)


def _has_segments(files: Files, root: Path) -> bool:
    directories = list_directory(files, root / CHANNELS_NAME)
    return any(
        owner is not None
        for directory in directories
        if is_id(directory.name) and directory.is_dir()
        for owner in _owners(files, directory)
    )


def _owners(files: Files, directory: Path) -> Iterator[bytes | None]:
    """Whose channel's each segment is, by its header; None: that is damaged.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """
    for path in list_directory(files, directory):
        if parse_segment_name(path.name) is not None:
            handle = files.open(path)
            header = read_ends(FileReader(files, handle), files.size(handle)).header
            yield None if header is None else header.channel_id


class ChannelFiles:
    """What is to be done about the directories of channels.

    Args:
        files: The seam.
        root: The data directory.

    Attributes:
        steps: In order.
        foreign: The directories that are no channel's, and are to be moved away.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """

    def __init__(self, files: Files, root: Path) -> None:
        self._files = files
        self._root = root
        self.steps: list[Step] = []
        self.foreign: set[Path] = set()
        directories = [
            path
            for path in list_directory(files, root / CHANNELS_NAME)
            if is_id(path.name) and path.is_dir() and not path.is_symlink()
        ]
        names: Counter[str] = Counter()
        damaged = []
        for directory in directories:
            try:
                names[read_channel_name(files, directory)] += 1
            except (OSError, ValueError, KeyError, TypeError) as error:
                damaged.append((directory, repr(error)))
        for directory, reason in damaged:
            if not self._move_foreign(directory, directories):
                self._make_again(directory, names, reason)

    def _move_foreign(self, directory: Path, directories: Iterable[Path]) -> bool:
        """A directory whose segments are all another channel's is that one's, or a copy."""
        owners = set(_owners(self._files, directory))
        if len(owners) != 1 or None in owners or owners == {bytes.fromhex(directory.name)}:
            return False
        (owner,) = owners
        assert owner is not None
        proper = directory.with_name(owner.hex())
        problem = f"what is in it belongs to channel {owner.hex()}"
        if proper in directories:
            action = Action("set-aside", self._name(directory), problem, "move it into quarantine")
            self.steps.append(SetAside(action, directory))
        else:
            action = Action("rename", self._name(directory), problem, "give it that name")
            self.steps.append(Rename(action, directory, proper))
        self.foreign.add(directory)
        return True

    def _make_again(self, directory: Path, names: Counter[str], reason: str) -> None:
        path = directory / CHANNEL_NAME
        name = _salvage_name(self._files, path)
        if name is None or names[name]:
            name = f"recovered-{directory.name}"
        names[name] += 1
        values: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "name": name,
            "id": directory.name,
            "created_ns": 0,
            "config": {},
        }
        remedy = (
            f"write it anew, with the name {name} and no settings: give the channel its own again "
            "with `mq channels configure`"
        )
        action = Action("channel-json", self._name(path), f"it can't be used ({reason})", remedy)
        content = json.dumps(values, indent=2).encode() + b"\n"
        self.steps.append(Replace(action, path, content))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))


def _salvage_name(files: Files, path: Path) -> str | None:
    """The name in what is left of a ``channel.json``."""
    try:
        found = _NAME_FIELD.search(read_small(files, path))
    except OSError:
        return None
    name = found[1].decode(errors="replace") if found else ""
    return name if _NAME.fullmatch(name) else None
