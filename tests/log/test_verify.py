"""Verification: all damage is found and located, nothing sound is blamed, nothing is written."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from mq.errors import DataDirError
from mq.log import report as reports
from mq.log.dump import dump_segment
from mq.log.envelope import encode_segment_header, parse_segment_header
from mq.log.files import OS_FILES
from mq.log.filewalk import FileReader, walk_file
from mq.log.format import HEADER_BYTES, SEAL_BYTES
from mq.log.layout import journal_id
from mq.log.log import Append, Log
from mq.log.repair.report import Action, RepairReport
from mq.log.report import LogReport, Report
from mq.log.verify import verify_data_dir, verify_log
from mq.log.walk import Bound
from tests.helpers.server import ROOT
from tests.log.batches import (
    CHANNEL,
    append,
    batch,
    fill,
    numbered,
    open_log,
    rounds,
    seeded_ids,
)
from tests.log.breaking import flip, overwrite, put_channel_json, read_past_damage
from tests.log.seams import ColdFiles

SEGMENT_BYTES = 4096
FRAME_BYTES = batch(*numbered(0, 3)).frame_bytes


@pytest.fixture
def data_dir(ram_path: Path) -> Path:
    """A data directory of one channel, without a log yet."""
    path = ram_path / "data"
    channel = path / "channels" / CHANNEL.hex()
    channel.mkdir(parents=True)
    (path / "format.json").write_text('{"format": 1, "id": "x"}\n')
    (path / "mq.lock").touch()
    put_channel_json(channel, "orders")
    return path


def channel_of(data_dir: Path) -> Path:
    """The channel's directory."""
    return data_dir / "channels" / CHANNEL.hex()


def make(data_dir: Path, batches: int = 60, *, clean: bool = True) -> list[Path]:
    """Fill the channel; its segments."""
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    fill(log, batches)
    if clean:
        log.close()
    return sorted(channel_of(data_dir).glob("*.seg"))


def verify(data_dir: Path) -> Report:
    """Verify, and see that nothing was written and that everyone agrees on the verdict."""
    before = {path: path.read_bytes() for path in sorted(data_dir.rglob("*")) if path.is_file()}
    report = verify_data_dir(data_dir)
    after = {path: path.read_bytes() for path in sorted(data_dir.rglob("*")) if path.is_file()}
    assert after == before
    values = json.loads(json.dumps(report.to_json()))
    assert values["ok"] is report.ok
    severities = [f["severity"] for log in values["logs"] for f in log["findings"]]
    severities += [f["severity"] for f in values["findings"]]
    assert report.ok == (set(severities) <= {"notice"})
    last = list(report.lines())[-1]
    assert last.startswith("sound" if report.ok else "NOT SOUND")
    return report


def kinds(report: Report | LogReport) -> list[str]:
    """What kinds of findings there are."""
    found = [f.kind for f in report.own_findings]
    logs = report.logs if isinstance(report, Report) else []
    segments = report.segments if isinstance(report, LogReport) else []
    found += [kind for log in logs for kind in kinds(log)]
    return found + [f.kind for segment in segments for f in segment.findings]


# ---- Sound --------------------------------------------------------------------


@pytest.mark.parametrize("clean", (True, False))
@pytest.mark.parametrize("batches", (0, 1, 60))
def test_what_is_sound(data_dir: Path, batches: int, clean: bool) -> None:
    """Counts are those of the log, and there is nothing to find."""
    segments = make(data_dir, batches, clean=clean)
    report = verify(data_dir)
    assert report.ok
    assert kinds(report) == []
    (log,) = report.logs
    assert (log.kind, log.name, log.id) == ("channel", "orders", CHANNEL.hex())
    assert (log.log_start_offset, log.end_offset) == (0, 3 * batches)
    assert log.records == 3 * batches
    assert sum(s.frames for s in log.segments) == batches
    assert [s.name for s in log.segments] == [p.name for p in segments]
    assert [s.sealed for s in log.segments] == [True] * (len(segments) - 1) + [False] * bool(
        segments
    )
    totals = report.to_json()["totals"]
    assert totals["frame_bytes"] == FRAME_BYTES * batches
    assert totals["file_bytes"] == SEGMENT_BYTES * len(segments)


