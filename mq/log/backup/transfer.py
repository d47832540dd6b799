"""Files brought from one directory into another: linked where that can be, or copied."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from mq.errors import DataDirError
from mq.log.files import Files
from mq.log.filewalk import WINDOW_BYTES, FileReader
from mq.log.format import FOOTER_BYTES, HEADER_BYTES

# What a file system says where a link can't be: another device, not allowed, too many.
_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class Identity(NamedTuple):
    """What tells one version of a sealed segment from all others: size, header and footer."""

    size_bytes: int
    header: bytes
    footer: bytes


def identity_of(files: Files, path: Path) -> Identity | None:
    """A segment file's identity; None: there is no such file.

    Raises:
        OSError: It can't be read.
    """
    try:
        handle = files.open(path)
    except FileNotFoundError:
        return None
    size, reader = files.size(handle), FileReader(files, handle)
    footer = reader.read(max(0, size - FOOTER_BYTES), FOOTER_BYTES)
    return Identity(size, reader.read(0, HEADER_BYTES), footer)


def link_file(files: Files, source: Path, target: Path) -> bool:
    """Give a file another name in place of what has it; False: it can't be linked.

    Raises:
        OSError: Something else is wrong.
    """
    with contextlib.suppress(FileNotFoundError):
        files.unlink(target)
    try:
        files.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def copy_file(files: Files, source: Path, target: Path, end: int | None = None) -> int:
    """Copy a file, or what lies before ``end`` and zeros up to its length; not yet synced.

    Zeros take no room where the file system can do that. Pages that the device
    can't read are zeros, which the check of the copy then finds.

    Returns:
        How many bytes were copied.

    Raises:
        OSError: It can't be done.
    """
    handle = files.open(source)
    size = files.size(handle)
    end = size if end is None else min(end, size)
    reader, copy, written = FileReader(files, handle), files.create(target), 0
    for at in range(0, end, WINDOW_BYTES):
        data = reader.read(at, min(WINDOW_BYTES, end - at)).rstrip(b"\0")
        if data:
            files.write(copy, [data], at)
            written = at + len(data)
    if written < size:
        files.write(copy, [b"\0"], size - 1)
    return end


def crc_of(files: Files, path: Path) -> tuple[int, int]:
    """A file's length, and the CRC32C of all of it.

    Raises:
        OSError: It can't be read.
    """
    handle = files.open(path)
    size, crc = files.size(handle), 0
    for at in range(0, size, WINDOW_BYTES):
        crc = crc32c(files.read(handle, min(WINDOW_BYTES, size - at), at), crc)
    return size, crc


def make_directory(files: Files, path: Path) -> None:
    """Make a directory unless it is there.

    Raises:
        OSError: It can't be made, or something else has the name.
    """
    try:
        files.mkdir(path)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise


def make_top_directory(files: Files, path: Path) -> None:
    """Make the directory that a caller named, unless it is there; not the one above it.

    Raises:
        DataDirError: There is none above it, or it is something else.
        OSError: It can't be made.
    """
    try:
        make_directory(files, path)
    except FileNotFoundError:
        raise DataDirError(
            f"there is no directory {path.parent} to make {path.name} in; mount or make it first"
        ) from None
    except FileExistsError:
        raise DataDirError(f"{path} is not a directory; name another") from None


def remove_tree(files: Files, path: Path) -> None:
    """Remove a directory and all that is in it; a symbolic link in it is not followed.

    Raises:
        OSError: It can't be done; some of it may be gone.
    """
    for name in files.list(path):
        each = path / name
        if each.is_dir() and not each.is_symlink():
            remove_tree(files, each)
        else:
            files.unlink(each)
    files.rmdir(path)
