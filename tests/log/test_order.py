"""What the device is told, in its order: the rules that no content of a file shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from mq.log import spare as spare_module
from mq.log import writer as writer_module
from mq.log.files import Files, Handle
from mq.log.format import HEADER_BYTES
from tests.log.batches import append, fill, open_log, read_all

FIRST = "00000000000000000000.seg"


class Call(NamedTuple):
    """A call of the seam: the name of its file, and where in it."""

    kind: str
    name: str
    position: int = 0


class NotingFiles(Files):
    """The operating system, and a note of every call whose order counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._renamed: dict[str, str] = {}

    def _note(self, kind: str, handle: Handle, position: int = 0) -> None:
        name = handle.path.name
        self.calls.append(Call(kind, self._renamed.get(name, name), position))

    def create(self, path: Path) -> Handle:
        """See `Files`."""
        self.calls.append(Call("create", path.name))
        return super().create(path)

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        self._note("allocate", handle)
        super().allocate(handle, length)

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """See `Files`."""
        self._note("read", handle, position)
        return super().read(handle, length, position)

    def write(self, handle: Handle, buffers: Sequence[bytes | memoryview], position: int) -> int:
        """See `Files`."""
        self._note("write", handle, position)
        return super().write(handle, buffers, position)

    def sync_data(self, handle: Handle) -> None:
        """See `Files`."""
        super().sync_data(handle)
        self._note("sync", handle)

    def sync(self, handle: Handle) -> None:
        """See `Files`."""
        super().sync(handle)
        self._note("sync", handle)

    def sync_dir(self, path: Path) -> None:
        """See `Files`."""
        super().sync_dir(path)
        self.calls.append(Call("sync_dir", ""))

    def rename(self, source: Path, target: Path) -> None:
        """Noted under the new name."""
        self.calls.append(Call("rename", target.name))
        # Who has it open goes on with it.
        self._renamed[source.name] = target.name
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """See `Files`; noted if there was something."""
        super().unlink(path)
        self.calls.append(Call("unlink", path.name))

    def first(self, kind: str, name: str, start: int = 0) -> int:
        """Where the first such call is, from ``start`` on."""
        for at, call in enumerate(self.calls[start:], start):
            if call.kind == kind and call.name.startswith(name):
                return at
        raise AssertionError(f"no {kind} of {name} after {start}: {self.calls}")


def kinds(calls: Sequence[Call]) -> list[str]:
    """The calls' names."""
    return [call.kind for call in calls]


def test_a_new_segment_is_whole_before_it_has_its_name(tmp_path: Path) -> None:
    """Allocated and synced, its header written and synced, renamed, the directory synced."""
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    fill(log, 30, size=3000)
    assert len(log.segments) > 2
    for number, segment in enumerate(log.segments, 1):
        scratch, name = f"next-{number}.tmp", f"{segment.base_offset:020d}.seg"
        named = files.first("rename", name)
        before = [call.kind for call in files.calls[:named] if call.name == scratch]
        # The first blocks, as zeros, are on the device with the allocation.
        assert before == ["create", "allocate", "write", "sync", "write", "sync"]
        synced = files.first("sync_dir", "", named)
        frame = files.first("write", name)
        assert synced < frame
        assert files.calls[frame].position == HEADER_BYTES


def test_a_group_is_synced_before_it_is_durable(tmp_path: Path) -> None:
    """Readers see nothing of what is only written, and all of it after the sync."""
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    files.calls.clear()
    append(log, 3)
    assert kinds(files.calls)[-1] == "write"
    assert (log.durable_offset, log.end_offset) == (0, 3)
    files.calls.clear()
    log.sync()
    assert files.calls == [Call("sync", FIRST)]
    assert log.durable_offset == 3


def test_a_block_is_written_and_synced_before_a_frame_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only data is left to sync then, nothing that a journal has to note; after a restart too."""
    for module in (spare_module, writer_module):
        monkeypatch.setattr(module, "ZERO_AHEAD_BYTES", 8192)
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    fill(log, 1, count=1, size=3000)
    for _ in range(2):
        files.calls.clear()
        fill(log, 8, count=1, size=3000)
        # Each frame, and what is written ahead of some, is followed by a sync.
        found = kinds(files.calls)
        assert found == ["write", "sync"] * (len(found) // 2)
        assert 8 + 2 <= len(found) // 2 < 8 + 8
        # What a look at the file has brought into memory is not taken for written.
        assert (tmp_path / FIRST).read_bytes()
        log = open_log(tmp_path, files=files)
        assert [r.offset for r in read_all(log)] == list(range(log.durable_offset))


def test_an_opened_segment_is_synced_before_it_is_read(tmp_path: Path) -> None:
    """What a killed process wrote and did not sync may be in the page cache only."""
    fill(open_log(tmp_path), 3)
    files = NotingFiles()
    open_log(tmp_path, files=files)
    synced = files.first("sync", FIRST)
    scanned = [
        at for at, call in enumerate(files.calls) if call == Call("read", FIRST, HEADER_BYTES)
    ]
    assert scanned
    assert synced < min(scanned)


def test_a_tail_is_zeroed_and_synced_before_the_log_goes_on(tmp_path: Path) -> None:
    """Kept aside durably, cut off durably; only then is anything appended."""
    log = open_log(tmp_path)
    fill(log, 3)
    end = log.stored_bytes + HEADER_BYTES
    del log
    with (tmp_path / FIRST).open("r+b") as file:
        file.seek(end)
        file.write(b"\x0atorn" * 50)
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    (aside,) = tmp_path.glob("*.torn")
    kept = files.first("sync", aside.name)
    zeroed = files.first("write", FIRST)
    assert kept < zeroed
    assert files.calls[zeroed].position == end
    synced = files.first("sync", FIRST, zeroed)
    append(log)
    assert synced < files.first("write", FIRST, zeroed + 1)
    assert kinds(files.calls[zeroed:synced]).count("write") == 1


def test_the_log_start_is_durable_before_anything_is_removed(tmp_path: Path) -> None:
    """And the removals are durable before they are told."""
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    fill(log, 30, size=3000)
    files.calls.clear()
    assert log.trim(log.segments[2].base_offset)
    noted = files.first("rename", "checkpoint")
    assert files.first("sync", "checkpoint") < noted
    removed = [
        at
        for at, call in enumerate(files.calls)
        if call.kind == "unlink" and call.name.endswith(".seg")
    ]
    assert files.first("sync_dir", "", noted) < min(removed)
    assert kinds(files.calls)[-1] == "sync_dir"


def test_a_hint_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """An index or a checkpoint that a crash leaves is a whole one."""
    files = NotingFiles()
    log = open_log(tmp_path, files=files)
    fill(log, 30, size=3000)
    log.close()
    for name in ("checkpoint", "00000000000000000000.idx"):
        named = files.first("rename", name)
        scratch = files.first("sync", name)
        assert files.first("write", name) < scratch < named
        files.first("sync_dir", "", named)
