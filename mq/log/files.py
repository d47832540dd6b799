"""The seam between the log and the operating system.

Everything the log engine does to a disk goes through one ``Files`` object, so
that a test can record it, fail it, or cut it short at any call. The methods
are thin: no policy, no retry except for short transfers.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mq.errors import DataDirError

_IOV_MAX = 1024
_PAGE = mmap.PAGESIZE
_ZEROS = bytes(1 << 20)
# What there is to be said for trying again: room, and what others may give back.
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
NO_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# What a file system says that has no fallocate.
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate", None)
_syncfs = getattr(_libc, "syncfs", None)
_FALLOC_KEEP_SIZE = 1
_FALLOC_PUNCH_HOLE = 2

if sys.platform == "darwin":
    # fsync there stops at the device's own cache.
    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    _sync_data = _sync
else:
    _sync = os.fsync
    _sync_data = os.fdatasync


def _linux_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Handle:
    """An open file. Closed when the last reference goes, so a reader never loses it."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path

    def __del__(self) -> None:
        os.close(self.fd)


class Map:
    """A read-only shared map of a whole file; unmapped with its last reference."""

    __slots__ = ("_address", "buffer", "view")

    def __init__(self, fd: int, length: int) -> None:
        try:
            self.buffer = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ)
        except ValueError as error:
            raise OSError(errno.EIO, f"the file is shorter than {length} bytes") from error
        self.view = memoryview(self.buffer)
        self._address = np.frombuffer(self.view, np.uint8).ctypes.data

    def resident(self, start: int, end: int) -> bool:
        """Whether every page of ``[start, end)`` is in the page cache."""
        first = start // _PAGE * _PAGE
        pages = (end - first + _PAGE - 1) // _PAGE
        vector = (ctypes.c_ubyte * pages)()
        address = ctypes.c_void_p(self._address + first)
        if _libc.mincore(address, ctypes.c_size_t(end - first), vector) != 0:
            return False
        # Only the lowest bit is defined; Linux sets no other.
        return bytes(vector).count(1) == pages

    def forget(self) -> None:
        """Drop this process's page table entries; the page cache keeps the pages."""
        self.buffer.madvise(mmap.MADV_DONTNEED)


