"""Repair: what can be read stays, what can't is marked, and the log goes on."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path

import pytest

from mq.errors import ChannelFailed, DataDirError
from mq.log.checkpoint import Checkpoint
from mq.log.dump import dump_segment
from mq.log.envelope import encode_segment_header, parse_segment_header
from mq.log.files import OS_FILES, Handle
from mq.log.format import HEADER_BYTES, SEAL_BYTES
from mq.log.layout import QUARANTINE_NAME, journal_id
from mq.log.log import Log
from mq.log.repair.repair import repair_data_dir
from mq.log.repair.report import Action
from mq.log.report import Severity
from mq.log.verify import verify_data_dir
from tests.log.batches import (
    CHANNEL,
    FAST_FILES,
    UnsyncedFiles,
    append,
    batch,
    fill,
    numbered,
    open_log,
    rounds,
    seeded_ids,
)
from tests.log.breaking import flip, overwrite, put_channel_json, read_past_damage
from tests.log.repairing import (
    BATCHES,
    CHANGES,
    FOOTER,
    FRAME_BYTES,
    SEGMENT_BYTES,
    channel_of,
    check_serves,
    kinds,
    make,
    new_data_dir,
    offsets,
    repair,
    tree,
)
from tests.log.seams import Buffers, ColdFiles


@pytest.fixture
def data_dir(ram_path: Path) -> Path:
    """A data directory of one channel, without a log yet."""
    return new_data_dir(ram_path / "data")


def test_nothing_to_repair(data_dir: Path) -> None:
    """A sound directory is left as it is, stopped in order or killed."""
    for clean in (True, False):
        make(data_dir, clean=clean)
        before = tree(data_dir)
        assert kinds(repair(data_dir)) == []
        assert tree(data_dir) == before
        assert not (data_dir / QUARANTINE_NAME).exists()


# ---- Damaged frames -----------------------------------------------------------


@pytest.mark.parametrize("part", (20, 100))
@pytest.mark.parametrize("frame", (0, 5, 17))
@pytest.mark.parametrize("segment", (0, 1, -2))
def test_a_damaged_frame(data_dir: Path, segment: int, frame: int, part: int) -> None:
    """Is lost, whether its header or its records are damaged; its bytes are kept."""
    path = make(data_dir)[segment]
    position = HEADER_BYTES + frame * FRAME_BYTES
    original = path.read_bytes()
    flip(path, (position + part) * 8 + 3)
    broken = path.read_bytes()[position : position + FRAME_BYTES]
    done = repair(data_dir)
    assert kinds(done) == ["mark-lost", "seal", "checkpoint"]
    assert done.lost_records == 3
    (kept,) = (data_dir / QUARANTINE_NAME / "0001" / "channels").rglob(f"{path.name}.{position}-*")
    assert kept.read_bytes() == broken
    after = path.read_bytes()
    assert after[:position] == original[:position]
    assert (
        after[position + FRAME_BYTES : -SEAL_BYTES]
        == original[position + FRAME_BYTES : -SEAL_BYTES]
    )
    check_serves(data_dir, offsets(path, frame), 3 * BATCHES)


@pytest.mark.timeout(600)
def test_many_damaged_bits(data_dir: Path) -> None:
    """Twenty flipped bits anywhere in the frames cost those frames, and nothing else."""
    make(data_dir, 100)
    saved = data_dir.with_name("saved")
    shutil.copytree(data_dir, saved)
    for seed in range(rounds(12, 500)):
        shutil.rmtree(data_dir)
        shutil.copytree(saved, data_dir)
        source = random.Random(seed)
        segments = sorted(channel_of(data_dir).glob("*.seg"))
        lost = set()
        for _ in range(20):
            path = source.choice(segments)
            frames = (len(path.read_bytes()[:-SEAL_BYTES].rstrip(b"\0")) - HEADER_BYTES) // (
                FRAME_BYTES
            )
            bit = source.randrange(HEADER_BYTES * 8, (HEADER_BYTES + frames * FRAME_BYTES) * 8)
            flip(path, bit)
            lost |= offsets(path, (bit // 8 - HEADER_BYTES) // FRAME_BYTES)
        told = verify_data_dir(data_dir).logs[0].lost_records
        assert told <= len(lost)
        done = repair(data_dir)
        assert done.lost_records == told
        if told == len(lost):
            check_serves(data_dir, lost, 300)


@pytest.mark.parametrize("size", (1, 600, 5000))
@pytest.mark.parametrize("fill_with", (b"\0", b"\xa5"))
def test_a_range_of_garbage(data_dir: Path, size: int, fill_with: bytes) -> None:
    """Neighbours that are damaged together are one range."""
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 40, size=300)
    log.close()
    path = log.segments[0].path
    overwrite(path, 10_000, fill_with * size)
    (found,) = verify_data_dir(data_dir).logs[0].findings[:1]
    done = repair(data_dir)
    assert kinds(done) == ["mark-lost", "checkpoint"]
    first, after = found.first_offset, found.next_offset
    assert first is not None
    assert after is not None
    log = open_log(channel_of(data_dir))
    kept, lost = read_past_damage(log)
    assert lost == set(range(done.actions[0].first_offset or 0, done.actions[0].next_offset or 0))
    assert lost >= set(range(first, after))
    assert len(lost) <= 3 * (size // 1000 + 2)
    assert kept == {o: numbered(o, 1, 300)[0] for o in range(120) if o not in lost}


# ---- Whole files --------------------------------------------------------------


@pytest.mark.parametrize("name", tuple(CHANGES))
def test_what_is_wrong_with_whole_files(data_dir: Path, name: str) -> None:
    """What was refused or read-only serves again, with every record that there is."""
    change, expected, lost = CHANGES[name]
    segments = make(data_dir)
    assert [int(s.stem) for s in segments] == [0, 54, 108, 162]
    change(segments)
    done = repair(data_dir)
    assert kinds(done) == expected
    assert done.lost_records == len(lost)
    check_serves(data_dir, lost, 3 * BATCHES)


def test_segments_of_another_history(data_dir: Path) -> None:
    """What the others don't know is set aside, whole, and its offsets are lost."""
    other = open_log(
        data_dir.with_name("other"), segment_bytes=SEGMENT_BYTES, random_id=seeded_ids(7)
    )
    fill(other, BATCHES)
    strangers = sorted(data_dir.with_name("other").glob("*.seg"))
    for number, lost in ((1, range(54, 108)), (-1, range(162, 180)), (0, range(54))):
        shutil.rmtree(channel_of(data_dir))
        channel_of(data_dir).mkdir()
        put_channel_json(channel_of(data_dir), "orders")
        segments = make(data_dir)
        shutil.copy(strangers[number], segments[number])
        done = repair(data_dir)
        assert kinds(done) == ["set-aside", "add-segment", "checkpoint"]
        (kept,) = (data_dir / QUARANTINE_NAME).rglob(segments[number].name)
        assert kept.read_bytes() == strangers[number].read_bytes()
        shutil.rmtree(data_dir / QUARANTINE_NAME)
        check_serves(data_dir, set(lost), 3 * BATCHES)


