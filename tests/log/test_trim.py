"""Removing old segments, and sealing one by age."""

from __future__ import annotations

from pathlib import Path

import pytest
from crc32c import crc32c

from mq.errors import OffsetOutOfRange
from mq.log.files import Files
from mq.log.log import Append, Log
from mq.pb import mq_pb2 as pb

ID = b"c" * 16


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        """The time."""
        return self.now_ns


def open_log(path: Path, files: Files | None = None, clock: Clock | None = None) -> Log:
    """A log of small segments in ``path``."""
    path.mkdir(exist_ok=True)
    return Log(path, ID, segment_bytes=1 << 16, files=files or Files(), clock=clock or Clock())


def fill(log: Log, batches: int, size: int = 10_000) -> None:
    """Append single-record batches; six of the default size fill a segment."""
    records = pb.Records(contents=[bytes(size)]).SerializeToString()
    append = Append(records, 1, crc32c(records))
    for _ in range(batches):
        (result,) = log.append([append])
        assert not isinstance(result, Exception)
        log.sync()


def files_of(path: Path) -> set[str]:
    """The names of the segments and indexes."""
    return {p.name for p in path.iterdir() if p.suffix in (".seg", ".idx")}


def test_whole_segments_before_the_offset_go(tmp_path: Path) -> None:
    """The one that holds the offset stays, and the log begins with it."""
    log = open_log(tmp_path)
    fill(log, 20)
    second = log.segments[1]
    gone = log.trim(second.end.offset - 1)
    assert [s.base_offset for s in gone] == [0]
    assert log.log_start_offset == second.base_offset
    assert min(files_of(tmp_path)).startswith(f"{second.base_offset:020d}")
    with pytest.raises(OffsetOutOfRange):
        log.read(second.base_offset - 1, 1 << 20)
    result = log.read(second.base_offset, 1 << 20)
    assert result is not None
    assert result.spans


def test_the_active_segment_is_never_trimmed(tmp_path: Path) -> None:
    """Nor is anything durable in it lost."""
    log = open_log(tmp_path)
    fill(log, 8)
    log.trim(10**9)
    assert len(log.segments) == 1
    assert log.log_start_offset == log.segments[0].base_offset > 0
    fill(log, 1)
    assert log.durable_offset == 9


@pytest.mark.parametrize("clean", (True, False))
def test_the_log_start_survives_a_restart(tmp_path: Path, clean: bool) -> None:
    """After an orderly stop and after a crash; offsets are never used again."""
    log = open_log(tmp_path)
    fill(log, 20)
    log.trim(12)
    start, end = log.log_start_offset, log.durable_offset
    if clean:
        log.close()
    again = open_log(tmp_path)
    assert (again.log_start_offset, again.durable_offset) == (start, end)
    assert again.notices == []


class StopAt(Exception):
    """The power went."""


class CutFiles(Files):
    """Fails for good at the n-th removal."""

    def __init__(self, removals: int) -> None:
        super().__init__()
        self.left = removals

    def unlink(self, path: Path) -> None:
        """Remove, unless the power is gone."""
        if path.suffix in (".seg", ".idx"):
            if self.left == 0:
                raise StopAt
            self.left -= 1
        super().unlink(path)


@pytest.mark.parametrize("removals", range(6))
def test_a_crash_between_removals_leaves_a_log_that_opens(tmp_path: Path, removals: int) -> None:
    """Either all of it is there, or the rest of the removal is done when it opens."""
    log = open_log(tmp_path)
    fill(log, 20)
    log.close()
    cut = open_log(tmp_path, CutFiles(removals))
    with pytest.raises(StopAt):
        cut.trim(18)
    again = open_log(tmp_path)
    assert again.log_start_offset in (0, 18)
    assert again.durable_offset == 20
    result = again.read(18, 1 << 20)
    assert result is not None
    assert result.spans
    names = files_of(tmp_path)
    assert {n[:20] for n in names if n.endswith(".seg")} == {
        f"{s.base_offset:020d}" for s in again.segments
    }


def test_a_segment_is_sealed_by_age(tmp_path: Path) -> None:
    """Counted from its first record; an empty one stays."""
    clock = Clock()
    log = open_log(tmp_path, clock=clock)
    assert not log.roll_aged(10)
    fill(log, 1)
    clock.now_ns += 9
    assert not log.roll_aged(10)
    clock.now_ns += 1
    assert log.roll_aged(10)
    assert [s.sealed for s in log.segments] == [True, False]
    assert not log.roll_aged(0)
    log.trim(1)
    assert log.log_start_offset == 1
    fill(log, 1)
    assert log.durable_offset == 2


def test_a_segment_sealed_early_gives_its_blocks_back(tmp_path: Path) -> None:
    """What it does not use is free on the device again, and the file reads as before."""
    log = open_log(tmp_path)
    fill(log, 1, size=100)
    log.roll_aged(0)
    path = log.segments[0].path
    assert path.stat().st_size == 1 << 16
    if path.stat().st_blocks * 512 == 1 << 16:
        pytest.skip("this file system can't give blocks back")
    assert path.stat().st_blocks * 512 < 1 << 16
    assert log.allocated_bytes < 2 << 16
    parsed = pb.SegmentFile.FromString(path.read_bytes())
    assert parsed.footer.end_offset == 1
