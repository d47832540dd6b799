"""Reading: whole frames, exact bytes, as many as asked for, and nobody else held up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mq.errors import DataLoss, OffsetOutOfRange, Unavailable
from mq.log.cache import SegmentCache
from mq.log.files import Handle
from mq.log.format import HEADER_BYTES
from mq.log.log import Log, ReadResult
from mq.log.segment import Segment
from tests.log.batches import (
    Clock,
    UnsyncedFiles,
    append,
    batch,
    decode,
    fill,
    numbered,
    open_log,
    read_all,
    seeded_ids,
)
from tests.log.breaking import overwrite
from tests.log.seams import ColdFiles

FRAME_BYTES = batch(*numbered(0, 3)).frame_bytes


def read(log: Log, offset: int, max_bytes: int = 1 << 20, max_records: int = 0) -> ReadResult:
    """A read that may block."""
    result = log.read(offset, max_bytes, max_records)
    assert result is not None
    return result


def offsets(result: ReadResult) -> list[int]:
    """The offsets of the records of a read."""
    return [r.offset for r in decode(result.join())]


@pytest.fixture
def log(ram_path: Path) -> Log:
    """Twelve frames of three records in one segment."""
    made = open_log(ram_path / "log")
    fill(made, 12)
    return made


def test_limits_in_bytes(log: Log) -> None:
    """End at the last frame that fits; the first is returned whatever its size."""
    for max_bytes in range(1, 4 * FRAME_BYTES + 2):
        frames = max(1, max_bytes // FRAME_BYTES)
        assert offsets(read(log, 6, max_bytes)) == list(range(6, 6 + 3 * frames))
    assert offsets(read(log, 33, 1 << 40)) == [33, 34, 35]
    assert offsets(read(log, 0, 0)) == [0, 1, 2]


def test_limits_in_records(log: Log) -> None:
    """End with the frame that holds the last record wanted, counted from the offset."""
    for offset in range(30):
        for max_records in range(1, 8):
            result = read(log, offset, max_records=max_records)
            first = offset // 3 * 3
            end = min(36, -(-(offset + max_records) // 3) * 3)
            assert offsets(result) == list(range(first, end))
            assert (result.start_offset, result.next_offset) == (offset, end)
    assert offsets(read(log, 0, max_records=1000)) == list(range(36))


def test_the_end(log: Log) -> None:
    """At the durable offset there is nothing, and that is no error."""
    result = read(log, 36)
    assert (result.spans, result.start_offset, result.next_offset) == ([], 36, 36)
    assert result.join() == b""
    assert result.join(b"trailer") == b"trailer"


def test_bytes_are_those_of_the_file(log: Log) -> None:
    """Not one is made anew."""
    content = log.segments[0].path.read_bytes()
    result = read(log, 0)
    assert result.join() == content[HEADER_BYTES : HEADER_BYTES + 12 * FRAME_BYTES]


def test_across_segments(ram_path: Path) -> None:
    """A read goes on in the next segment, and a large frame there waits for a read of its own."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 40)
    append(log, 1, 50_000)
    fill(log, 1)
    bases = [s.base_offset for s in log.segments]
    assert len(bases) > 3
    result = read(log, 0, 10_000)
    assert len(result.spans) == 3
    assert len(result.join()) <= 10_000
    assert offsets(result) == list(range(120))
    assert len(result.finished) == 3
    assert offsets(read(log, bases[1] - 1, 2 * FRAME_BYTES)) == list(
        range(bases[1] - 3, bases[1] + 3)
    )
    assert read(log, 117, 20_000).next_offset == 120
    assert offsets(read(log, 120, 1)) == [120]
    assert offsets(read(log, 117, 50_400)) == [117, 118, 119, 120]
    assert offsets(read(log, bases[1] - 1, max_records=2)) == list(
        range(bases[1] - 3, bases[1] + 3)
    )