def test_a_segment_of_another_channel(data_dir: Path) -> None:
    """The same, whatever it has for a name."""
    segments = make(data_dir)
    other = data_dir.with_name("other")
    other.mkdir()
    log = Log(other, b"another channel!", segment_bytes=SEGMENT_BYTES, files=FAST_FILES)
    fill(log, 40)
    strangers = sorted(other.glob("*.seg"))
    shutil.copy(strangers[1], segments[1])
    shutil.copy(strangers[0], segments[1].with_name("00000000000000000777.seg"))
    done = repair(data_dir)
    assert kinds(done) == ["set-aside", "set-aside", "add-segment", "checkpoint"]
    check_serves(data_dir, set(range(54, 108)), 3 * BATCHES)


def test_a_segment_that_is_there_twice(data_dir: Path) -> None:
    """The one under its own name stays."""
    segments = make(data_dir)
    shutil.copy(segments[1], segments[1].with_name("00000000000000000777.seg"))
    assert kinds(repair(data_dir)) == ["set-aside"]
    check_serves(data_dir, set(), 3 * BATCHES)


def test_a_mixture_of_everything(data_dir: Path) -> None:
    """Each part is mended as if it were alone."""
    segments = make(data_dir, 100)
    assert len(segments) == 6
    flip(segments[0], (HEADER_BYTES + 20) * 8)
    flip(segments[0], FOOTER * 8)
    segments[1].unlink()
    flip(segments[2], 500)
    flip(segments[2], FOOTER * 8)
    overwrite(segments[3], HEADER_BYTES + 3 * FRAME_BYTES, b"\xff" * 2 * FRAME_BYTES)
    segments[4].unlink()
    (channel_of(data_dir) / "checkpoint").write_bytes(b"what")
    done = repair(data_dir)
    lost = {*range(3), *range(54, 108), *offsets(segments[3], 3, 2), *range(216, 270)}
    assert done.lost_records == len(lost)
    check_serves(data_dir, lost, 300)


