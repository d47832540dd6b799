"""Compaction of a log: what stays, what goes, and that it can be cut short anywhere."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from mq.errors import DataLoss, MQError
from mq.log.cache import SegmentCache
from mq.log.compaction.compact import Compaction
from mq.log.compaction.history import History, Pass
from mq.log.log import Log
from mq.log.verify import verify_data_dir, verify_log
from tests.log.batches import Clock, open_log, rounds
from tests.log.compacting import (
    Keyed,
    compact,
    keyed_batch,
    left,
    parse_keyed,
    put,
    random_records,
    read_keyed,
)
from tests.log.repairing import channel_of, new_data_dir, repair
from tests.log.seams import FailingFiles, Killed, KillingFiles, PowerCut, RecordingFiles

NEVER = 1 << 60


def fill(log: Log, source: random.Random, batches: int, keys: int = 10) -> None:
    """Append random keyed batches."""
    for _ in range(batches):
        put(log, *random_records(source, keys))


def sealed_end(log: Log) -> int:
    """Where the last sealed segment ends."""
    return log.segments[-1].base_offset


def check_sound(log: Log) -> None:
    """Nothing in the directory is damaged, or out of place."""
    report = verify_log(log.directory, live=True)
    kinds = {f.kind for segment in report.segments for f in segment.findings}
    kinds |= {f.kind for f in report.own_findings}
    assert kinds <= {"index-missing"}


@pytest.mark.parametrize("seed", range(8))
def test_the_latest_record_of_each_key_stays(ram_path: Path, seed: int) -> None:
    """With its offset, key, header and time; so does what has no key, or is not sealed yet."""
    source = random.Random(seed)
    clock = Clock()
    log = open_log(ram_path / "log", segment_bytes=4096, clock=clock, cache=SegmentCache(2))
    for _ in range(4):
        fill(log, source, 40)
        clock.now_ns += 1000
        before = read_keyed(log)
        expected = left(before, sealed_end(log))
        assert compact(log, clock.now_ns, NEVER) > 0
        assert read_keyed(log) == expected
        assert read_keyed(log, max_bytes=1) == expected
        check_sound(log)
        if source.random() < 0.5:
            if source.random() < 0.5:
                log.close()
            log = open_log(log.directory, segment_bytes=4096, clock=clock)
            assert not log.notices
            assert read_keyed(log) == expected
    assert log.read_only_reason is None


def test_nothing_is_written_where_nothing_goes(tmp_path: Path) -> None:
    """A second pass leaves every file alone."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    fill(log, random.Random(1), 60)
    assert log.dirty_ratio == 1.0
    compact(log, 0, NEVER)
    assert log.dirty_ratio == 0.0
    names = {path.name: path.stat().st_ino for path in log.directory.glob("*.seg")}
    assert compact(log, 0, NEVER) == 0
    assert {path.name: path.stat().st_ino for path in log.directory.glob("*.seg")} == names


def test_what_was_compacted_is_known_after_a_restart(tmp_path: Path) -> None:
    """Stopped in order or not, it is not done again."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    fill(log, random.Random(1), 60)
    compact(log, 0, NEVER)
    assert open_log(log.directory, segment_bytes=4096).dirty_ratio == 0.0


def tombstones(log: Log) -> list[Keyed]:
    """The tombstones that are there."""
    return [r for r in read_keyed(log) if r.key and not r.content]


def fill_up(log: Log) -> None:
    """Append records without a key until another segment begins."""
    base = log.segments[-1].base_offset
    while log.segments[-1].base_offset == base:
        put(log, (b"", bytes(500)))


def test_a_tombstone_goes_some_time_after_what_it_deletes(tmp_path: Path) -> None:
    """Not with it: a reader that was told of the record has that long to hear of its end."""
    clock = Clock(1000)
    log = open_log(tmp_path / "log", segment_bytes=4096, clock=clock)
    put(log, (b"k", b"value"))
    put(log, (b"k", b""))
    fill_up(log)
    clock.now_ns += 1_000_000
    compact(log, clock.now_ns, 500)
    # Old enough by itself, but what it deletes was there until now.
    assert [r.key for r in read_keyed(log) if r.key] == [b"k"]
    compact(log, clock.now_ns + 499, 500)
    assert len(tombstones(log)) == 1
    compact(log, clock.now_ns + 500, 500)
    assert tombstones(log) == []
    assert [r.key for r in read_keyed(log) if r.key] == []


def test_a_key_that_comes_back_outlives_its_tombstone(tmp_path: Path) -> None:
    """Only what is before a tombstone is deleted."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    put(log, (b"k", b"old"), (b"k", b""), (b"k", b"new"))
    fill_up(log)
    for now in (10**10, 2 * 10**10, 3 * 10**10):
        compact(log, now, 0)
    assert [(r.offset, r.content) for r in read_keyed(log) if r.key] == [(2, b"new")]