def test_progress_comes_to_its_end(data_dir: Path) -> None:
    """It only grows, and ends at the size of all segments."""
    segments = make(data_dir)
    told: list[tuple[int, int]] = []
    verify_data_dir(data_dir, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (SEGMENT_BYTES * len(segments),) * 2


def test_after_a_trim(data_dir: Path) -> None:
    """What was removed is not missed."""
    make(data_dir, clean=False)
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    log.trim(100)
    start = log.log_start_offset
    log.close()
    report = verify(data_dir)
    assert report.ok
    assert start > 0
    assert (report.logs[0].log_start_offset, report.logs[0].end_offset) == (start, 180)


def test_the_journal_of_groups(data_dir: Path) -> None:
    """Is a log like a channel's, with an id of its own."""
    make(data_dir, 1)
    path = data_dir / "groups" / CHANNEL.hex()
    path.mkdir(parents=True)
    log = Log(path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES)
    for number in range(60):
        log.append([batch(b"C" + number.to_bytes(4, "little") + b"workers"), batch(b"D1234")])
        log.sync()
    log.close()
    report = verify(data_dir)
    assert report.ok
    assert [(log.kind, log.name, log.records) for log in report.logs] == [
        ("channel", "orders", 3),
        ("groups", "orders", 120),
    ]
    assert any(line.startswith("groups of orders: 120 records") for line in report.lines())


@pytest.mark.parametrize(
    ("record", "complaint"),
    (
        (b"", "too short"),
        (b"C123", "too short"),
        (b"X1234", "unknown kind"),
        (b"C1234\xff", "no text"),
        (b"S1234\0", "too short for a snapshot"),
        (b"S1234\5\0work", "inside the group's name"),
    ),
)
def test_a_record_of_a_journal_that_cannot_be_replayed(
    data_dir: Path, record: bytes, complaint: str
) -> None:
    """Is a fault: the broker would refuse the channel's groups."""
    path = data_dir / "groups" / CHANNEL.hex()
    path.mkdir(parents=True)
    log = Log(path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES)
    log.append([batch(b"S1234\4\0workstate"), batch(record), batch(b"E1234")])
    log.sync()
    log.close()
    report = verify(data_dir)
    assert kinds(report) == ["journal"]
    (found,) = report.logs[1].findings
    assert "offset 1" in found.message
    assert complaint in found.message


@pytest.mark.parametrize("records", (b"\x12\0", b"\x0a\5abc", b"\x0a\x80", b"\x0a" + b"\xff" * 12))
def test_a_journal_of_something_else(data_dir: Path, records: bytes) -> None:
    """A sound frame that holds no contents."""
    path = data_dir / "groups" / CHANNEL.hex()
    path.mkdir(parents=True)
    log = Log(path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES)
    log.append([Append(records, 1, crc32c(records))])
    log.sync()
    log.close()
    assert kinds(verify(data_dir)) == ["journal"]


# ---- Damage -------------------------------------------------------------------


@pytest.mark.timeout(rounds(600, 3600))
def test_each_bit_of_a_sealed_segment(data_dir: Path) -> None:
    """Any flipped bit anywhere in the file is found; in a frame, with its offsets."""
    path = make(data_dir)[1]
    content = path.read_bytes()
    frames = len(content[:-SEAL_BYTES].rstrip(b"\0")) // FRAME_BYTES
    base = int(path.stem)
    for bit in range(0, SEGMENT_BYTES * 8, rounds(37, 1)):
        flip(path, bit)
        report = verify_data_dir(data_dir)
        assert not report.ok, f"bit {bit}"
        number = (bit // 8 - HEADER_BYTES) // FRAME_BYTES
        found = [f for f in report.logs[0].findings if f.kind == "records"]
        if 0 <= number < frames:
            (damage,) = found
            first = base + 3 * number
            assert (damage.first_offset, damage.next_offset) == (first, first + 3)
            position = HEADER_BYTES + number * FRAME_BYTES
            assert (damage.position, damage.end) == (position, position + FRAME_BYTES)
            assert damage.file == path.name
            assert report.to_json()["totals"]["lost_records"] == 3
        else:
            assert not found
            assert report.to_json()["totals"]["lost_records"] == 0
        flip(path, bit)
    assert verify(data_dir).ok


@pytest.mark.timeout(rounds(600, 3600))
def test_it_agrees_with_a_reader(data_dir: Path) -> None:
    """Twenty flipped bits: the offsets that it calls lost are those that can't be read."""
    make(data_dir, 100)
    saved = data_dir.with_name("saved")
    shutil.copytree(data_dir, saved)
    for seed in range(rounds(20, 1000)):
        shutil.rmtree(data_dir)
        shutil.copytree(saved, data_dir)
        source = random.Random(seed)
        segments = sorted(channel_of(data_dir).glob("*.seg"))
        for _ in range(20):
            segment = source.choice(segments)
            end = len(segment.read_bytes()[:-SEAL_BYTES].rstrip(b"\0"))
            flip(segment, source.randrange(HEADER_BYTES * 8, end * 8))
        report = verify_data_dir(data_dir)
        told = {
            offset
            for finding in report.logs[0].findings
            if finding.lost_records
            for offset in range(finding.first_offset or 0, finding.next_offset or 0)
        }
        _, lost = read_past_damage(open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES))
        assert told == lost, seed
        assert report.logs[0].records == 300 - len(lost)


def test_a_torn_tail_is_no_damage(data_dir: Path) -> None:
    """As a crash leaves it: worth a notice, and as long as it is there."""
    path = make(data_dir, 3, clean=False)[0]
    overwrite(path, HEADER_BYTES + 3 * FRAME_BYTES, b"\x0atorn")
    report = verify(data_dir)
    assert report.ok
    assert kinds(report) == ["torn"]
    assert report.logs[0].end_offset == 9
    open_log(channel_of(data_dir)).close()
    report = verify(data_dir)
    assert report.ok
    assert kinds(report) == ["torn-file"]


def test_damage_below_what_was_durable_is_no_torn_tail(data_dir: Path) -> None:
    """The checkpoint vouches for the last frame, even where its header is gone."""
    path = make(data_dir, 3, clean=True)[0]
    overwrite(path, HEADER_BYTES + 2 * FRAME_BYTES, b"\xff")
    report = verify(data_dir)
    assert kinds(report) == ["records"]
    (found,) = report.logs[0].findings
    assert (found.first_offset, found.next_offset) == (6, 9)
    assert report.logs[0].end_offset == 9


def test_an_older_copy_of_the_last_segment(data_dir: Path) -> None:
    """What is missing is named."""
    path = make(data_dir, 2, clean=False)[0]
    old = path.read_bytes()
    log = open_log(channel_of(data_dir))
    fill(log, 2)
    log.close()
    path.write_bytes(old)
    report = verify(data_dir)
    assert report.logs[0].lost_records == 6
    assert "offsets 6 to 11 are gone" in "\n".join(report.lines())
    assert report.logs[0].end_offset == 12


Change = Callable[[list[Path]], object]


def _swap(segments: list[Path]) -> None:
    one, two = segments[1].read_bytes(), segments[2].read_bytes()
    segments[1].write_bytes(two)
    segments[2].write_bytes(one)


def _hint(segments: list[Path], name: str, change: Callable[[bytes], bytes | None]) -> None:
    path = segments[0].with_name(name) if name == "checkpoint" else segments[1].with_suffix(name)
    content = change(path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def _remove_all(segments: list[Path]) -> None:
    for segment in segments:
        segment.unlink()


def _header_and_footer(segments: list[Path]) -> None:
    flip(segments[1], 500)
    flip(segments[1], (SEGMENT_BYTES - 60) * 8)


CHANGES: dict[str, tuple[Change, list[str], int]] = {
    "first missing": (lambda s: s[0].unlink(), ["segments-missing", "leftover"], 54),
    "middle missing": (lambda s: s[1].unlink(), ["leftover", "gap", "replaced"], 54),
    "last missing": (lambda s: s[-1].unlink(), ["segments-missing", "leftover"], 18),
    "all missing": (
        _remove_all,
        ["segments-missing"] + ["leftover"] * 4,
        180,
    ),
    "swapped": (_swap, ["misplaced", "records", "misplaced", "records"], 108),
    "header": (lambda s: flip(s[1], 500), ["header"], 0),
    "header of the last": (lambda s: flip(s[-1], 500), ["header"], 0),
    "footer": (lambda s: flip(s[1], (SEGMENT_BYTES - 60) * 8), ["footer"], 0),
    "header and footer": (
        _header_and_footer,
        ["header", "footer"],
        0,
    ),
    "padding": (lambda s: flip(s[1], (SEGMENT_BYTES - 140) * 8), ["padding"], 0),
    "all of one": (
        lambda s: s[1].write_bytes(bytes(SEGMENT_BYTES)),
        ["header", "footer", "records"],
        54,
    ),
    "empty": (lambda s: s[1].write_bytes(b""), ["header", "records"], 54),
    "shortened": (lambda s: os.truncate(s[-1], 3000), ["size"], 0),
    "shortened sealed": (lambda s: os.truncate(s[1], 4000), ["size", "footer"], 0),
    "index flipped": (lambda s: _hint(s, ".idx", lambda c: c[:50] + b"!" + c[51:]), ["index"], 0),
    "index empty": (lambda s: _hint(s, ".idx", lambda _: b""), ["index"], 0),
    "index missing": (lambda s: _hint(s, ".idx", lambda _: None), ["index-missing"], 0),
    "checkpoint flipped": (
        lambda s: _hint(s, "checkpoint", lambda c: c[:50] + b"!" + c[51:]),
        ["checkpoint"],
        0,
    ),
    "checkpoint missing": (lambda s: _hint(s, "checkpoint", lambda _: None), [], 0),
}


@pytest.mark.parametrize("name", tuple(CHANGES))
def test_what_is_wrong_with_whole_files(data_dir: Path, name: str) -> None:
    """Each has a kind of its own, and the records lost are counted."""
    change, expected, lost = CHANGES[name]
    segments = make(data_dir)
    change(segments)
    report = verify(data_dir)
    assert sorted(kinds(report)) == sorted(expected)
    assert report.logs[0].lost_records == lost
    assert report.ok == (set(expected) <= {"index-missing"})


def test_a_segment_of_another_history(data_dir: Path) -> None:
    """The chain of ids shows it, and the last one's is in the checkpoint."""
    other = open_log(data_dir / "other", segment_bytes=SEGMENT_BYTES, random_id=seeded_ids(7))
    fill(other, 60)
    strangers = sorted((data_dir / "other").glob("*.seg"))
    segments = make(data_dir)
    shutil.copy(strangers[1], segments[1])
    found = kinds(verify(data_dir))
    assert found.count("replaced") == 2
    shutil.copy(strangers[-1], segments[-1])
    assert "replaced" in kinds(verify(data_dir))


def test_an_index_of_older_content(data_dir: Path) -> None:
    """Sound by its checksum, and wrong: it is compared entry by entry."""
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 40, size=300)
    index = log.segments[0].opened
    assert index is not None
    index.index.add(119, 60_000, 1)
    log.plan_checkpoint()()
    assert kinds(verify(data_dir)) == ["index"]


def test_a_segment_of_another_channel(data_dir: Path) -> None:
    """It is not counted as this channel's."""
    make(data_dir, 1)
    path = channel_of(data_dir).rename(data_dir / "channels" / ("ab" * 16))
    put_channel_json(path, "x")
    report = verify(data_dir)
    assert kinds(report) == ["foreign", "records"]
    assert report.logs[0].records == 0


# ---- Directories --------------------------------------------------------------


def test_what_does_not_belong_there(data_dir: Path) -> None:
    """Is named, and is no fault."""
    make(data_dir, 1)
    (data_dir / "channels" / ".new-0").mkdir()
    (data_dir / "channels" / ".deleted-0").mkdir()
    (data_dir / "channels" / "lost+found").mkdir()
    for name in ("notes.txt", "next-1.tmp", "00000000000000000099.idx"):
        (channel_of(data_dir) / name).touch()
    report = verify(data_dir)
    assert report.ok
    assert sorted(kinds(report)) == ["leftover"] * 4 + ["stray"] * 2


@pytest.mark.parametrize("content", ("", "[]", "{}", '{"id": "x", "name": "n"}'))
def test_a_bad_channel_json(data_dir: Path, content: str) -> None:
    """The records are sound, and the broker would leave the channel alone."""
    make(data_dir, 1)
    (channel_of(data_dir) / "channel.json").write_text(content)
    report = verify(data_dir)
    assert kinds(report) == ["channel-json"]
    assert report.logs[0].records == 3


@pytest.mark.parametrize(
    ("content", "match"),
    (
        (None, "is not an mq data directory"),
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "has format 2"),
    ),
)
def test_what_is_no_data_directory(data_dir: Path, content: str | None, match: str) -> None:
    """It is not checked, and the message says what to do."""
    (data_dir / "format.json").unlink()
    if content is not None:
        (data_dir / "format.json").write_text(content)
    with pytest.raises(DataDirError, match=match):
        verify_data_dir(data_dir)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Is told as the system tells it."""
    with pytest.raises(FileNotFoundError):
        verify_data_dir(tmp_path / "none")


def test_a_newer_segment(data_dir: Path) -> None:
    """Can't be checked: that is neither sound nor damaged."""
    path = make(data_dir, 1)[0]
    header = parse_segment_header(path.read_bytes()[:HEADER_BYTES])
    assert header is not None
    overwrite(path, 0, encode_segment_header(header._replace(format_version=2)))
    with pytest.raises(DataDirError, match="has format 2"):
        verify_data_dir(data_dir)