# ---- The end of the log -------------------------------------------------------


def test_a_torn_tail(data_dir: Path) -> None:
    """Is cut off, and kept."""
    path = make(data_dir, 3, clean=False)[0]
    end = HEADER_BYTES + 3 * FRAME_BYTES
    overwrite(path, end, b"\x0atorn")
    done = repair(data_dir)
    assert kinds(done) == ["cut-torn", "checkpoint"]
    (kept,) = (data_dir / QUARANTINE_NAME).rglob(f"*.{end}-{end + 5}")
    assert kept.read_bytes() == b"\x0atorn"
    check_serves(data_dir, set(), 9)


def test_an_older_copy_of_the_last_segment(data_dir: Path) -> None:
    """After a stop in order it is known what is gone: appending goes on behind it."""
    path = make(data_dir, 2, clean=False)[0]
    old = path.read_bytes()
    log = open_log(channel_of(data_dir))
    fill(log, 2)
    log.close()
    path.write_bytes(old)
    assert open_log(channel_of(data_dir)).read_only_reason is not None
    done = repair(data_dir)
    assert kinds(done) == ["mark-lost", "checkpoint"]
    check_serves(data_dir, set(range(6, 12)), 12)


def test_what_was_stored_after_the_checkpoint_is_not_known(data_dir: Path) -> None:
    """So many offsets are left out as there was room for: none is used twice."""
    path = make(data_dir, 2, clean=False)[0]
    old = path.read_bytes()
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    fill(log, 2)
    log.plan_checkpoint()()
    path.write_bytes(old)
    done = repair(data_dir)
    assert done.lost_records == 6
    (action,) = [a for a in done.actions if a.kind == "mark-lost"]
    end = 12 + (SEGMENT_BYTES - SEAL_BYTES - HEADER_BYTES - 2 * FRAME_BYTES) // 2
    assert f"leave out offsets up to {end - 1}" in action.remedy
    check_serves(data_dir, set(range(6, end)), end)


def test_a_stop_in_order_vouches_for_nothing_that_came_after(data_dir: Path) -> None:
    """A log that went on after it may have held more: no offset is used twice."""
    path = make(data_dir, 2)[0]
    old = path.read_bytes()
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    fill(log, 2)
    path.write_bytes(old[:HEADER_BYTES].ljust(SEGMENT_BYTES, b"\0"))
    done = repair(data_dir)
    (action,) = [a for a in done.actions if a.kind == "mark-lost"]
    assert "so that none is used twice" in action.remedy
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    assert append(log) >= 12


@pytest.mark.parametrize("content", (b"", bytes(SEGMENT_BYTES), b"\xa5" * 1000))
def test_a_channel_of_which_nothing_is_left(data_dir: Path, content: bytes) -> None:
    """Its first offset is not used again, though no one knows how many there were."""
    make(data_dir, 5, clean=False)[0].write_bytes(content)
    with pytest.raises(ChannelFailed):
        open_log(channel_of(data_dir))
    done = repair(data_dir)
    assert kinds(done) == ["set-aside", "add-segment", "checkpoint"]
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    assert append(log) >= 1 << 20
    log.sync()


def test_a_full_segment_whose_end_is_gone(data_dir: Path) -> None:
    """Where there is no room for the mark, room is made."""
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    fill(log, 17, size=45)
    assert not log.fits(0)
    log.close()
    path = channel_of(data_dir) / "checkpoint"
    checkpoint = Checkpoint.decode(path.read_bytes())
    assert checkpoint is not None
    path.write_bytes(dataclasses.replace(checkpoint, durable_offset=60).encode())
    done = repair(data_dir)
    assert kinds(done) == ["header", "size", "mark-lost", "checkpoint"]
    check_serves(data_dir, set(range(51, 60)), 60, size=45)


# ---- What is around the logs --------------------------------------------------