def test_history_keeps_what_tombstones_wait_for() -> None:
    """However often passes are made, the first one to let tombstones go is not forgotten."""
    history = History()
    for now in range(100, 200, 10):
        history = history.after(Pass(now, now), now - 35)
        assert len(history.passes) <= 3
        assert history.cleaned_offset == now
        assert history == History.of(history.to_json())
    assert history.tombstones_before(190 - 35) == 130
    assert history.tombstones_before(160) == 160


def test_a_pass_that_can_hold_few_keys_goes_on_later(tmp_path: Path) -> None:
    """Several passes do together what one would."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    fill(log, random.Random(3), 100, keys=50)
    expected = left(read_keyed(log), sealed_end(log))
    history = History()
    for _ in range(60):
        compaction = Compaction(log._files, log.segments[:-1], history, 0, 0, keys_max=7)
        compaction.survey()
        for segment in compaction.segments:
            rewritten = compaction.rewrite(segment)
            if rewritten is not None:
                assert log.swap(segment, rewritten)
        done = compaction.done(1)
        if done.next_offset == history.cleaned_offset:
            break
        history = history.after(done, 0)
    assert read_keyed(log) == expected


def test_readers_go_on_in_the_old_file(tmp_path: Path) -> None:
    """Also one that had not opened it before its name was taken."""
    log = open_log(tmp_path / "log", segment_bytes=4096, cache=SegmentCache(0))
    fill(log, random.Random(5), 60)
    view = log._writer.view
    before = log.read(0, 1 << 20)
    assert before is not None
    content = before.join()
    compact(log, 0, NEVER)
    again = log._reader.read(view, 0, 1 << 20, 0, may_block=True)
    assert again is not None
    assert again.join() == content
    assert before.join() == content
    check_sound(log)


def test_many_readers_beside_many_passes(ram_path: Path) -> None:
    """No read is ever wrong, or fails, while segments are replaced under it."""
    log = open_log(ram_path / "log", segment_bytes=4096, cache=SegmentCache(1))
    source = random.Random(7)
    fill(log, source, 40)
    over = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                newest: dict[bytes, Keyed] = {}
                for record in read_keyed(log, max_bytes=2000):
                    assert record.header == record.content
                    newest[record.key] = record
                assert log.seek_time(0) == 0
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(15):
        fill(log, source, 15)
        compact(log, 0, NEVER)
    over.set()
    for reader in readers:
        reader.join()
    assert problems == []
    check_sound(log)


def test_verification_beside_passes_blames_nothing(ram_path: Path) -> None:
    """Though a file and its index, or a checkpoint, may be from before and after a swap."""
    log = open_log(ram_path / "log", segment_bytes=16384)
    source = random.Random(8)
    over = threading.Event()
    blamed: set[str] = set()

    def verify() -> None:
        while not over.is_set():
            report = verify_log(log.directory, live=True)
            found = [f for segment in report.segments for f in segment.findings]
            blamed.update(f.kind for f in (*found, *report.own_findings))

    verifier = threading.Thread(target=verify)
    verifier.start()
    for _ in range(25):
        fill(log, source, 30)
        compact(log, 0, NEVER)
    over.set()
    verifier.join()
    assert blamed <= {"index-missing"}


def test_an_index_of_before_is_not_believed(tmp_path: Path) -> None:
    """It has the segment's id; a restore or a copy may have brought it back."""
    log = open_log(tmp_path / "log", segment_bytes=16384)
    fill(log, random.Random(6), 60)
    old = {path: path.read_bytes() for path in log.directory.glob("*.idx")}
    compact(log, 0, NEVER)
    expected = read_keyed(log)
    log.close()
    for path, content in old.items():
        path.write_bytes(content)
    log = open_log(log.directory, segment_bytes=16384)
    assert read_keyed(log) == expected
    log.close()
    check_sound(log)