def test_records_of_one_batch_each(ram_path: Path) -> None:
    """Offsets are found with many frames a block, and with many blocks."""
    log = open_log(ram_path / "log", segment_bytes=1 << 16)
    log.append([batch(b"%d" % n) for n in range(2000)])
    log.sync()
    for offset in range(0, 2000, 7):
        result = read(log, offset, 1)
        assert [(r.offset, r.content) for r in decode(result.join())] == [(offset, b"%d" % offset)]


# ---- Damage -------------------------------------------------------------------


def broken(log: Log, *places: tuple[int, int]) -> Log:
    """The log opened again, with bytes of some frames changed."""
    for frame, at in places:
        overwrite(log.segments[0].path, HEADER_BYTES + frame * FRAME_BYTES + at, b"\xff\xff\xff")
    log.close()
    return open_log(log.directory)


@pytest.mark.parametrize("at", (1, 30, 73, 100))
def test_a_damaged_frame(log: Log, at: int) -> None:
    """Ends the read before it, is told where it begins, and is skipped as told."""
    log = broken(log, (4, at))
    result = read(log, 0)
    assert (offsets(result), result.next_offset) == (list(range(12)), 12)
    for offset in (12, 13, 14):
        with pytest.raises(DataLoss, match="offsets 12 to 14 are damaged") as caught:
            log.read(offset, 1 << 20)
        assert (caught.value.first_offset, caught.value.next_offset) == (12, 15)
    assert offsets(read(log, 15)) == list(range(15, 36))
    assert offsets(read(log, 3, max_records=9)) == list(range(3, 12))
    assert offsets(read(log, 3, max_records=10)) == list(range(3, 12))
    assert [d[:2] for d in log.damage] == [(12, 15)]


def test_damage_side_by_side(log: Log) -> None:
    """Headers that are gone are one range, records that are gone one each."""
    log = broken(log, (3, 30), (4, 30), (6, 100), (7, 100))
    told = []
    for offset in (9, 18, 21):
        with pytest.raises(DataLoss) as caught:
            log.read(offset, 1 << 20)
        told.append((caught.value.first_offset, caught.value.next_offset))
    assert told == [(9, 15), (18, 21), (21, 24)]