def channel_json(data_dir: Path) -> dict[str, object]:
    """What the broker reads."""
    values: dict[str, object] = json.loads((channel_of(data_dir) / "channel.json").read_bytes())
    return values


@pytest.mark.parametrize(
    ("content", "name"),
    (
        (None, f"recovered-{CHANNEL.hex()}"),
        (b"", f"recovered-{CHANNEL.hex()}"),
        (b"{}", f"recovered-{CHANNEL.hex()}"),
        (b'{\n  "format": 1,\n  "name": "orders",\n  "id": "0001', "orders"),
        (b'{"name": "../x",', f"recovered-{CHANNEL.hex()}"),
        (b'{"name": "taken",', f"recovered-{CHANNEL.hex()}"),
    ),
)
def test_a_lost_channel_json(data_dir: Path, content: bytes | None, name: str) -> None:
    """The channel has its name again where that is legible, or another; its records it has."""
    make(data_dir, 3)
    taken = data_dir / "channels" / ("cd" * 16)
    taken.mkdir()
    put_channel_json(taken, "taken")
    path = channel_of(data_dir) / "channel.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    done = repair(data_dir)
    assert kinds(done) == ["channel-json"]
    assert f"the name {name}" in done.actions[0].remedy
    assert channel_json(data_dir)["name"] == name
    assert channel_json(data_dir)["id"] == CHANNEL.hex()
    kept = data_dir / QUARANTINE_NAME / "0001" / path.relative_to(data_dir)
    assert (kept.read_bytes() if kept.exists() else None) == content
    check_serves(data_dir, set(), 9)


def test_a_channel_under_another_id(data_dir: Path) -> None:
    """Has its own directory again, and is repaired there."""
    path = make(data_dir, 3)[0]
    flip(path, (HEADER_BYTES + 100) * 8)
    channel_of(data_dir).rename(data_dir / "channels" / ("ab" * 16))
    assert kinds(repair_data_dir(data_dir, files=FAST_FILES)) == ["rename"]
    done = repair_data_dir(data_dir, dry_run=False, files=FAST_FILES)
    assert kinds(done) == ["rename", "mark-lost", "checkpoint"]
    check_serves(data_dir, set(range(3)), 9)


def test_a_copy_of_a_channel(data_dir: Path) -> None:
    """Is no other channel: it is set aside."""
    make(data_dir, 3)
    shutil.copytree(channel_of(data_dir), data_dir / "channels" / ("ab" * 16))
    assert kinds(repair(data_dir)) == ["set-aside"]
    assert (data_dir / QUARANTINE_NAME / "0001" / "channels" / ("ab" * 16)).is_dir()
    check_serves(data_dir, set(), 9)


@pytest.mark.parametrize("content", (None, b"", b"[]", b"{}", b'{"format": "x'))
def test_a_lost_format_json(data_dir: Path, content: bytes | None) -> None:
    """Segments of this format say what it was."""
    make(data_dir, 3)
    (data_dir / "format.json").unlink()
    if content is not None:
        (data_dir / "format.json").write_bytes(content)
    with pytest.raises(DataDirError):
        verify_data_dir(data_dir)
    assert kinds(repair(data_dir)) == ["format-json"]
    check_serves(data_dir, set(), 9)


@pytest.mark.parametrize("content", (None, b"", b'{"format": 2}'))
def test_what_is_no_data_directory(data_dir: Path, content: bytes | None) -> None:
    """Is not made one."""
    if content == b'{"format": 2}':
        make(data_dir, 3)
    (data_dir / "format.json").unlink()
    if content is not None:
        (data_dir / "format.json").write_bytes(content)
    before = tree(data_dir)
    for dry_run in (True, False):
        with pytest.raises(DataDirError):
            repair_data_dir(data_dir, dry_run=dry_run, files=FAST_FILES)
    assert tree(data_dir) == before
    with pytest.raises(FileNotFoundError):
        repair_data_dir(data_dir / "none", dry_run=False)


def test_a_newer_segment(data_dir: Path) -> None:
    """Is for the version that wrote it to repair: nothing is changed."""
    segments = make(data_dir)
    header = parse_segment_header(segments[1].read_bytes()[:HEADER_BYTES])
    assert header is not None
    overwrite(segments[1], 0, encode_segment_header(header._replace(format_version=2)))
    flip(segments[0], 8 * 500)
    before = tree(data_dir)
    with pytest.raises(DataDirError, match="has format 2"):
        repair_data_dir(data_dir, dry_run=False, files=FAST_FILES)
    assert tree(data_dir) == before