# ---- Beside a broker ----------------------------------------------------------


def test_it_knows_of_a_running_broker(data_dir: Path) -> None:
    """By its lock, which is not taken away: the end of the log is being written."""
    path = make(data_dir, 3, clean=False)[0]
    overwrite(path, HEADER_BYTES + 3 * FRAME_BYTES, b"\x0ahalf")
    lock = OS_FILES.lock(data_dir / "mq.lock")
    report = verify(data_dir)
    assert report.live
    assert report.ok
    assert kinds(report) == []
    assert [s.live for s in report.logs[0].segments] == [True]
    assert report.logs[0].end_offset == 9
    with pytest.raises(DataDirError):
        OS_FILES.lock(data_dir / "mq.lock")
    del lock
    assert not verify(data_dir).live


@pytest.mark.timeout(rounds(300, 3600))
def test_no_false_alarm_while_a_log_is_written(data_dir: Path) -> None:
    """Appends, rolls, checkpoints and removals go on; each verification finds it sound."""
    lock = OS_FILES.lock(data_dir / "mq.lock")
    stop = threading.Event()
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 1)

    def write() -> None:
        source = random.Random(0)
        turns = 0
        while not stop.is_set():
            turns += 1
            for _ in range(source.randrange(1, 8)):
                append(log, source.randrange(1, 20), source.choice((10, 500, 3000)))
            log.sync()
            if log.checkpoint_due or turns % 9 == 0:
                log.plan_checkpoint()()
            if log.wants_prepare:
                log.prepare()
            if turns % 20 == 0:
                log.trim(log.durable_offset - 1000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(rounds(40, 2000)):
            report = verify_data_dir(data_dir)
            assert report.live
            assert report.ok, list(report.lines())
    finally:
        stop.set()
        writer.join()
    del lock
    assert verify(data_dir).ok


# ---- The device ---------------------------------------------------------------


def test_pages_that_cannot_be_read(data_dir: Path) -> None:
    """Are damage where frames are, named, and the rest is checked all the same."""
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 40, size=300)
    log.close()
    files = ColdFiles()
    files.bad.append(20_000)
    report = verify_log(channel_of(data_dir), files=files)
    assert set(kinds(report)) == {"records", "unreadable"}
    assert 0 < report.lost_records <= 15
    assert report.records + report.lost_records == 120


