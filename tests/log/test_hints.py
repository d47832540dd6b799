"""Checkpoint and indexes are hints: without them, or with old ones, the log is the same."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.errors import ChannelFailed, DiskFull
from mq.log.checkpoint import Checkpoint, CheckpointWriter
from mq.log.files import Handle
from mq.log.format import CHECKPOINT_NAME
from mq.log.log import Log
from tests.log.batches import FAST_FILES, batch, files_in, fill, numbered, open_log, read_all
from tests.log.seams import Buffers, FullDiskFiles

SEGMENT_BYTES = 8192


def publish(log: Log, batches: int) -> None:
    """Batches of producers and of none."""
    for n in range(batches):
        log.append(
            [
                batch(*numbered(log.end_offset, 2)),
                batch(b"of a producer %d" % n, producer_id=1 + n % 3, sequence=log.end_offset)
                if n % 3 == n % 5
                else batch(*numbered(log.end_offset + 2, 1)),
            ]
        )
        log.sync()


def state(log: Log) -> object:
    """Everything that must not depend on hints."""
    return (
        read_all(log),
        list(log._writer.producers.snapshot().items()),
        (log.log_start_offset, log.durable_offset, log.end_offset),
        [(s.base_offset, s.end if s.sealed else None) for s in log.segments],
        log.damage,
        log.read_only_reason,
        [log.seek_time(n) for n in range(3)],
        log.stored_bytes,
    )


@pytest.fixture
def histories(ram_path: Path) -> list[Path]:
    """A log's directory, several times as it grew; the last one is the whole."""
    path = ram_path / "log"
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    found = []
    for turn in range(5):
        publish(log, 25)
        log.plan_checkpoint()()
        found.append(ram_path / f"turn-{turn}")
        shutil.copytree(path, found[-1])
    publish(log, 5)
    found.append(ram_path / "now")
    shutil.copytree(path, found[-1])
    return found


def reopened(path: Path, scratch: Path, change: Callable[[Path], None]) -> Log:
    """A changed copy of a directory, opened."""
    copy = scratch / "copy"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(path, copy)
    change(copy)
    return open_log(copy, segment_bytes=SEGMENT_BYTES)


CONTENTS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:-9] + bytes((content[-9] ^ 1,)) + content[-8:],
    "zeros": lambda content: bytes(len(content)),
    "other": lambda _: b"something else\n" * 20,
}


@pytest.mark.parametrize("what", (CHECKPOINT_NAME, ".idx", "both"))
@pytest.mark.parametrize("how", tuple(CONTENTS))
def test_hints_that_cannot_be_used(
    histories: list[Path], ram_path: Path, what: str, how: str
) -> None:
    """Nothing but a notice tells the difference."""
    suffixes = (CHECKPOINT_NAME, ".idx") if what == "both" else (what,)

    def change(path: Path) -> None:
        for hint in list(path.iterdir()):
            if hint.name.endswith(suffixes):
                content = CONTENTS[how](hint.read_bytes())
                hint.unlink()
                if content is not None:
                    hint.write_bytes(content)

    expected = state(reopened(histories[-1], ram_path, lambda _: None))
    log = reopened(histories[-1], ram_path, change)
    assert state(log) == expected
    checkpoint = what != ".idx" and how != "missing"
    assert log.notices == ["the checkpoint is damaged; all was scanned"] * checkpoint
    publish(log, 3)
    log.close()
    assert open_log(log.directory, segment_bytes=SEGMENT_BYTES).notices == []


def test_hints_of_any_age(histories: list[Path], ram_path: Path) -> None:
    """A checkpoint of one time with indexes of another, older and newer than each other."""
    now = histories[-1]
    expected = state(reopened(now, ram_path, lambda _: None))
    for checkpoint, indexes in itertools.product(histories, repeat=2):

        def change(path: Path, of: Path = checkpoint, idx: Path = indexes) -> None:
            for index in path.glob("*.idx"):
                index.unlink()
            for index in idx.glob("*.idx"):
                shutil.copy(index, path)
            shutil.copy(of / CHECKPOINT_NAME, path)

        log = reopened(now, ram_path, change)
        assert state(log) == expected
        assert log.notices == []


def test_a_checkpoint_ahead_of_the_log(histories: list[Path], ram_path: Path) -> None:
    """Is evidence of what is missing: the log is refused, or takes no appends."""
    newest = histories[-2] / CHECKPOINT_NAME
    for older in histories[:-2]:
        before = files_in(older)

        def change(path: Path) -> None:
            shutil.copy(newest, path)

        try:
            log = reopened(older, ram_path, change)
        except ChannelFailed:
            after = files_in(ram_path / "copy")
            del after[CHECKPOINT_NAME], before[CHECKPOINT_NAME]
            assert after == before
        else:
            assert log.read_only_reason is not None
            assert log.damage


def test_a_checkpoint_that_cannot_be_read(histories: list[Path], ram_path: Path) -> None:
    """Is one that is not there, and told."""

    def change(path: Path) -> None:
        (path / CHECKPOINT_NAME).unlink()
        (path / CHECKPOINT_NAME).symlink_to(path / "elsewhere")

    expected = state(reopened(histories[-1], ram_path, lambda _: None))
    log = reopened(histories[-1], ram_path, change)
    assert state(log) == expected
    assert "the checkpoint can't be read" in log.notices[0]


