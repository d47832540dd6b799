"""The data directory: its lock, its format, and the directories of its channels.

    DATA_DIR/
      mq.lock       flock'ed by the process that uses the directory
      format.json   {"format": 1, "id": ...}; a newer format is refused
      channels/<32 hex digits>/channel.json   name, id, creation time, settings
      groups/<the same>/                      the journal of the channel's groups, a log

A channel's directory is named by its id, which the broker chose, never by the
channel's name. Creating and deleting are one rename each.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from mq.broker.model import ChannelConfig, ChannelMeta, Durability
from mq.errors import DataDirError
from mq.log.files import Files

FORMAT = 1
_CREATING = ".new-"
_DELETED = ".deleted-"


class DataDir:
    """A locked data directory.

    Raises:
        DataDirError: It is in use, not a data directory, of a newer format, or
            can't be written; nothing was changed.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self.path = path
        self.channels_path = path / "channels"
        self.groups_path = path / "groups"
        self._files = files
        try:
            self._open()
        except OSError as error:
            raise DataDirError(
                f"the data directory {path} can't be used: {error.strerror or error}; "
                "check that it exists on a writable disk and belongs to this user"
            ) from error

    def _open(self) -> None:
        files, path = self._files, self.path
        if path.exists() and not path.is_dir():
            raise DataDirError(f"{path} is not a directory; name another with --data-dir")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = files.list(path)
        if "format.json" not in names and set(names) - {"mq.lock", "format.json.tmp", "lost+found"}:
            raise DataDirError(
                f"{path} has files in it and is not an mq data directory (no format.json); "
                "name an empty or new one with --data-dir"
            )
        self._lock = files.lock(path / "mq.lock")
        if "format.json" in names:
            self._check_format()
        else:
            content = json.dumps({"format": FORMAT, "id": os.urandom(16).hex()}) + "\n"
            files.replace(path / "format.json", content.encode())
        if "channels" not in names:
            files.mkdir(self.channels_path)
            files.sync_dir(path)
        # Shows now, not at the first publish. Nothing is written for it: on a full
        # disk the broker still starts, and serves what is there.
        if not os.access(self.channels_path, os.W_OK | os.X_OK):
            raise DataDirError(
                f"the data directory {path} is read-only for this user; mount it writable or "
                "give it to the user that runs mq"
            )

    def _check_format(self) -> None:
        path = self.path / "format.json"
        handle = self._files.open(path)
        try:
            found = json.loads(self._files.read(handle, 4096, 0))["format"]
        except (ValueError, KeyError, TypeError):
            raise DataDirError(
                f'{path} is damaged; put back {{"format": {FORMAT}}} if this is an mq data '
                "directory of this version"
            ) from None
        if found != FORMAT:
            raise DataDirError(
                f"{self.path} has format {found}, and this version of mq reads format {FORMAT}: "
                "use the version of mq that wrote it, or a later one"
            )

    def channel_path(self, channel_id: bytes) -> Path:
        """The directory of a channel."""
        return self.channels_path / channel_id.hex()

    def journal_path(self, channel_id: bytes) -> Path:
        """The directory of the journal of a channel's consumer groups, made if need be."""
        path = self.groups_path / channel_id.hex()
        for each in (self.groups_path, path):
            if not each.exists():
                self._files.mkdir(each)
                self._files.sync_dir(each.parent)
        return path

    def has_journal(self, channel_id: bytes) -> bool:
        """Whether the channel ever had consumer groups."""
        return (self.groups_path / channel_id.hex()).exists()

    def load(self) -> tuple[list[ChannelMeta], list[str]]:
        """All channels, and what was found out of the ordinary.

        What a crash left of creating or deleting a channel is removed.
        """
        metas, notices = [], []
        for name in sorted(self._files.list(self.channels_path)):
            path = self.channels_path / name
            if name.startswith(_DELETED):
                self._remove_deleted(name.removeprefix(_DELETED))
            elif name.startswith(_CREATING):
                self._remove_tree(path)
            elif path.is_symlink() or not path.is_dir():
                notices.append(f"{path} is not a channel's directory; it is left alone")
            else:
                try:
                    metas.append(self._read_meta(path))
                except (OSError, ValueError, KeyError, TypeError) as error:
                    notices.append(
                        f"{path}/channel.json can't be read ({error}); the channel is left alone "
                        "until the file is restored"
                    )
        journals = self._files.list(self.groups_path) if self.groups_path.exists() else []
        notices.extend(
            f"{self.groups_path / name} is the journal of groups of a channel that is not there; "
            "it is left alone: bring the channel back, or remove it"
            for name in sorted(set(journals) - set(self._files.list(self.channels_path)))
        )
        return metas, notices

    def _read_meta(self, path: Path) -> ChannelMeta:
        handle = self._files.open(path / "channel.json")
        values = json.loads(self._files.read(handle, 1 << 20, 0))
        if values["id"] != path.name:
            raise ValueError(f"it belongs to the directory {values['id']}")
        return ChannelMeta(
            name=str(values["name"]),
            id=bytes.fromhex(values["id"]),
            created_ns=int(values["created_ns"]),
            config=_config_from_json(values["config"]),
        )

    def create(self, meta: ChannelMeta) -> None:
        """Make a channel's directory; durable when this returns."""
        scratch = self.channels_path / (_CREATING + meta.id.hex())
        self._files.mkdir(scratch)
        self._files.replace(scratch / "channel.json", _encode(meta))
        path = self.channel_path(meta.id)
        self._files.rename(scratch, path)
        try:
            self._files.sync_dir(self.channels_path)
        except OSError:
            # Made for whoever starts next, though its creator is told that it is not:
            # there could be another of its name by then.
            with contextlib.suppress(OSError):
                self._files.rename(path, scratch)
            raise

    def update(self, meta: ChannelMeta) -> None:
        """Replace a channel's settings; durable when this returns."""
        self._files.replace(self.channel_path(meta.id) / "channel.json", _encode(meta))

    def delete(self, channel_id: bytes) -> str | None:
        """Remove a channel; gone for good from the first rename on.

        Returns:
            What was left over, for the next start to remove, or None.

        Raises:
            OSError: The channel may still be there; this can be called again.
        """
        path = self.channel_path(channel_id)
        doomed = self.channels_path / (_DELETED + channel_id.hex())
        # Renamed already: an earlier call came that far.
        if path.exists() or not doomed.exists():
            self._files.rename(path, doomed)
        self._files.sync_dir(self.channels_path)
        try:
            self._remove_deleted(channel_id.hex())
        except OSError as error:
            return f"{error}; what is left takes room until the next start removes it"
        return None

    def _remove_deleted(self, channel_id: str) -> None:
        """What a channel had. The journal of its groups first: without the rest it looks lost."""
        journal = self.groups_path / channel_id
        if journal.exists():
            self._remove_tree(journal)
        self._remove_tree(self.channels_path / (_DELETED + channel_id))

    def _remove_tree(self, path: Path) -> None:
        for name in self._files.list(path):
            self._files.unlink(path / name)
        self._files.rmdir(path)
        self._files.sync_dir(path.parent)

    def close(self) -> None:
        """Unlock the directory, for whoever uses it next."""
        del self._lock

    def free_bytes(self) -> int:
        """What may still be written on the directory's device."""
        return self._files.free_bytes(self.path)