@pytest.mark.parametrize("window_bytes", (100, 300, 1000, 5000, 1 << 20))
@pytest.mark.parametrize("damaged", (False, True))
def test_windows_make_no_difference(ram_path: Path, window_bytes: int, damaged: bool) -> None:
    """Frames that lie across windows, or are larger than one, are the same frames."""
    log = open_log(ram_path / "log")
    for size in (5, 50, 500, 5000, 5):
        append(log, 2, size)
    log.sync()
    path, end = log.segments[0].path, Bound(10, log.stored_bytes + HEADER_BYTES)
    if damaged:
        for position in (HEADER_BYTES + 3, HEADER_BYTES + 700, end.position - 3):
            flip(path, position * 8)
    reader = FileReader(OS_FILES, OS_FILES.open(path))
    seed, start = log.segments[0].seed, Bound(0, HEADER_BYTES)
    expected = list(walk_file(reader, start, end, seed))
    assert list(walk_file(reader, start, end, seed, 0, window_bytes)) == expected
    assert sum(step.damage is not None for step in expected) == 3 * damaged
    assert expected[-1].after() == end


# ---- Dumping ------------------------------------------------------------------


def parts(path: Path) -> list[tuple[str, int, int]]:
    """Kind, position and size of each part."""
    return [(p["kind"], p["position"], p["size"]) for p in dump_segment(path)]