def test_damage_is_remembered(ram_path: Path) -> None:
    """Also when the segment is closed meanwhile to make room for others."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 60)
    overwrite(log.segments[0].path, HEADER_BYTES + 30, b"\xff")
    log.close()
    cache = SegmentCache(1)
    log = open_log(ram_path / "log", segment_bytes=4096, cache=cache)
    with pytest.raises(DataLoss):
        log.read(0, 100)
    read_all(log, 3)
    assert len(cache) == 1
    assert log.segments[0].opened is None
    assert [d[:2] for d in log.damage] == [(0, 3)]
    with pytest.raises(DataLoss):
        log.read(0, 100)
    assert [d[:2] for d in log.damage] == [(0, 3)]


def test_damage_over_several_blocks(ram_path: Path) -> None:
    """Each block is told by itself; what can be read on either side is read."""
    log = open_log(ram_path / "log")
    fill(log, 12, count=3, size=1500)
    size = log.stored_bytes // 12
    log.close()
    position = HEADER_BYTES + 3 * size
    overwrite(ram_path / "log" / "00000000000000000000.seg", position + 9, b"\xff" * (4 * size))
    log = open_log(ram_path / "log")
    lost: list[int] = []
    offset = 9
    while True:
        try:
            result = read(log, offset)
        except DataLoss as loss:
            lost += range(loss.first_offset, loss.next_offset)
            offset = loss.next_offset
            continue
        break
    assert lost == list(range(9, 24))
    assert offsets(result) == list(range(24, 36))
    assert offsets(read(log, 0)) == list(range(9))


def test_seeking_past_damage(ram_path: Path) -> None:
    """Damage just before the first record of a time may be of that time: it is not skipped."""
    clock = Clock(0)
    log = open_log(ram_path / "log", clock=clock)
    for now in range(12):
        clock.now_ns = 10 * now
        fill(log, 1)
    log.close()
    path = ram_path / "log" / "00000000000000000000.seg"
    for frame in (3, 4, 8):
        overwrite(path, HEADER_BYTES + frame * FRAME_BYTES + 30, b"\xff")
    log = open_log(ram_path / "log", clock=clock)
    found = [log.seek_time(wanted) // 3 for wanted in range(0, 120, 10)]
    assert found == [0, 1, 2, 3, 3, 3, 6, 7, 8, 8, 10, 11]


def test_seeking_into_a_block_never_looks_at_what_was_not_checked(ram_path: Path) -> None:
    """The frame that follows a block may be damaged."""
    clock = Clock(0)
    log = open_log(ram_path / "log", clock=clock)
    for now in range(8):
        clock.now_ns = now
        fill(log, 1, count=1, size=5_000)
    size = log.stored_bytes // 8
    log.close()
    path = ram_path / "log" / "00000000000000000000.seg"
    for frame in range(1, 7):
        overwrite(path, HEADER_BYTES + frame * size + 1, b"\0\0\0")
    log = open_log(ram_path / "log", clock=clock)
    assert [log.seek_time(n) for n in range(9)] == [0, 1, 1, 2, 3, 4, 5, 6, 8]


# ---- Cold data ----------------------------------------------------------------


def test_cold_data_does_not_block(ram_path: Path) -> None:
    """Without leave to block there is no answer; with it, all is read before it is mapped."""
    files = ColdFiles()
    log = open_log(ram_path / "log", segment_bytes=8192, files=files)
    fill(log, 60)
    expected = read_all(log)
    log.close()
    log = open_log(ram_path / "log", segment_bytes=8192, files=files)
    assert log.read(0, 1000, may_block=False) is None
    files.reads.clear()
    result = read(log, 0, 3000)
    assert list(decode(result.join())) == expected[:42]
    assert any(position <= HEADER_BYTES and n >= 3000 for position, n in files.reads)
    assert log.read(0, 1000, may_block=False) is None
    tail = log.durable_offset - 3
    hot = log.read(tail, 1000, may_block=False)
    assert hot is not None
    assert offsets(hot) == [tail, tail + 1, tail + 2]
    assert log.read(log.durable_offset, 1000, may_block=False) is not None


def test_a_read_from_hot_to_cold(ram_path: Path) -> None:
    """Gives what it has."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 60)
    log.segments[1].opened = None
    result = log.read(0, 1 << 20, may_block=False)
    assert result is not None
    assert result.next_offset == log.segments[1].base_offset


@pytest.mark.parametrize("indexed", (True, False))
def test_sectors_that_cannot_be_read(ram_path: Path, indexed: bool) -> None:
    """Are `DataLoss` of the block they are in, never touched through the map."""
    files = ColdFiles()
    log = open_log(ram_path / "log", segment_bytes=1 << 16, files=files)
    fill(log, 60, count=1, size=2000)
    log.close()
    log = open_log(ram_path / "log", segment_bytes=1 << 16, files=files)
    segment = log.segments[0]
    assert segment.sealed
    if not indexed:
        read(log, 0, 1)
        segment.opened = None
    files.bad.append(20_000)
    result = read(log, 0)
    lost_from = result.next_offset
    assert 5 <= lost_from <= 10
    with pytest.raises(DataLoss) as caught:
        log.read(lost_from, 1 << 20)
    assert caught.value.first_offset == lost_from
    after = caught.value.next_offset
    assert lost_from < after <= lost_from + 4
    assert offsets(read(log, after, 20_000))[0] == after
    assert [d[:2] for d in log.damage] == [(lost_from, after)]


def test_an_index_is_made_again(ram_path: Path) -> None:
    """In memory and in its file, the same as it was."""
    log = open_log(ram_path / "log", segment_bytes=1 << 16)
    fill(log, 60, count=1, size=2000)
    expected = read_all(log)
    log.close()
    index = ram_path / "log" / "00000000000000000000.idx"
    content = index.read_bytes()
    for damaged in (None, b"", content[:-1], b"?" * len(content)):
        if damaged is None:
            index.unlink()
        else:
            index.write_bytes(damaged)
        log = open_log(ram_path / "log", segment_bytes=1 << 16)
        assert read_all(log) == expected
        assert index.read_bytes() == content
        assert log.damage == []


