"""The seam: what goes to the operating system, whole and in order, whatever it answers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mq.errors import DataDirError
from mq.log import files as files_module
from mq.log.files import OS_FILES, Files


class ShortFiles(Files):
    """A device that takes as many bytes at a time as it likes."""

    def __init__(self, portions: Sequence[int]) -> None:
        self.portions = list(portions)

    def _pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], position: int) -> int:
        data = b"".join(buffers)
        return os.pwrite(fd, data[: self.portions.pop(0) if self.portions else None], position)


@settings(max_examples=50)
@given(
    buffers=st.lists(st.binary(max_size=30), max_size=6),
    portions=st.lists(st.integers(1, 40), max_size=8),
    position=st.integers(0, 10),
)
def test_short_writes_are_completed(
    tmp_path_factory: pytest.TempPathFactory,
    buffers: list[bytes],
    portions: list[int],
    position: int,
) -> None:
    """A device that takes less than it was given is given the rest."""
    files = ShortFiles(portions)
    path = tmp_path_factory.mktemp("short") / "file"
    handle = files.create(path)
    data = b"".join(buffers)
    assert files.write(handle, buffers, position) == len(data)
    assert path.read_bytes()[position:] == data


def test_a_device_that_takes_nothing(tmp_path: Path) -> None:
    """Is an error, not an endless loop."""
    files = ShortFiles([2, 0])
    handle = files.create(tmp_path / "file")
    with pytest.raises(OSError, match="accepts no more bytes"):
        files.write(handle, [b"four"], 0)


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    """They are written one after another."""
    buffers = [b"%d," % n for n in range(3000)]
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.write(handle, buffers, 5)
    assert OS_FILES.read(handle, 1 << 20, 5) == b"".join(buffers)


def test_reading_past_the_end(tmp_path: Path) -> None:
    """Gives what there is."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.write(handle, [b"12345"], 0)
    assert OS_FILES.read(handle, 100, 3) == b"45"
    assert OS_FILES.read(handle, 100, 5) == b""
    assert OS_FILES.read(handle, 0, 0) == b""


def test_reads_cut_short_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that a signal cut short goes on."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.write(handle, [b"0123456789"], 0)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 3), at))
    assert OS_FILES.read(handle, 8, 1) == b"12345678"
    assert OS_FILES.read(handle, 80, 1) == b"123456789"


def test_create_never_touches_an_old_file(tmp_path: Path) -> None:
    """One that is open, or has a second name, keeps its content."""
    path, second = tmp_path / "file", tmp_path / "second"
    old = OS_FILES.create(path)
    OS_FILES.write(old, [b"old"], 0)
    second.hardlink_to(path)
    new = OS_FILES.create(path)
    OS_FILES.write(new, [b"new!"], 0)
    assert OS_FILES.read(old, 9, 0) == second.read_bytes() == b"old"
    assert path.read_bytes() == b"new!"
    assert path.stat().st_mode & 0o777 == 0o600


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    """Opening one is refused, and creating replaces the link, not its target."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        OS_FILES.open(link)
    OS_FILES.create(link)
    assert target.read_bytes() == b"precious"
    assert not link.is_symlink()


@pytest.mark.parametrize("code", (errno.EOPNOTSUPP, errno.EINVAL, None))
def test_allocation_where_the_file_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """Zeros are written instead, behind what there is."""

    def refuse(*args: object) -> None:
        if code is None:
            raise AttributeError
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr(files_module, "_ZEROS", bytes(100))
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.write(handle, [b"abc"], 0)
    OS_FILES.allocate(handle, 1050)
    assert (tmp_path / "file").read_bytes() == b"abc" + bytes(1047)


def test_a_full_disk_is_not_worked_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allocation says so."""

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space"):
        OS_FILES.allocate(OS_FILES.create(tmp_path / "file"), 1000)
    assert (tmp_path / "file").stat().st_size == 0


def test_the_end_of_data(tmp_path: Path) -> None:
    """Holes, and blocks never written, are behind it; a hole before it is not."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.allocate(handle, 1 << 20)
    assert OS_FILES.data_end(handle, 1 << 20) == 1 << 20
    OS_FILES.write(handle, [b"x"], 200_000)
    end = OS_FILES.data_end(handle, 0)
    assert 200_000 < end <= 1 << 20
    assert OS_FILES.read(handle, 1 << 20, end).strip(b"\0") == b""
    assert OS_FILES.data_end(handle, end) >= end


def test_the_end_of_data_where_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the end of the file then."""

    def refuse(fd: int, position: int, how: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.allocate(handle, 5000)
    monkeypatch.setattr(os, "lseek", refuse)
    assert OS_FILES.data_end(handle, 0) == 5000


def test_replace_is_all_or_nothing(tmp_path: Path) -> None:
    """A failure leaves the old content, and no scratch file."""

    class Failing(Files):
        def sync(self, handle: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "file"
    OS_FILES.replace(path, b"old")
    with pytest.raises(OSError, match="Input/output"):
        Failing().replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    OS_FILES.replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_maps(tmp_path: Path) -> None:
    """What is written shows in a map, and one that is too long is an error, not a signal."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.allocate(handle, 10_000)
    mapped = OS_FILES.map(handle, 10_000)
    OS_FILES.write(handle, [b"abc"], 5000)
    assert bytes(mapped.view[5000:5003]) == b"abc"
    assert mapped.resident(5000, 5003)
    view = mapped.view[5000:5003]
    mapped.forget()
    assert bytes(view) == b"abc"
    with pytest.raises(OSError, match="shorter than 10001 bytes"):
        OS_FILES.map(handle, 10_001)


def test_what_is_not_in_memory(tmp_path: Path) -> None:
    """Is not resident, until it is read."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.write(handle, [bytes(1 << 20)], 0)
    OS_FILES.sync(handle)
    OS_FILES.forget(handle)
    mapped = OS_FILES.map(handle, 1 << 20)
    if mapped.resident(0, 1 << 20):
        pytest.skip("this file system keeps its pages")
    OS_FILES.read(handle, 1 << 20, 0)
    assert mapped.resident(0, 1 << 20)


def test_released_blocks_read_as_zeros(tmp_path: Path) -> None:
    """And what surrounds them stays."""
    handle = OS_FILES.create(tmp_path / "file")
    OS_FILES.allocate(handle, 1 << 16)
    OS_FILES.write(handle, [b"begin"], 0)
    OS_FILES.write(handle, [b"end"], (1 << 16) - 3)
    OS_FILES.release(handle, 5, (1 << 16) - 3)
    content = (tmp_path / "file").read_bytes()
    assert content == b"begin" + bytes((1 << 16) - 8) + b"end"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second one is told what to do."""
    held = OS_FILES.lock(tmp_path / "mq.lock")
    with pytest.raises(DataDirError, match="in use by another mq process"):
        OS_FILES.lock(tmp_path / "mq.lock")
    del held
    OS_FILES.lock(tmp_path / "mq.lock")


def test_handles_close_with_their_last_reference(tmp_path: Path) -> None:
    """A reader that holds one never loses it."""
    handle = OS_FILES.create(tmp_path / "file")
    fd = handle.fd
    os.fstat(fd)
    del handle
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
