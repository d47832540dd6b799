"""The power goes at any moment: nothing acknowledged is lost, nothing is invented.

Every prefix of a recorded trace, each left on the disk in several ways. What
chance decided is told by the seed in the test's name; with
``--hypothesis-profile=torture`` there are many more.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.errors import MQError
from mq.log.log import Log
from tests.log.batches import (
    Record,
    append,
    batch,
    content_at,
    numbered,
    open_log,
    read_all,
    rounds,
)
from tests.log.seams import Call, PowerCut, RecordingFiles

Story = Callable[[Path, RecordingFiles, random.Random], int]


def commit(log: Log, files: RecordingFiles) -> None:
    """Sync, as a broker does, and note what that acknowledged."""
    files.mark(log.sync())
    if log.checkpoint_due:
        log.plan_checkpoint()()
    if log.wants_prepare:
        log.prepare()


def steady(path: Path, files: RecordingFiles, source: random.Random) -> int:
    """Groups of batches, segments rolled often, checkpoints, a clean stop between."""
    log = open_log(path, segment_bytes=4096, files=files)
    for _ in range(22):
        group = []
        offset = log.end_offset
        for _ in range(source.randrange(1, 4)):
            count = source.randrange(1, 5)
            group.append(batch(*numbered(offset, count, source.choice((20, 300)))))
            offset += count
        for outcome in log.append(group):
            assert not isinstance(outcome, MQError)
        chance = source.random()
        if chance < 0.7:
            commit(log, files)
        elif chance < 0.85:
            commit(log, files)
            log.plan_checkpoint()()
        elif chance < 0.9:
            end = log.end_offset
            log.close()
            files.mark(end)
            log = open_log(path, segment_bytes=4096, files=files)
    return log.end_offset


def large(path: Path, files: RecordingFiles, source: random.Random) -> int:
    """Batches of many sectors, some larger than a segment; then killed and opened again."""
    end = 0
    for _ in range(2):
        log = open_log(path, segment_bytes=8192, files=files)
        for size in (900, 3000, 9000, 20, 700, 5000):
            append(log, source.randrange(1, 4), size)
            if source.random() < 0.8:
                commit(log, files)
        end = log.end_offset
    return end


def trimmed(path: Path, files: RecordingFiles, source: random.Random) -> int:
    """Old segments removed while new ones come."""
    log = open_log(path, segment_bytes=4096, files=files)
    for turn in range(14):
        append(log, 3, 400)
        commit(log, files)
        if turn % 4 == 3:
            log.trim(log.durable_offset - source.randrange(6))
    return log.end_offset


STORIES: dict[str, tuple[Story, tuple[int, ...]]] = {
    "steady": (steady, (20, 300)),
    "large": (large, (20, 700, 900, 3000, 5000, 9000)),
    "trimmed": (trimmed, (400,)),
}


def check(log: Log, sizes: tuple[int, ...], acknowledged: int) -> None:
    """The oracle: all that was acknowledged, in order, and nothing that no one sent."""
    records = read_all(log, log.log_start_offset)
    assert log.durable_offset >= acknowledged
    assert log.damage == []
    assert log.read_only_reason is None
    for record in records:
        assert record.content in {content_at(record.offset, size) for size in sizes}


def check_goes_on(path: Path, log: Log, size: int = 33) -> None:
    """Appending goes on, and is there after a crash and after a stop."""
    before = read_all(log, log.log_start_offset)
    base = append(log, 2, size)
    log.sync()
    new = [Record(base + n, content_at(base + n, size)) for n in range(2)]
    del log
    log = open_log(path, segment_bytes=4096)
    assert read_all(log, log.log_start_offset) == before + new
    assert not log.damage
    log.close()
    log = open_log(path, segment_bytes=4096)
    assert read_all(log, log.log_start_offset) == before + new
    assert log.notices == []


def record(story: str, path: Path, seed: int) -> tuple[list[Call], tuple[int, ...]]:
    """The trace of a story, and the sizes of its records."""
    tell, sizes = STORIES[story]
    files = RecordingFiles()
    tell(path, files, random.Random(seed))
    return files.trace, sizes


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", tuple(STORIES))
@pytest.mark.parametrize("seed", range(rounds(1, 6)))
def test_every_moment(ram_path: Path, story: str, seed: int) -> None:
    """After a cut at each call, the log opens, holds the oracle and goes on."""
    trace, sizes = record(story, ram_path / "recorded", seed)
    for length in range(len(trace) + 1):
        for chance in range(rounds(1, 8)):
            source = random.Random(f"{seed} {length} {chance}")
            path = ram_path / f"{length}-{chance}"
            cut = PowerCut(trace[:length])
            cut.leave(path, source)
            log = open_log(path, segment_bytes=4096)
            check(log, sizes, cut.acknowledged)
            # Every other one is too large for whatever segment is there.
            check_goes_on(path, log, (33, 9000)[length % 2])
            shutil.rmtree(path)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(rounds(1, 6)))
def test_again_while_recovering(ram_path: Path, seed: int) -> None:
    """A second cut, at each call of the recovery from the first, changes nothing of it."""
    trace, sizes = record("steady", ram_path / "recorded", seed)
    source = random.Random(seed)
    tried = 0
    while tried < rounds(100, 3000):
        length = source.randrange(len(trace) + 1)
        first = PowerCut(trace[:length])
        path = ram_path / f"first-{tried}"
        first.leave(path, source)
        files = RecordingFiles()
        found = files.adopt(path)
        open_log(path, segment_bytes=4096, files=files)
        for again in range(found, len(files.trace) + 1):
            tried += 1
            path_again = ram_path / f"again-{tried}"
            PowerCut(files.trace[:again]).leave(path_again, source)
            log = open_log(path_again, segment_bytes=4096)
            check(log, sizes, first.acknowledged)
            shutil.rmtree(path_again)
        shutil.rmtree(path)