def test_a_dump_covers_the_file(data_dir: Path) -> None:
    """Part for part, without a gap, sealed and not."""
    segments = make(data_dir)
    for path in segments:
        position = 0
        for kind, at, size in parts(path):
            assert at == position
            assert kind != "damage"
            position += size
        assert position == SEGMENT_BYTES
    first = list(dump_segment(segments[0]))
    assert first[0]["channel_id"] == CHANNEL
    assert [p["base_offset"] for p in first if p["kind"] == "frame"] == list(range(0, 54, 3))[
        : len(first) - 3
    ]
    assert first[-1]["end_offset"] == int(segments[1].stem)
    assert [p["kind"] for p in dump_segment(segments[-1])][-1] == "padding"


def test_a_dump_shows_damage(data_dir: Path) -> None:
    """In the place of the frame, with what is known of it; torn ends too."""
    path = make(data_dir)[0]
    overwrite(path, HEADER_BYTES + 3, b"\xff\xff")
    overwrite(path, HEADER_BYTES + 2 * FRAME_BYTES + 100, b"\xff\xff")
    damage = [p for p in dump_segment(path) if p["kind"] == "damage"]
    assert [(p["first_offset"], p["next_offset"]) for p in damage] == [(0, 3), (6, 9)]
    assert "append_time_ns" not in damage[0]
    assert damage[1]["append_time_ns"]
    overwrite(path, 0, b"\xff")
    assert parts(path)[0] == ("damage", 0, HEADER_BYTES)