def test_a_directory_in_use(data_dir: Path) -> None:
    """Is not even planned for."""
    flip(make(data_dir)[0], 8 * 500)
    before = tree(data_dir)
    lock = OS_FILES.lock(data_dir / "mq.lock")
    for dry_run in (True, False):
        with pytest.raises(DataDirError, match="in use"):
            repair_data_dir(data_dir, dry_run=dry_run)
    assert tree(data_dir) == before
    del lock


def test_the_journal_of_groups(data_dir: Path) -> None:
    """Is repaired like a channel, and it is said what that means."""
    make(data_dir, 1)
    path = data_dir / "groups" / CHANNEL.hex()
    path.mkdir(parents=True)
    log = Log(path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES, files=FAST_FILES)
    for number in range(60):
        log.append([batch(b"C" + number.to_bytes(4, "little") + b"workers" * 9)])
        log.sync()
    log.close()
    segments = sorted(path.glob("*.seg"))
    flip(segments[0], (HEADER_BYTES + 100) * 8)
    segments[1].unlink()
    done = repair(data_dir)
    assert kinds(done) == ["mark-lost", "seal", "add-segment", "checkpoint"]
    assert "may be given messages again" in done.actions[0].remedy


def test_trimmed_logs(data_dir: Path) -> None:
    """What was removed on purpose is not missed, and not looked at."""
    make(data_dir, clean=False)
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    saved = log.segments[0].path.read_bytes()
    log.trim(60)
    assert log.log_start_offset == 54
    log.close()
    # As if the crash had come before it was unlinked.
    log.segments[0].path.with_name("00000000000000000000.seg").write_bytes(saved[:500])
    flip(log.segments[0].path, (HEADER_BYTES + 100) * 8)
    assert kinds(repair(data_dir)) == ["mark-lost", "seal", "checkpoint"]
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    assert log.log_start_offset == 54
    assert read_past_damage(log)[1] == {54, 55, 56}


def test_producers_are_remembered(data_dir: Path) -> None:
    """A repeat is known after a repair that made the checkpoint anew."""
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    for sequence in range(1, 6):
        log.append([batch(*numbered(log.end_offset, 3), producer_id=9, sequence=sequence)])
        log.sync()
    log.close()
    flip(log.segments[0].path, (HEADER_BYTES + 100) * 8)
    repair(data_dir)
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    (again,) = log.append([batch(*numbered(12, 3), producer_id=9, sequence=5)])
    assert not isinstance(again, Exception)
    assert (again.duplicate, again.base_offset) == (True, 12)


def test_what_cannot_be_repaired_is_left(data_dir: Path) -> None:
    """Bytes that are no frame and stand for no record: told, and no harm to what is around."""
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 4)
    frames = log.segments[0].path.read_bytes()
    log.close()
    # Garbage slipped in before the last two frames, which are moved on.
    at = HEADER_BYTES + 2 * FRAME_BYTES
    overwrite(log.segments[0].path, at, b"\xa5" * 10 + frames[at : at + 2 * FRAME_BYTES])
    (channel_of(data_dir) / "checkpoint").unlink()
    done = repair_data_dir(data_dir, dry_run=False, files=FAST_FILES)
    assert done.left
    assert not done.ok
    assert "can't be repaired: " in "\n".join(done.lines())
    found, lost = read_past_damage(open_log(channel_of(data_dir)))
    assert lost == set()
    assert len(found) == 12


# ---- The device ---------------------------------------------------------------


def test_pages_that_cannot_be_read(data_dir: Path) -> None:
    """Are overwritten, which mends them on a disk that has sectors to spare."""
    log = open_log(channel_of(data_dir), segment_bytes=1 << 16)
    fill(log, 40, size=300)
    log.close()
    files = MendingFiles()
    overwrite(log.segments[0].path, 60_000, b"torn")
    files.bad = [20_000, 60_000]
    done = repair_data_dir(data_dir, dry_run=False, files=files)
    assert done.ok, list(done.lines())
    assert files.bad == []
    assert kinds(done) == ["unreadable", "mark-lost", "checkpoint"]
    found, lost = read_past_damage(open_log(channel_of(data_dir)))
    assert len(found) + len(lost) == 120
    assert 0 < len(lost) <= 15