class Files:
    """The operating system's own files. Errors are ``OSError`` throughout."""

    def open(self, path: Path, *, write: bool = False) -> Handle:
        """Open an existing regular file; a symbolic link is refused."""
        flags = os.O_RDWR if write else os.O_RDONLY
        return Handle(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW), path)

    def create(self, path: Path) -> Handle:
        """Create a file of mode 0600, empty; whatever had the name loses it.

        Always a new file: one that someone still has open, or that has another
        name as well, is not touched.
        """
        with contextlib.suppress(FileNotFoundError):
            self.unlink(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return Handle(os.open(path, flags, 0o600), path)

    def allocate(self, handle: Handle, length: int) -> None:
        """Make the file ``length`` bytes long, with room on the device for all of them.

        What it holds stays; what is added is zeros.
        """
        try:
            os.posix_fallocate(handle.fd, 0, length)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_FALLOCATE:
                raise
            self.write_zeros(handle, self.size(handle), length)

    def release(self, handle: Handle, start: int, end: int) -> None:
        """Give the blocks of ``[start, end)``, which are zeros, back to the device.

        They read as zeros still. A file system that can't do that keeps them.
        """
        first, last = -(-start // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if first < last and _fallocate is not None:
            flags = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
            _fallocate(handle.fd, flags, ctypes.c_long(first), ctypes.c_long(last - first))

    def size(self, handle: Handle) -> int:
        """The file's length in bytes."""
        return os.fstat(handle.fd).st_size

    def write(self, handle: Handle, buffers: Sequence[bytes | memoryview], position: int) -> int:
        """Write all of ``buffers`` one after another at ``position``.

        Returns:
            The number of bytes written, always the sum of the lengths.
        """
        done = 0
        for at in range(0, len(buffers), _IOV_MAX):
            chunk = buffers[at : at + _IOV_MAX]
            want = sum(map(len, chunk))
            wrote = self._pwritev(handle.fd, chunk, position + done)
            if wrote < want:
                rest = memoryview(b"".join(chunk))[wrote:]
                while rest:
                    more = self._pwritev(handle.fd, [rest], position + done + wrote)
                    if more == 0:
                        raise OSError(errno.EIO, "the device accepts no more bytes")
                    wrote += more
                    rest = rest[more:]
            done += want
        return done

    def _pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], position: int) -> int:
        return os.pwritev(fd, buffers, position)

    def write_zeros(self, handle: Handle, start: int, end: int) -> None:
        """Overwrite ``[start, end)`` with zeros."""
        while start < end:
            step = min(len(_ZEROS), end - start)
            self.write(handle, [memoryview(_ZEROS)[:step]], start)
            start += step

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """Read up to ``length`` bytes; fewer only at the end of the file."""
        data = os.pread(handle.fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            data = os.pread(handle.fd, length - got, position + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def data_end(self, handle: Handle, position: int) -> int:
        """Where the last data at or after ``position`` ends: beyond are only zeros.

        Holes and allocated blocks never written are skipped without reading
        them; a file system that can't tell answers the file's size.
        """
        end = position
        size = self.size(handle)
        while position < size:
            try:
                data = os.lseek(handle.fd, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return end
                return size
            end = position = os.lseek(handle.fd, data, os.SEEK_HOLE)
        return end

    def sync_data(self, handle: Handle) -> None:
        """``fdatasync``: the content is on the device when this returns."""
        _sync_data(handle.fd)

    def sync(self, handle: Handle) -> None:
        """``fsync``: content and metadata are on the device when this returns."""
        _sync(handle.fd)

    def sync_dir(self, path: Path) -> None:
        """Make the directory's entries (creations, renames, removals) durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(fd)
        finally:
            os.close(fd)

    def open_file_system(self, path: Path) -> Handle | None:
        """A handle to sync the whole file system of a directory with, for as long as it lives.

        None where that would not tell of errors: on Linux it does from 5.8 on,
        those since the handle was opened or last synced.
        """
        if _syncfs is None or _linux_version() < (5, 8):
            return None
        return Handle(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def sync_file_system(self, handle: Handle) -> None:
        """``syncfs``: everything written to the file system is on the device.

        Raises:
            OSError: Something of it, of whichever file, could not be written.
        """
        assert _syncfs is not None, "there is a handle only where there is syncfs"
        if _syncfs(handle.fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def forget(self, handle: Handle) -> None:
        """Drop the file's clean pages, so that the next read asks the device."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def will_need(self, handle: Handle, position: int, length: int) -> None:
        """Start reading ``[position, position + length)`` into the page cache."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fd, position, length, os.POSIX_FADV_WILLNEED)

    def map(self, handle: Handle, length: int) -> Map:
        """Map the file's first ``length`` bytes for reading."""
        return Map(handle.fd, length)

    def rename(self, source: Path, target: Path) -> None:
        """Replace ``target`` by ``source``, atomically."""
        os.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, which nothing has yet."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a file's name; open handles and maps go on working."""
        os.unlink(path)

    def list(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        return sorted(os.listdir(path))

    def mkdir(self, path: Path) -> None:
        """Create a directory of mode 0700."""
        os.mkdir(path, 0o700)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def free_bytes(self, path: Path) -> int:
        """What an unprivileged process may still write on the device of ``path``."""
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def lock(self, path: Path) -> Handle:
        """Take the lock file, creating it if need be; held while the handle lives.

        Raises:
            DataDirError: Another process holds it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = Handle(os.open(path, flags, 0o600), path)
        try:
            fcntl.flock(handle.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirError(
                f"{path.parent} is in use by another mq process; stop it, or give this one "
                "another data directory"
            ) from None
        return handle

    def replace(self, path: Path, content: bytes) -> None:
        """Give ``path`` this content, durably and atomically: old or new, never half.

        For one thread at a time and path.
        """
        scratch = path.with_name(path.name + ".tmp")
        handle = self.create(scratch)
        try:
            self.write(handle, [content], 0)
            self.sync(handle)
            self.rename(scratch, path)
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(scratch)
            raise
        self.sync_dir(path.parent)


OS_FILES = Files()