def _encode(meta: ChannelMeta) -> bytes:
    config = meta.config
    values: dict[str, Any] = {
        "format": FORMAT,
        "name": meta.name,
        "id": meta.id.hex(),
        "created_ns": meta.created_ns,
        "config": {
            name: value.name.lower() if isinstance(value, Durability) else value
            for name in config.__slots__
            if (value := getattr(config, name)) is not None
        },
    }
    return (json.dumps(values, indent=2) + "\n").encode()


def _config_from_json(values: dict[str, Any]) -> ChannelConfig:
    known = {name: values[name] for name in ChannelConfig.__slots__ if name in values}
    if "durability" in known:
        known["durability"] = Durability[known["durability"].upper()]
    return ChannelConfig(**known)


def filesystem_warning(mountinfo: str, path: Path, journals: set[str]) -> str | None:
    """Why the durability promise can't hold on the file system of ``path``, if it can't.

    Args:
        mountinfo: The content of ``/proc/self/mountinfo``.
        path: An absolute path.
        journals: The names in ``/proc/fs/jbd2``, such as ``vda1-8``.
    """
    best, kind, device = "", "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        inside = path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= len(best):
            best = point
            kind, device = after.split(" ")[:2]
    if kind in ("tmpfs", "ramfs"):
        return f"{path} is on {kind}, in memory: nothing survives a restart of the machine"
    if kind.startswith(("nfs", "cifs", "smb", "fuse", "9p")):
        return f"{path} is on {kind}: a sync may not reach the disk behind it"
    if kind == "overlay":
        return f"{path} is on an overlay of a container: use a volume, it goes with the container"
    if kind in ("ext4", "ext3") and journals:
        name = Path(device).name
        if name != "root" and not any(j.rpartition("-")[0] == name for j in journals):
            return f"{path} is on {kind} without a journal: a power cut can lose files"
    if kind == "ext2":
        return f"{path} is on ext2, which has no journal: a power cut can lose files"
    return None
