"""Stand-ins for the operating system: one that records, a power cut, one that fails.

`RecordingFiles` notes every call that changes the disk. `PowerCut` replays the
first calls of such a trace into a directory as a crash could have left it: what
was not synced is there, lost, or there in part, sector by sector and in any
order, and so are names.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mq.log.files import Handle, Map
from tests.log.batches import UnsyncedFiles

SECTOR_BYTES = 512

Buffers = Sequence[bytes | memoryview]


class Write(NamedTuple):
    """Bytes written at a position of a file."""

    inode: int
    position: int
    data: bytes


class Allocate(NamedTuple):
    """A file made at least this long."""

    inode: int
    length: int


class Sync(NamedTuple):
    """A file's content and size made durable."""

    inode: int


class Names(NamedTuple):
    """One atomic change of names: which file each has from now on; None: none."""

    changes: tuple[tuple[str, int | None], ...]


class SyncDir(NamedTuple):
    """The names in a directory made durable."""

    directory: str = "."


class Mark(NamedTuple):
    """What the test knew by then, such as an acknowledged offset."""

    value: int


Call = Write | Allocate | Sync | Names | SyncDir | Mark


class RecordingFiles(UnsyncedFiles):
    """Does everything but the syncs, and notes it.

    For one directory; with a root, for all in it.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self.trace: list[Call] = []
        self._names: dict[str, int] = {}
        self._inodes: dict[int, int] = {}
        self._made = 0
        # Kept alive, so that the identity of a handle stays its own.
        self._handles: list[Handle] = []

    def _name(self, path: Path) -> str:
        return path.name if self._root is None else str(path.relative_to(self._root))

    def adopt(self, directory: Path) -> int:
        """Take what is in a directory for durable; how many calls stand for that."""
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            self._made += 1
            self._names[self._name(path)] = self._made
            self.trace += (
                Names(((self._name(path), self._made),)),
                Write(self._made, 0, path.read_bytes()),
                Sync(self._made),
                SyncDir(str(Path(self._name(path)).parent)),
            )
        return len(self.trace)

    def mark(self, value: int) -> None:
        """Note what the test knows now."""
        self.trace.append(Mark(value))

    def _adopt(self, handle: Handle, inode: int) -> Handle:
        self._handles.append(handle)
        self._inodes[id(handle)] = inode
        return handle

    def _inode(self, handle: object) -> int:
        return self._inodes[id(handle)]

    def open(self, path: Path, *, write: bool = False) -> Handle:
        """See `Files`."""
        handle = super().open(path, write=write)
        return self._adopt(handle, self._names[self._name(path)])

    def create(self, path: Path) -> Handle:
        """See `Files`."""
        handle = super().create(path)
        self._made += 1
        self._names[self._name(path)] = self._made
        self.trace.append(Names(((self._name(path), self._made),)))
        return self._adopt(handle, self._made)

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        super().allocate(handle, length)
        self.trace.append(Allocate(self._inode(handle), length))

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        done = super().write(handle, buffers, position)
        self.trace.append(Write(self._inode(handle), position, b"".join(buffers)))
        return done

    def sync_data(self, handle: object) -> None:
        """See `Files`."""
        self.trace.append(Sync(self._inode(handle)))

    def sync(self, handle: object) -> None:
        """See `Files`."""
        self.trace.append(Sync(self._inode(handle)))

    def sync_dir(self, path: Path) -> None:
        """See `Files`."""
        self.trace.append(SyncDir("." if self._root is None else self._name(path)))

    def rename(self, source: Path, target: Path) -> None:
        """See `Files`."""
        super().rename(source, target)
        inode = self._names.pop(self._name(source))
        self._names[self._name(target)] = inode
        self.trace.append(Names(((self._name(source), None), (self._name(target), inode))))

    def unlink(self, path: Path) -> None:
        """See `Files`."""
        super().unlink(path)
        del self._names[self._name(path)]
        self.trace.append(Names(((self._name(path), None),)))


@dataclass
class _File:
    """A file on the disk: what is durable, and what is only in the cache."""

    content: bytearray = field(default_factory=bytearray)
    cached: list[Write | Allocate] = field(default_factory=list)

    def apply(self, call: Write | Allocate) -> None:
        if isinstance(call, Allocate):
            self.content.extend(bytes(max(0, call.length - len(self.content))))
        else:
            end = call.position + len(call.data)
            self.content.extend(bytes(max(0, end - len(self.content))))
            self.content[call.position : end] = call.data

    def sync(self) -> None:
        for call in self.cached:
            self.apply(call)
        self.cached.clear()


class PowerCut:
    """The disk after the calls of a trace, and after the power went."""

    def __init__(self, trace: Sequence[Call]) -> None:
        self.acknowledged = 0
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._cached_names: list[Names] = []
        for call in trace:
            self._replay(call)

    def _replay(self, call: Call) -> None:
        if isinstance(call, Write | Allocate):
            self._files.setdefault(call.inode, _File()).cached.append(call)
        elif isinstance(call, Sync):
            self._files.setdefault(call.inode, _File()).sync()
        elif isinstance(call, Names):
            self._cached_names.append(call)
        elif isinstance(call, SyncDir):
            cached, self._cached_names = self._cached_names, []
            for names in cached:
                if any(str(Path(n).parent) == call.directory for n, _ in names.changes):
                    self._rename(names)
                else:
                    self._cached_names.append(names)
        else:
            self.acknowledged = call.value

    def _rename(self, names: Names) -> None:
        for name, inode in names.changes:
            if inode is None:
                self._names.pop(name, None)
            else:
                self._names[name] = inode

    def leave(self, directory: Path, source: random.Random) -> None:
        """Write the directory as the power cut left it, as chance has it."""
        directory.mkdir()
        keep_name = _fate(source)
        for names in self._cached_names:
            if keep_name():
                self._rename(names)
        for name, inode in self._names.items():
            file = self._files.setdefault(inode, _File())
            keep = _fate(source)
            for call in file.cached:
                self._leave_call(file, call, keep)
            file.cached.clear()
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(file.content)

    def _leave_call(self, file: _File, call: Write | Allocate, keep: Callable[[], bool]) -> None:
        if isinstance(call, Allocate):
            if keep():
                file.apply(call)
            return
        at, end = call.position, call.position + len(call.data)
        while at < end:
            after = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if keep():
                data = call.data[at - call.position : after - call.position]
                file.apply(Write(call.inode, at, data))
            at = after


def _fate(source: random.Random) -> Callable[[], bool]:
    """What becomes of things in a cache, one after another: all, none, some, or the first."""
    kind = source.choice(("all", "none", "some", "most", "first"))
    if kind == "first":
        left = source.randrange(8)

        def first() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        return first
    chance = {"all": 1.0, "none": 0.0, "some": 0.5, "most": 0.9}[kind]
    return lambda: source.random() < chance


class FailingFiles(UnsyncedFiles):
    """Fails the n-th call that changes something, once or for good.

    A write that fails has got half way.

    Args:
        when: Which call, from 1; 0: none, and the calls are counted.
        code: The error's number.
        for_good: All calls after it fail as well.
    """

    def __init__(self, when: int, code: int = errno.EIO, *, for_good: bool = False) -> None:
        self.calls = 0
        self.kinds: list[str] = []
        self._when = when
        self._code = code
        self._for_good = for_good

    def _call(self, kind: str) -> None:
        self.calls += 1
        self.kinds.append(kind)
        if self.failing:
            raise OSError(self._code, os.strerror(self._code), kind)

    @property
    def failing(self) -> bool:
        """Whether the call under way fails."""
        if not self._when:
            return False
        return self.calls == self._when or (self._for_good and self.calls > self._when)

    def create(self, path: Path) -> Handle:
        """See `Files`."""
        self._call("create")
        return super().create(path)

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        self._call("allocate")
        super().allocate(handle, length)

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        try:
            self._call("write")
        except OSError:
            data = b"".join(buffers)
            os.pwrite(handle.fd, data[: len(data) // 2], position)
            raise
        return super().write(handle, buffers, position)

    def sync_data(self, handle: object) -> None:
        """See `Files`."""
        self._call("sync_data")

    def sync(self, handle: object) -> None:
        """See `Files`."""
        self._call("sync")

    def sync_dir(self, path: Path) -> None:
        """See `Files`."""
        self._call("sync_dir")

    def rename(self, source: Path, target: Path) -> None:
        """See `Files`."""
        self._call("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """See `Files`."""
        self._call("unlink")
        super().unlink(path)

    def map(self, handle: Handle, length: int) -> Map:
        """See `Files`."""
        self._call("map")
        return super().map(handle, length)


class FullDiskFiles(UnsyncedFiles):
    """A disk that can be full: files keep their blocks, and get no more."""

    def __init__(self) -> None:
        self.full = False

    def _need(self, handle: Handle, length: int) -> None:
        if self.full and length > self.size(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(handle.path))

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        self._need(handle, length)
        super().allocate(handle, length)

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        self._need(handle, position + sum(map(len, buffers)))
        return super().write(handle, buffers, position)


class ColdFiles(UnsyncedFiles):
    """Files of which nothing is ever in memory, as far as anyone can tell."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []
        # Positions that can't be read.
        self.bad: list[int] = []

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """See `Files`."""
        if any(position <= bad < position + length for bad in self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(handle.path))
        self.reads.append((position, length))
        return super().read(handle, length, position)

    def map(self, handle: Handle, length: int) -> Map:
        """See `Files`."""
        return ColdMap(handle.fd, length)


class ColdMap(Map):
    """A map of a file that is not in memory."""

    def resident(self, start: int, end: int) -> bool:
        """See `Map`."""
        return False


class Killed(BaseException):
    """The process is gone."""


class KillingFiles(UnsyncedFiles):
    """Kills the process at the n-th call that changes something: what was written stays.

    A write has got half way.

    Args:
        when: Which call, from 1.
    """

    def __init__(self, when: int) -> None:
        self.calls = 0
        self._when = when

    def _call(self) -> None:
        self.calls += 1
        if self.calls >= self._when:
            raise Killed

    def create(self, path: Path) -> Handle:
        """See `Files`."""
        self._call()
        return super().create(path)

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        self._call()
        super().allocate(handle, length)

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        try:
            self._call()
        except Killed:
            if self.calls == self._when:
                data = b"".join(buffers)
                os.pwrite(handle.fd, data[: len(data) // 2], position)
            raise
        return super().write(handle, buffers, position)

    def rename(self, source: Path, target: Path) -> None:
        """See `Files`."""
        self._call()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """See `Files`."""
        self._call()
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        """See `Files`."""
        self._call()
        super().mkdir(path)