def test_an_index_that_cannot_be_written(ram_path: Path) -> None:
    """Is used all the same."""

    class ReadOnly(UnsyncedFiles):
        def create(self, path: Path) -> Handle:
            raise OSError(30, "Read-only file system")

    log = open_log(ram_path / "log", segment_bytes=1 << 16)
    fill(log, 60, count=1, size=2000)
    expected = read_all(log)
    log.close()
    (ram_path / "log" / "00000000000000000000.idx").unlink()
    log = open_log(ram_path / "log", segment_bytes=1 << 16, files=ReadOnly())
    assert read_all(log) == expected


# ---- Readers and others -------------------------------------------------------


@pytest.mark.parametrize("open_max", (0, 1, 2))
def test_few_segments_open(ram_path: Path, open_max: int) -> None:
    """However many there are, and what a reader holds stays good."""
    cache = SegmentCache(open_max)
    log = open_log(ram_path / "log", segment_bytes=4096, cache=cache)
    fill(log, 100)
    expected = read_all(log)
    held = read(log, 0, 1000)
    for _ in range(2):
        assert read_all(log, max_bytes=700) == expected
        assert len(cache) <= open_max
        opened = [s for s in log.segments if s.opened is not None]
        assert len(opened) <= open_max + 1
    assert list(decode(held.join())) == expected[: held.next_offset]
    log.close()
    assert len(cache) == 0


def test_a_cache_is_shared_by_logs(ram_path: Path) -> None:
    """The bound holds for all of them."""
    cache = SegmentCache(3)
    logs = [
        open_log(ram_path / str(n), segment_bytes=4096, cache=cache, random_id=seeded_ids(n))
        for n in range(3)
    ]
    for log in logs:
        fill(log, 60)
        read_all(log)
    assert len(cache) == 3
    logs[-1].close()
    assert len(cache) == 0
    read_all(logs[0])
    assert len(cache) == 3


def test_reading_what_is_removed_meanwhile(ram_path: Path) -> None:
    """Exact bytes where the file was open, else it is out of range."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 60)
    held = read(log, 0, 1000)
    expected = held.join()
    view = log._writer.view
    log.trim(100)
    assert held.join() == expected
    for segment in view.segments:
        segment.opened = None
    # A reader that took its view before that.
    now = log._writer.view
    log._writer.view = view
    start, log.log_start_offset = log.log_start_offset, 0

    class Late(UnsyncedFiles):
        def open(self, path: Path, *, write: bool = False) -> Handle:
            log.log_start_offset = start
            log._writer.view = now
            return super().open(path, write=write)

    log._reader._files = Late()
    with pytest.raises(OffsetOutOfRange):
        log.read(0, 1000)
    log._writer.view = view
    assert log.seek_time(0) == start


def test_an_active_segment_is_opened_by_its_log_only(ram_path: Path) -> None:
    """A reader that comes after the log was closed is told to try again."""
    log = open_log(ram_path / "log")
    fill(log, 1)
    segment: Segment = log.segments[0]
    log.close()
    with pytest.raises(Unavailable, match="try again"):
        segment.open(UnsyncedFiles())


@pytest.mark.timeout(120)
def test_readers_beside_a_writer(ram_path: Path) -> None:
    """Every read at any moment is whole frames of what is durable by then."""
    cache = SegmentCache(2)
    log = open_log(ram_path / "log", segment_bytes=8192, cache=cache)
    stop = threading.Event()
    problems: list[BaseException] = []

    def follow(max_bytes: int) -> None:
        offset = 0
        try:
            while not (stop.is_set() and offset == log.durable_offset):
                result = log.read(offset, max_bytes)
                assert result is not None
                for record in decode(result.join()):
                    assert record.content.startswith(b"%d:" % record.offset)
                    assert record.offset < log.durable_offset
                offset = result.next_offset
                assert log.seek_time(0) == 0
        except BaseException as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=follow, args=(size,)) for size in (1, 3000, 50_000)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        append(log, 4, 100)
        log.sync()
        if log.checkpoint_due:
            log.plan_checkpoint()()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(log.segments) > 8