def test_each_rewritten_file_can_be_told_from_the_one_before(tmp_path: Path) -> None:
    """By its header, for whoever copies what has changed."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    fill(log, random.Random(6), 60)
    before = {s.base_offset: s for s in log.segments}
    compact(log, 0, NEVER)
    for segment in log.segments[:-1]:
        old = before[segment.base_offset]
        assert segment is old or segment.created_ns > old.created_ns
        assert segment.segment_id == old.segment_id


def test_a_segment_that_was_removed_meanwhile_stays_removed(tmp_path: Path) -> None:
    """Retention goes before compaction, and nothing is left of the work in vain."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    fill(log, random.Random(9), 60)
    compaction = log.begin_compaction(0)
    compaction.survey()
    first = compaction.segments[0]
    rewritten = compaction.rewrite(first)
    assert rewritten is not None
    log.trim(first.end.offset)
    assert not log.swap(first, rewritten)
    assert not first.path.exists()
    assert not list(log.directory.glob("*.tmp"))
    check_sound(log)


def test_damage_is_left_alone_and_keeps_tombstones(tmp_path: Path) -> None:
    """What can't be read may be what a tombstone deletes."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    put(log, (b"k", b"value"))
    fill_up(log)
    put(log, (b"k", b""), (b"j", b"1"), (b"j", b"2"))
    fill_up(log)
    log.close()
    raw = bytearray(log.segments[0].path.read_bytes())
    raw[2000] ^= 1
    log.segments[0].path.write_bytes(raw)
    log = open_log(log.directory, segment_bytes=4096)
    for now in (10**12, 2 * 10**12):
        compact(log, now, 0)
    assert log.segments[0].path.read_bytes() == raw
    base = log.segments[1].base_offset
    keys = [r.key for r in read_from(log, base) if r.key]
    assert keys == [b"k", b"j"]


def read_from(log: Log, offset: int) -> list[Keyed]:
    """The records of one read."""
    found = log.read(offset, 1 << 20)
    assert found is not None
    return list(parse_keyed(found.join()))


def test_a_damaged_compacted_segment_is_repaired_like_any_other(tmp_path: Path) -> None:
    """What is lost is the frames that were hit; then it can be compacted again."""
    data_dir = new_data_dir(tmp_path / "data")
    log = open_log(channel_of(data_dir), segment_bytes=16384)
    source = random.Random(12)
    fill(log, source, 80)
    compact(log, 0, NEVER)
    before = read_keyed(log)
    log.close()
    path = log.segments[0].path
    raw = bytearray(path.read_bytes())
    for position in (1000, 1001, log.segments[0].end.position - 50):
        raw[position] ^= 0x10
    path.write_bytes(raw)
    assert repair(data_dir).ok
    log = open_log(channel_of(data_dir), segment_bytes=16384)
    assert not log.notices
    found, lost = [], 0
    offset = 0
    while offset < log.durable_offset:
        try:
            result = log.read(offset, 1)
        except DataLoss as loss:
            lost, offset = lost + 1, loss.next_offset
            continue
        assert result is not None
        found += [r for r in parse_keyed(result.join()) if r.offset >= offset]
        offset = result.next_offset
    assert lost > 0
    assert set(found) < set(before)
    fill(log, source, 40)
    compact(log, 10**12, 0)
    log.close()
    assert verify_data_dir(data_dir).ok


def test_a_repeat_is_known_after_its_batch_was_compacted(tmp_path: Path) -> None:
    """The checkpoint has its receipt; frames that were rewritten are no batch of anyone."""
    log = open_log(tmp_path / "log", segment_bytes=4096)
    batch = keyed_batch([(b"k", b"1"), (b"j", b"1")], producer_id=7, sequence=1)
    log.append([batch])
    put(log, (b"k", b"2"))
    fill_up(log)
    assert compact(log, 0, NEVER) == 1
    for _ in range(2):
        (again,) = log.append([batch])
        assert not isinstance(again, MQError)
        assert again[:2] == (0, 2)
        assert again.duplicate
        log = open_log(log.directory, segment_bytes=4096)
    # Without a checkpoint it is not known; but it is not taken for another batch either.
    (log.directory / "checkpoint").unlink()
    log = open_log(log.directory, segment_bytes=4096)
    (again,) = log.append([batch])
    assert not isinstance(again, MQError)


def test_seeking_a_time_finds_a_record_that_is_left(tmp_path: Path) -> None:
    """Or a place before it with nothing between."""
    clock = Clock(1000)
    log = open_log(tmp_path / "log", segment_bytes=4096, clock=clock)
    source = random.Random(4)
    for _ in range(80):
        clock.now_ns += 100
        put(log, *random_records(source, 10))
    compact(log, 0, NEVER)
    records = read_keyed(log)
    for time_ns in range(900, clock.now_ns + 200, 130):
        found = log.seek_time(time_ns)
        wanted = next((r.offset for r in records if r.append_time_ns >= time_ns), None)
        following = next((r.offset for r in records if r.offset >= found), None)
        assert following == wanted


# ---- Cut short ----------------------------------------------------------------


def story(path: Path, files: object, seed: int) -> tuple[Log, list[Keyed], list[Keyed]]:
    """A log to be compacted: what is in it, and what a pass would leave."""
    # Large enough for an index of several entries, which tell of the wrong file if kept.
    log = open_log(path, segment_bytes=16384, files=files)  # type: ignore[arg-type]
    fill(log, random.Random(seed), 50, keys=6)
    before = read_keyed(log)
    return log, before, left(before, sealed_end(log))


def check_between(path: Path, before: list[Keyed], after: list[Keyed]) -> None:
    """Each segment is as it was or as it should be, and a further pass does the rest."""
    log = open_log(path, segment_bytes=16384)
    assert not log.notices
    found = read_keyed(log)
    assert set(after) <= set(found) <= set(before)
    assert found == sorted(found)
    assert not list(path.glob("*.tmp"))
    check_sound(log)
    compact(log, 0, NEVER)
    assert read_keyed(log) == after
    put(log, (b"key-1", b"on it goes"))
    log.close()
    check_sound(log)


def test_a_kill_at_any_call_leaves_old_or_new_segments(ram_path: Path) -> None:
    """And a pass after it ends what the first one began."""
    when = 1
    while True:
        path = ram_path / str(when)
        log, before, after = story(path, KillingFiles(1 << 30), 2)
        files = KillingFiles(when)
        log._files = log._checkpoints._files = files
        try:
            compact(log, 0, NEVER)
        except Killed:
            pass
        else:
            break
        check_between(path, before, after)
        when += 1
    assert when > 12


def test_a_power_cut_at_any_call_leaves_old_or_new_segments(ram_path: Path) -> None:
    """Whatever of names and sectors is durable by then."""
    source = random.Random(11)
    path = ram_path / "log"
    files = RecordingFiles()
    log, before, after = story(path, files, 2)
    begun = len(files.trace)
    compact(log, 0, NEVER)
    for cut in range(begun, len(files.trace) + 1):
        for _ in range(rounds(1, 10)):
            left_at = ram_path / f"cut-{cut}-{source.random()}"
            PowerCut(files.trace[:cut]).leave(left_at, source)
            check_between(left_at, before, after)


@pytest.mark.parametrize("for_good", (False, True))
def test_a_device_that_fails_at_any_call_loses_nothing(ram_path: Path, for_good: bool) -> None:
    """The log goes on, with the segments that were in place by then."""
    when = 1
    while True:
        path = ram_path / str(when)
        files = FailingFiles(0)
        log, before, after = story(path, files, 2)
        files.calls, files._when, files._for_good = 0, when, for_good
        try:
            compact(log, 0, NEVER)
            failed = files.calls >= when
        except (OSError, MQError):
            failed = True
        files._when = 0
        found = read_keyed(log)
        assert set(after) <= set(found) <= set(before)
        if log.read_only_reason is None:
            compact(log, 0, NEVER)
            assert read_keyed(log) == after
        check_sound(log)
        if not failed:
            break
        check_between(path, before, after)
        when += 1
    assert when > 12
