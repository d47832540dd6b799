"""A repair that is killed, or whose power is cut, at any moment, and run again: the same result."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from mq.errors import ChannelFailed
from mq.log.files import Files
from mq.log.format import HEADER_BYTES
from mq.log.layout import QUARANTINE_NAME
from mq.log.repair.repair import repair_data_dir
from tests.log.batches import FAST_FILES, numbered, open_log, rounds
from tests.log.breaking import flip, overwrite, read_past_damage
from tests.log.repairing import (
    BATCHES,
    CHANGES,
    FOOTER,
    FRAME_BYTES,
    SEGMENT_BYTES,
    channel_of,
    check_serves,
    make,
    new_data_dir,
)
from tests.log.seams import Killed, KillingFiles, PowerCut, RecordingFiles


def break_much(segments: list[Path]) -> None:
    """Several kinds of damage at once, in all segments, and a lost channel.json."""
    flip(segments[0], (HEADER_BYTES + 20) * 8)
    flip(segments[0], FOOTER * 8)
    flip(segments[1], 500)
    overwrite(segments[1], HEADER_BYTES + 3 * FRAME_BYTES, b"\xff" * 2 * FRAME_BYTES)
    segments[2].unlink()
    segments[3].write_bytes(segments[3].read_bytes()[: HEADER_BYTES + 4 * FRAME_BYTES + 20])
    segments[0].with_name("channel.json").write_bytes(b'{"name": "orders"')
    segments[0].with_suffix(".idx").unlink()


BROKEN = {
    **{name: (change, lost) for name, (change, _, lost) in CHANGES.items()},
    "much": (break_much, {0, 1, 2, *range(63, 69), *range(108, 162), *range(174, 180)}),
}


def quarantined(path: Path) -> list[bytes]:
    """What is in all the quarantines of a data directory, but for reports and hints."""
    files = (p for p in (path / QUARANTINE_NAME).rglob("*") if p.is_file())
    hints = ("report.json", "checkpoint")
    return [p.read_bytes() for p in files if p.name not in hints and p.suffix != ".idx"]


class State(NamedTuple):
    """What matters of a repaired channel."""

    start: int
    end: int
    found: dict[int, bytes]
    lost: set[int]
    segments: list[tuple[int, bytes, bool]]
    channel_json: bytes


def state_of(path: Path) -> State:
    """What a broker would see, which changes nothing in the directory."""
    copy = path.with_name("state")
    shutil.copytree(channel_of(path), copy)
    log = open_log(copy, segment_bytes=SEGMENT_BYTES)
    assert log.read_only_reason is None
    found, lost = read_past_damage(log)
    segments = [(s.base_offset, s.segment_id, s.sealed) for s in log.segments]
    channel_json = (copy / "channel.json").read_bytes()
    shutil.rmtree(copy)
    return State(log.log_start_offset, log.durable_offset, found, lost, segments, channel_json)


def check_opened_meanwhile(path: Path) -> None:
    """A broker that starts on a half-repaired directory refuses, or reads nothing wrong."""
    try:
        log = open_log(channel_of(path), segment_bytes=SEGMENT_BYTES)
    except (ChannelFailed, FileNotFoundError):
        return
    for offset, content in read_past_damage(log)[0].items():
        assert content == numbered(offset, 1)[0]


def run(path: Path, files: Files) -> bool:
    """Repair; False if it was killed."""
    try:
        report = repair_data_dir(path, dry_run=False, files=files)
    except Killed:
        return False
    assert report.ok, list(report.lines())
    return True


def prepare(ram_path: Path, name: str) -> tuple[Path, Path]:
    """A broken data directory, and the same repaired without interruption."""
    broken, repaired = new_data_dir(ram_path / "broken"), ram_path / "repaired"
    BROKEN[name][0](make(broken))
    shutil.copytree(broken, repaired)
    run(repaired, FAST_FILES)
    return broken, repaired


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", tuple(BROKEN))
def test_killed_at_each_call(ram_path: Path, name: str) -> None:
    """Whatever was half done, the second run ends where the first would have."""
    broken, repaired = prepare(ram_path, name)
    expected, kept = state_of(repaired), quarantined(repaired)
    path, opened = ram_path / "killed", ram_path / "opened"
    when, done = 0, False
    while not done:
        when += 1
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(broken, path)
        done = run(path, KillingFiles(when))
        shutil.copytree(path, opened)
        check_opened_meanwhile(opened)
        shutil.rmtree(opened)
        assert run(path, FAST_FILES)
        assert state_of(path) == expected, when
        # What the first run would have kept is there, from one run or the other.
        found = quarantined(path)
        assert all(each in found for each in kept), when
    assert when > 1
    check_serves(path, BROKEN[name][1], 3 * BATCHES)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ("much", "swapped", "zeroed", "last cut", "two missing"))
def test_the_power_goes_at_each_call(ram_path: Path, name: str) -> None:
    """The same where what was not synced is there in part, or not at all."""
    broken, repaired = prepare(ram_path, name)
    expected = state_of(repaired)
    recorded = ram_path / "recorded"
    shutil.copytree(broken, recorded)
    files = RecordingFiles(recorded)
    start = files.adopt(recorded)
    assert run(recorded, files)
    for length in range(start, len(files.trace) + 1):
        for chance in range(rounds(1, 10)):
            path = ram_path / "cut"
            PowerCut(files.trace[:length]).leave(path, random.Random(f"{length} {chance}"))
            assert run(path, FAST_FILES)
            assert state_of(path) == expected, (length, chance)
            shutil.rmtree(path)