def test_a_dump_of_something_else(tmp_path: Path) -> None:
    """Is refused."""
    path = tmp_path / "x"
    for content in (b"", bytes(1000), b"x" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DataDirError, match="is no segment file"):
            list(dump_segment(path))


# ---- Tools --------------------------------------------------------------------


def run_tool(name: str, *args: object) -> tuple[int, str, str]:
    """Run a script of tools/ as it stands."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "tools" / name, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_the_verify_tool(data_dir: Path) -> None:
    """Its exit codes, lines and JSON."""
    path = make(data_dir, 2)[0]
    code, out, _ = run_tool("verify.py", data_dir)
    assert code == 0
    assert out.splitlines()[0].startswith("orders: 6 records from offset 0 to 6, 1 segments")
    flip(path, (HEADER_BYTES + 100) * 8)
    code, out, _ = run_tool("verify.py", data_dir, "--json")
    assert code == 1
    assert json.loads(out)["totals"]["lost_records"] == 3
    code, _, err = run_tool("verify.py", data_dir / "none")
    assert code == 2
    assert "none" in err


def test_the_dump_tool(data_dir: Path) -> None:
    """Its exit codes and JSON."""
    path = make(data_dir, 2)[0]
    code, out, _ = run_tool("dump.py", path)
    assert code == 0
    dumped: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [p["kind"] for p in dumped] == ["header", "frame", "frame", "padding"]
    assert dumped[0]["channel_id"] == CHANNEL.hex()
    flip(path, (HEADER_BYTES + 100) * 8)
    assert run_tool("dump.py", path)[0] == 1
    assert run_tool("dump.py", data_dir / "format.json")[0] == 2


def test_the_tools_need_no_grpc() -> None:
    """Neither they nor the log engine import it."""
    code = "import sys, mq.log.verify, mq.log.log; print('grpc' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False\n"


def test_the_schema_is_documented() -> None:
    """Every field and every kind of finding is in docs/verify.md."""
    document = (ROOT / "docs" / "verify.md").read_text()
    made = reports.Report("d", 1)
    log = reports.LogReport("channel", "id", "d")
    segment = reports.SegmentReport("s", 0)
    finding = reports.Finding(reports.Severity.FAULT, "k", "m", "f", 1, 2, 3, 4)
    fields = [*made.to_json(), *made.to_json()["totals"], *log.to_json(), *segment.to_json()]
    for name in [*fields, *finding.to_json()]:
        assert f"`{name}`" in document, name
    repaired = RepairReport("d", dry_run=True)
    action = Action("k", "f", "p", "r", 1, 2, 3, 4)
    for name in [*repaired.to_json(), *action.to_json()]:
        assert f"`{name}`" in document, name
    sources = sorted((ROOT / "mq" / "log").rglob("*.py"))
    text = "".join(path.read_text() for path in sources)
    found = set(re.findall(r'(?:DAMAGE|FAULT|NOTICE|severity),\s*"([a-z-]+)"', text))
    assert len(found) >= 15
    steps = set(re.findall(r'Action\(\s*"([a-z-]+)"', text))
    assert len(steps) >= 9
    for kind in found | steps:
        assert f"`{kind}`" in document, kind