# ---- The writer of hints -------------------------------------------------------


def checkpoint(durable: int, start: int = 0) -> Checkpoint:
    """A checkpoint of the segment at 0."""
    return Checkpoint(0, "aa", 128, durable, 0, start, 0, 0)


def written(path: Path) -> int | None:
    """The durable offset of the checkpoint that is there."""
    file = path / CHECKPOINT_NAME
    if not file.exists():
        return None
    found = Checkpoint.decode(file.read_bytes())
    assert found is not None
    return found.durable_offset


def test_checkpoints_never_go_back(tmp_path: Path) -> None:
    """An older one that comes late is dropped, with its index; one as old is written."""
    writer = CheckpointWriter(FAST_FILES, tmp_path)
    writer.write(checkpoint(5), b"five")
    writer.write(checkpoint(4), b"four")
    index = tmp_path / "00000000000000000000.idx"
    assert (written(tmp_path), index.read_bytes()) == (5, b"five")
    writer.write(checkpoint(5), b"again")
    assert index.read_bytes() == b"again"
    writer.write_sealed_index(0, 9, b"all of it")
    writer.write(checkpoint(8), b"eight")
    assert (written(tmp_path), index.read_bytes()) == (5, b"all of it")
    writer.write(checkpoint(9), None)
    assert (written(tmp_path), index.read_bytes()) == (9, b"all of it")


def test_a_log_start_never_goes_back(tmp_path: Path) -> None:
    """Of two checkpoints of one durable offset, the later log start stays."""
    writer = CheckpointWriter(FAST_FILES, tmp_path)
    writer.write(checkpoint(9, start=5), None)
    writer.write(checkpoint(9, start=0), None)
    found = Checkpoint.decode((tmp_path / CHECKPOINT_NAME).read_bytes())
    assert found is not None
    assert found.log_start_offset == 5


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    """The directory is another's by then."""
    writer = CheckpointWriter(FAST_FILES, tmp_path)
    writer.close()
    writer.write(checkpoint(5), b"index")
    assert list(tmp_path.iterdir()) == []


def test_fill_leaves_sound_hints(tmp_path: Path) -> None:
    """A stop writes both, and the checkpoint says that it was one."""
    log = open_log(tmp_path / "log")
    fill(log, 3)
    log.close()
    found = Checkpoint.decode((tmp_path / "log" / CHECKPOINT_NAME).read_bytes())
    assert found is not None
    assert (found.durable_offset, found.frame_count, found.clean) == (9, 3, True)
    index = log.segments[0].read_index(FAST_FILES)
    assert index is not None
    assert index.count == found.index_count == 1


class OrderFiles(FullDiskFiles):
    """Notes which files change, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[str] = []

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        self.changed.append(handle.path.name)
        return super().write(handle, buffers, position)

    def rename(self, source: Path, target: Path) -> None:
        """See `Files`."""
        super().rename(source, target)
        self.changed.append(target.name)


def is_clean(log: Log) -> bool:
    """What the checkpoint says now."""
    found = Checkpoint.decode((log.directory / CHECKPOINT_NAME).read_bytes())
    assert found is not None
    return found.clean


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The directory of a log that was closed in order."""
    log = open_log(tmp_path / "log")
    fill(log, 3)
    log.close()
    return log.directory


def test_a_clean_checkpoint_is_taken_back_before_the_first_append(stopped: Path) -> None:
    """Durably, and once."""
    files = OrderFiles()
    log = open_log(stopped, files=files)
    before = state(log)
    fill(log, 2)
    assert files.changed[:3] == ["checkpoint.tmp", "checkpoint", log.segments[0].path.name]
    assert files.changed.count("checkpoint") == 1
    assert not is_clean(log)
    log.close()
    assert is_clean(log)
    assert before != state(open_log(stopped))


def test_a_clean_checkpoint_of_a_log_that_is_not_appended_to_stays(stopped: Path) -> None:
    """Ten thousand quiet channels cost nothing when they are opened."""
    files = OrderFiles()
    log = open_log(stopped, files=files)
    read_all(log)
    assert not log.roll_aged(1 << 60)
    log.close()
    assert is_clean(log)
    assert files.changed == []


def test_a_clean_checkpoint_is_taken_back_before_an_aged_segment_is_rolled(stopped: Path) -> None:
    """That is going on, too."""
    files = OrderFiles()
    log = open_log(stopped, files=files, clock=lambda: 1 << 60)
    assert log.roll_aged(1)
    assert files.changed[:2] == ["checkpoint.tmp", "checkpoint"]
    assert not is_clean(log)


def test_a_clean_checkpoint_that_cannot_be_taken_back(stopped: Path) -> None:
    """Without room for it nothing is appended; with room, appending works by itself."""
    files = OrderFiles()
    log = open_log(stopped, files=files)
    files.full = True
    (refused,) = log.append([batch(*numbered(9, 3))])
    assert isinstance(refused, DiskFull)
    assert log.segments[0].path.name not in files.changed
    assert is_clean(log)
    files.full = False
    fill(log, 1)
    assert not is_clean(log)
    assert log.durable_offset == 12