class MendingFiles(ColdFiles):
    """Pages that can't be read until they are written whole."""

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """See `Files`."""
        if handle.path.suffix != ".seg":
            return UnsyncedFiles.read(self, handle, length, position)
        return super().read(handle, length, position)

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        end = position + sum(map(len, buffers))
        self.bad = [b for b in self.bad if not position <= b // 4096 * 4096 <= end - 4096]
        return super().write(handle, buffers, position)


# ---- How it is told -----------------------------------------------------------


def test_a_report_in_words(data_dir: Path) -> None:
    """Before: what would be done. After: what was, where the old is, and how it stands."""
    path = make(data_dir)[0]
    flip(path, (HEADER_BYTES + 100) * 8)
    planned = list(repair_data_dir(data_dir).lines())
    name = f"channels/{CHANNEL.hex()}/{path.name}"
    assert planned[0].endswith("NOT SOUND")
    first = f"{name}: offsets 0 to 2 are damaged or gone: mark them as lost"
    assert planned[-5] == f"to do: {first}"
    assert planned[-2] == (
        "nothing was changed: --repair --yes takes these 3 steps, and marks 3 records as lost "
        "for good"
    )
    assert planned[-1] == f"what is replaced is first copied into {data_dir}/quarantine"
    taken: list[Action] = []
    done = list(repair_data_dir(data_dir, dry_run=False, taken=taken.append).lines())
    assert done[:3] == [line.replace("to do", "done") for line in planned[-5:-2]]
    assert done[:3] == [f"done: {action.line()}" for action in taken]
    assert done[3] == "repaired in 3 steps; 3 records are marked as lost"
    assert done[4].endswith("quarantine/0001")
    assert done[5].startswith("sound: 177 records")
    assert done[5].endswith("3 more are marked as lost")
    told = json.loads((data_dir / QUARANTINE_NAME / "0001" / "report.json").read_bytes())
    assert told["ok"] is True
    assert [each["kind"] for each in told["actions"]] == ["mark-lost", "seal", "checkpoint"]
    again = repair_data_dir(data_dir)
    assert again.ok
    assert list(again.lines())[-1] == "nothing to repair"
    assert next(repair_data_dir(data_dir, dry_run=False).lines()) == "nothing to repair"


def test_what_no_repair_mends_is_told_before_and_after(data_dir: Path) -> None:
    """A journal's record that can't be replayed is sound as a record, and is left."""
    make(data_dir, 1)
    path = data_dir / "groups" / CHANNEL.hex()
    path.mkdir(parents=True)
    log = Log(path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES, files=FAST_FILES)
    log.append([batch(b"Zwhat is this")])
    log.close()
    for dry_run in (True, False):
        report = repair_data_dir(data_dir, dry_run=dry_run, files=FAST_FILES)
        assert (report.actions, report.ok) == ([], False)
        (left,) = report.left
        assert left.startswith(f"groups/{CHANNEL.hex()}/00000000000000000000.seg: a record in")
        assert "there is nothing that could be repaired" in list(report.lines())


def test_progress_comes_to_its_end(data_dir: Path) -> None:
    """With each reading of all segments, to plan and to verify."""
    make(data_dir)
    told: list[tuple[int, int]] = []
    repair_data_dir(data_dir, progress=lambda done, total: told.append((done, total)))
    total = sum(path.stat().st_size for path in channel_of(data_dir).glob("*.seg"))
    assert {each for _, each in told} == {total}
    assert [done for done, _ in told].count(total) >= 2


def test_lost_ranges_are_told_by_verify_and_dump(data_dir: Path) -> None:
    """Once marked they are no damage any more, and are still to be seen."""
    path = make(data_dir)[0]
    flip(path, (HEADER_BYTES + 100) * 8)
    assert "damage" in {part["kind"] for part in dump_segment(path)}
    repair(data_dir)
    (found,) = verify_data_dir(data_dir).logs[0].findings
    assert (found.severity, found.kind) == (Severity.NOTICE, "lost")
    assert (found.first_offset, found.next_offset, found.position) == (0, 3, HEADER_BYTES)
    (part,) = [part for part in dump_segment(path) if part["kind"] == "lost"]
    assert (part["first_offset"], part["next_offset"]) == (0, 3)
    assert "damage" not in {part["kind"] for part in dump_segment(path)}
