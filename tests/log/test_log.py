"""A log as its user sees it: where things go, what is refused, what a restart keeps."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from mq.errors import (
    ChannelFailed,
    ChannelReadOnly,
    DiskFull,
    InvalidArgument,
    MessageTooLarge,
    MQError,
    OffsetOutOfRange,
    Overloaded,
    SequenceGap,
    SequenceTooOld,
    Unavailable,
)
from mq.log import group as group_module
from mq.log import spare as spare_module
from mq.log import writer as writer_module
from mq.log.checkpoint import Checkpoint
from mq.log.files import Files, Handle
from mq.log.format import (
    FOOTER_BYTES,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    OVERHEAD_BYTES,
    SEAL_BYTES,
    SEGMENT_BYTES_FIRST,
)
from mq.log.log import Appended
from mq.log.producers import PRODUCERS_MAX, WINDOW
from tests.log.batches import (
    Clock,
    UnsyncedFiles,
    append,
    batch,
    contents,
    fill,
    numbered,
    open_log,
    read_all,
)
from tests.log.seams import FailingFiles

FIRST = "00000000000000000000.seg"


def checkpoint_of(path: Path) -> Checkpoint:
    """What the checkpoint of a log says."""
    found = Checkpoint.decode((path / "checkpoint").read_bytes())
    assert found is not None
    return found


# ---- Segments -----------------------------------------------------------------


def test_an_empty_log(tmp_path: Path) -> None:
    """Has no file, and is read to its end at once."""
    log = open_log(tmp_path / "log")
    assert contents(log) == {}
    assert (log.log_start_offset, log.durable_offset, log.end_offset) == (0, 0, 0)
    assert read_all(log) == []
    assert log.seek_time(0) == 0
    assert log.sync() == 0
    assert log.append([]) == []
    assert not log.wants_prepare
    assert (log.stored_bytes, log.allocated_bytes, log.last_append_time_ns) == (0, 0, 0)


def test_an_empty_log_that_was_stopped_takes_its_first_records(tmp_path: Path) -> None:
    """And a kill right after that is no reason to refuse them."""
    open_log(tmp_path / "log").close()
    log = open_log(tmp_path / "log")
    fill(log, 1)
    records = read_all(log)
    del log
    log = open_log(tmp_path / "log")
    assert read_all(log) == records
    assert log.notices == []


def test_segments_grow(ram_path: Path) -> None:
    """From small to full size, fourfold each time."""
    log = open_log(ram_path / "log", segment_bytes=1 << 20)
    fill(log, 60, count=1, size=60_000)
    sizes = [s.capacity_bytes for s in log.segments]
    assert sizes[:4] == [SEGMENT_BYTES_FIRST, 1 << 18, 1 << 20, 1 << 20]
    assert set(sizes[4:]) == {1 << 20}
    assert log.allocated_bytes <= sum(sizes)
    assert [s.path.stat().st_size for s in log.segments] == sizes
    log.close()
    log = open_log(ram_path / "log", segment_bytes=1 << 22)
    fill(log, 20, count=1, size=60_000)
    assert log.segments[-1].capacity_bytes == 1 << 22


def test_the_size_of_segments_can_be_changed(ram_path: Path) -> None:
    """It holds from the next one on."""
    log = open_log(ram_path / "log", segment_bytes=1 << 20)
    log.segment_bytes = 100_000
    assert log.segment_bytes == 100_000
    fill(log, 20, count=1, size=20_000)
    assert {s.capacity_bytes for s in log.segments[1:]} == {102_400}


@pytest.mark.parametrize("spare", (0, 1))
def test_a_frame_that_just_fits(ram_path: Path, spare: int) -> None:
    """A segment holds frames up to the byte before what sealing needs."""
    log = open_log(ram_path / "log", segment_bytes=8192)
    fill(log, 1, count=1, size=20)
    capacity = log.segments[0].capacity_bytes
    left = capacity - SEAL_BYTES - HEADER_BYTES - log.stored_bytes
    content = bytes(left - FRAME_HEADER_BYTES - 3 + spare)
    made = batch(content)
    assert made.frame_bytes == left + spare
    log.append([made])
    log.sync()
    assert len(log.segments) == 1 + spare
    fill(log, 1, size=20)
    log.close()
    log = open_log(ram_path / "log", segment_bytes=8192)
    assert [r.content for r in read_all(log)][1] == content
    assert log.notices == []


def test_a_batch_larger_than_a_segment(ram_path: Path) -> None:
    """Gets one of its own, the next one is of the usual size, and reads go across."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    for size in (10, 100_000, 3000, 10):
        append(log, 1, size)
    log.sync()
    assert [s.capacity_bytes for s in log.segments] == [4096, 102_400, 4096]
    records = read_all(log, max_bytes=1)
    log.close()
    log = open_log(ram_path / "log", segment_bytes=4096)
    assert read_all(log) == records
    assert [len(r.content) for r in records] == [10, 100_000, 3000, 10]


@pytest.mark.parametrize("checkpoint", (True, False))
@pytest.mark.parametrize("before", (0, 3))
def test_a_batch_that_an_empty_segment_cannot_hold(
    ram_path: Path, before: int, checkpoint: bool
) -> None:
    """A crash left it without a frame; it is replaced, and what knows of it finds it still."""
    path = ram_path / "log"
    log = open_log(path)
    fill(log, before)
    log._writer._roll(0)
    if checkpoint:
        log.plan_checkpoint()()
    segment_count = len(log.segments)
    log = open_log(path)
    assert (len(log.segments), log.segments[-1].base_offset) == (segment_count, log.end_offset)
    fill(log, 1, count=3, size=40_000)
    for _ in range(2):
        records = read_all(log)
        assert [len(r.content) for r in records[-3:]] == [40_000] * 3
        assert [r.offset for r in records] == list(range(3 * before + 3))
        assert len({s.base_offset for s in log.segments}) == len(log.segments) == segment_count
        log = open_log(path)
        fill(log, 0)
        assert log.notices == []


def test_a_prepared_segment_that_is_too_small(ram_path: Path) -> None:
    """Is discarded for one that holds the batch."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 10)
    wanted = log.wants_prepare
    log.prepare()
    assert (wanted, log.wants_prepare) == (True, False)
    assert "next-2.tmp" in contents(log)
    append(log, 1, 9000)
    log.sync()
    assert log.segments[-1].capacity_bytes > 9000
    assert not any(name.endswith(".tmp") for name in contents(log))


def test_preparing_beside_a_roll(ram_path: Path) -> None:
    """A file prepared while another becomes a segment is another file."""
    inside, prepared = threading.Event(), threading.Event()

    class Slow(UnsyncedFiles):
        def rename(self, source: Path, target: Path) -> None:
            if target.name.endswith(".seg") and log.segments:
                inside.set()
                assert prepared.wait(10)
            super().rename(source, target)

    log = open_log(ram_path / "log", segment_bytes=4096, files=Slow())
    fill(log, 10)

    def prepare() -> None:
        inside.wait(10)
        log._writer._spare.prepare(8192)
        prepared.set()

    thread = threading.Thread(target=prepare)
    thread.start()
    fill(log, 15)
    thread.join()
    records = read_all(log)
    assert len(log.segments) == 2
    fill(log, 15)
    del log
    log = open_log(ram_path / "log", segment_bytes=4096)
    assert read_all(log)[: len(records)] == records
    assert log.notices == []


def test_a_batch_that_no_segment_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused by itself."""
    monkeypatch.setattr(group_module, "LENGTH_MAX", 5000 + OVERHEAD_BYTES)
    log = open_log(tmp_path / "log")
    exact = batch(bytes(5000 - FRAME_HEADER_BYTES - 3))
    one_more = batch(bytes(5001 - FRAME_HEADER_BYTES - 3))
    refused, stored = log.append([one_more, exact])
    assert isinstance(refused, MessageTooLarge)
    assert stored == Appended(0, 1, 1_000_000_000)


@pytest.mark.parametrize("count", (0, -1, 1 << 32))
def test_a_batch_of_nonsense(tmp_path: Path, count: int) -> None:
    """Is refused by itself, and spoils nothing of the group."""
    log = open_log(tmp_path / "log")
    good = batch(b"good", producer_id=1, sequence=1)
    bad = group_module.Append(b"", count, 0, producer_id=1, sequence=2)
    outcomes = log.append([good, bad, batch(b"more", producer_id=1, sequence=2)])
    assert [type(o) for o in outcomes] == [Appended, InvalidArgument, Appended]
    log.sync()
    assert [r.content for r in read_all(log)] == [b"good", b"more"]


# ---- Idempotence --------------------------------------------------------------


def sequence(number: int, producer_id: int = 1, content: bytes = b"x") -> group_module.Append:
    """A producer's batch."""
    return batch(content + b"%d" % number, producer_id=producer_id, sequence=number)


def test_a_repeat_within_one_group(tmp_path: Path) -> None:
    """Is stored once, and answered as the first."""
    log = open_log(tmp_path / "log")
    first, again, gap = log.append([sequence(1), sequence(1), sequence(3)])
    assert isinstance(first, Appended)
    assert again == first._replace(duplicate=True)
    assert isinstance(gap, SequenceGap)
    assert log.end_offset == 1


@pytest.mark.parametrize("hints", (True, False))
@pytest.mark.parametrize("clean", (True, False))
def test_repeats_across_a_restart(ram_path: Path, clean: bool, hints: bool) -> None:
    """Receipts come back with the checkpoint and with the frames, the same either way."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    receipts = {}
    for number in range(60):
        for producer in (1, 2, 1 << 63):
            (outcome,) = log.append([sequence(number, producer, bytes(100))])
            receipts[producer, number] = outcome
        log.sync()
        if number == 30:
            log.plan_checkpoint()()
    table = list(log._writer.producers.snapshot().items())
    if clean:
        log.close()
    if not hints:
        (ram_path / "log" / "checkpoint").unlink()
    log = open_log(ram_path / "log", segment_bytes=4096)
    assert list(log._writer.producers.snapshot().items()) == table
    for producer in (1, 2, 1 << 63):
        for number in range(60):
            (outcome,) = log.append([sequence(number, producer, bytes(100))])
            if number >= 60 - WINDOW:
                expected = receipts[producer, number]
                assert isinstance(expected, Appended)
                assert outcome == expected._replace(duplicate=True)
            else:
                assert isinstance(outcome, SequenceTooOld)
    assert log.end_offset == 180


def test_receipts_of_damaged_frames(ram_path: Path) -> None:
    """A frame whose header is sound was appended, whatever became of its records."""
    log = open_log(ram_path / "log")
    log.append([sequence(1), sequence(2), sequence(3)])
    log.sync()
    log.append([sequence(4)])
    log.sync()
    path = log.segments[0].path
    position = path.read_bytes().index(b"x2")
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"?")
    log = open_log(ram_path / "log")
    (outcome,) = log.append([sequence(2)])
    assert outcome == Appended(1, 1, 1_000_000_000, duplicate=True)


def test_more_producers_than_are_remembered(ram_path: Path) -> None:
    """The table stays bounded, also across a restart."""
    log = open_log(ram_path / "log")
    log.append([sequence(1, producer) for producer in range(1, PRODUCERS_MAX + 51)])
    log.close()
    log = open_log(ram_path / "log")
    assert len(log._writer.producers.snapshot()) == PRODUCERS_MAX
    known, forgotten = log.append([sequence(1, PRODUCERS_MAX + 50), sequence(1, 1)])
    assert isinstance(known, Appended)
    assert known.duplicate
    assert isinstance(forgotten, Appended)
    assert not forgotten.duplicate


# ---- Failing ------------------------------------------------------------------


class WriteFails(UnsyncedFiles):
    """Refuses to write what it is told to refuse."""

    code = 0

    def _pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], position: int) -> int:
        if self.code and any(bytes(b).strip(b"\0") for b in buffers):
            os.pwrite(fd, b"".join(buffers)[:100], position)
            raise OSError(self.code, os.strerror(self.code))
        return super()._pwritev(fd, buffers, position)


def test_a_write_that_finds_no_room(ram_path: Path) -> None:
    """Fails all that it was asked for, repeats of that included, and nothing of it stays."""
    files = WriteFails()
    log = open_log(ram_path / "log", files=files)
    log.append([sequence(1)])
    log.sync()
    before = (ram_path / "log" / FIRST).read_bytes()
    files.code = errno.ENOSPC
    outcomes = log.append([sequence(2), sequence(1), sequence(2), sequence(3), batch(b"other")])
    kinds = [type(o) for o in outcomes]
    assert kinds == [DiskFull, Appended, DiskFull, DiskFull, DiskFull]
    assert log.sync() == log.end_offset == 1
    assert (ram_path / "log" / FIRST).read_bytes() == before
    files.code = 0
    outcomes = log.append([sequence(2), sequence(2), sequence(3)])
    assert [isinstance(o, Appended) and o[:1] + o[3:] for o in outcomes] == [
        (1, False),
        (1, True),
        (2, False),
    ]
    log.sync()
    assert [r.content for r in read_all(log)] == [b"x1", b"x2", b"x3"]


def test_what_follows_a_failed_write_in_a_new_segment(ram_path: Path) -> None:
    """Is not stored either: it may have to come after what was lost."""
    files = WriteFails()
    log = open_log(ram_path / "log", segment_bytes=4096, files=files)
    log.append([sequence(1)])
    log.sync()
    files.code = errno.ENOSPC
    large = sequence(3, content=bytes(3000))
    first, second = log.append([sequence(2, content=bytes(2000)), large])
    assert isinstance(first, DiskFull)
    assert isinstance(second, DiskFull)
    files.code = 0
    outcomes = log.append([sequence(2), sequence(3)])
    assert all(isinstance(o, Appended) and not o.duplicate for o in outcomes)


def test_a_write_that_fails(ram_path: Path) -> None:
    """Stops the log; what was durable is read, and a restart goes on."""
    files = WriteFails()
    log = open_log(ram_path / "log", files=files)
    fill(log, 2)
    records = read_all(log)
    files.code = errno.EIO
    (outcome,) = log.append([batch(b"lost")])
    assert isinstance(outcome, ChannelReadOnly)
    assert "a write failed" in outcome.message
    files.code = 0
    (again,) = log.append([batch(b"lost")])
    assert isinstance(again, ChannelReadOnly)
    assert read_all(log) == records
    with pytest.raises(ChannelReadOnly):
        log.close()
    log.close()
    log = open_log(ram_path / "log")
    assert read_all(log) == records
    fill(log, 1)


def test_a_failed_sync_is_final(ram_path: Path) -> None:
    """Never tried again, and nothing after it becomes visible or durable."""
    counted = FailingFiles(0)
    log = open_log(ram_path / "counted", files=counted)
    append(log)
    calls = counted.calls
    files = FailingFiles(calls + 1)
    log = open_log(ram_path / "log", files=files)
    append(log)
    with pytest.raises(ChannelReadOnly, match=r"a sync failed: .*restarted"):
        log.sync()
    assert (log.durable_offset, log.end_offset) == (0, 3)
    result = log.read(0, 1000)
    assert result is not None
    assert not result.spans
    with pytest.raises(ChannelReadOnly):
        log.sync()
    assert files.kinds[calls:] == ["sync_data"]
    log.plan_checkpoint()()
    assert "checkpoint" not in contents(log)
    assert not log.checkpoint_due


def test_out_of_descriptors(ram_path: Path) -> None:
    """Is nothing final: the publisher may try again."""

    class NoFiles(UnsyncedFiles):
        full = False

        def create(self, path: Path) -> Handle:
            if self.full:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().create(path)

    files = NoFiles()
    log = open_log(ram_path / "log", segment_bytes=4096, files=files)
    files.full = True
    (outcome,) = log.append([batch(b"x")])
    assert isinstance(outcome, Overloaded)
    files.full = False
    fill(log, 30)
    assert len(log.segments) > 1


# ---- Stopping -----------------------------------------------------------------


def test_a_closed_log(ram_path: Path) -> None:
    """Takes nothing, writes nothing, and says so; closing it twice is no error."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 30)
    late = log.plan_checkpoint()
    log.close()
    log.close()
    before = contents(log)
    assert [str(outcome) for outcome in log.append([batch(b"x")])] == ["the log is closed"]
    late()
    log.prepare()
    log._writer._spare.prepare(4096)
    log.plan_checkpoint()()
    with pytest.raises(Unavailable):
        log.read(log.durable_offset - 1, 1000)
    assert contents(log) == before
    assert checkpoint_of(log.directory).clean


def test_closing_removes_what_was_prepared(ram_path: Path) -> None:
    """A file of zeros is of no use to anyone."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 10)
    log.prepare()
    log.close()
    assert sorted(contents(log)) == ["00000000000000000000.idx", FIRST, "checkpoint"]


def test_abandoning_a_log(ram_path: Path) -> None:
    """Lets go of it, and nothing comes into its directory any more."""
    log = open_log(ram_path / "log", segment_bytes=4096)
    fill(log, 10)
    late = log.plan_checkpoint()
    log.abandon()
    for path in (ram_path / "log").iterdir():
        path.unlink()
    late()
    log.prepare()
    log.close()
    assert contents(log) == {}


def test_leftovers_are_removed(ram_path: Path) -> None:
    """Scratch files, and indexes of segments that are gone; other files are left alone."""
    log = open_log(ram_path / "log")
    fill(log, 1)
    log.close()
    before = set(contents(log))
    for name in ("next-1.tmp", "checkpoint.tmp", "00000000000000000077.idx"):
        (ram_path / "log" / name).write_bytes(b"x")
    (ram_path / "log" / "notes").write_bytes(b"mine")
    log = open_log(ram_path / "log")
    assert set(contents(log)) == before | {"notes"}


# ---- Checkpoints --------------------------------------------------------------


def test_when_a_checkpoint_is_due(ram_path: Path) -> None:
    """After eight mebibytes, and at each new segment but the first."""
    log = open_log(ram_path / "log", segment_bytes=1 << 30)
    due = []
    fill(log, 1, count=1, size=9)
    due.append(log.checkpoint_due)
    fill(log, 1, count=1, size=90_000)
    due.append(log.checkpoint_due)
    log.plan_checkpoint()()
    due.append(log.checkpoint_due)
    assert checkpoint_of(log.directory).segment_base == 1
    fill(log, 9, count=1, size=1 << 20)
    due.append(log.checkpoint_due)
    assert due == [False, True, False, True]


def test_a_checkpoint_with_something_unsynced(ram_path: Path) -> None:
    """Says nothing, and stays due."""
    log = open_log(ram_path / "log", segment_bytes=1 << 30)
    append(log, 1, 9 << 20)
    log.plan_checkpoint()()
    assert "checkpoint" not in contents(log)
    assert log.checkpoint_due


def test_a_late_checkpoint(ram_path: Path) -> None:
    """Never replaces a newer one, nor shortens the index of a segment sealed meanwhile."""
    log = open_log(ram_path / "log", segment_bytes=20_000)
    fill(log, 10, size=200)
    early = log.plan_checkpoint()
    fill(log, 30, size=200)
    assert len(log.segments) > 1
    log.plan_checkpoint()()
    before = contents(log)
    early()
    assert contents(log) == before


def test_a_restart_scans_from_the_checkpoint(
    ram_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies before is not read, however much it is."""
    for module in (spare_module, writer_module):
        monkeypatch.setattr(module, "ZERO_AHEAD_BYTES", 4096)

    class Counting(UnsyncedFiles):
        read_bytes = 0

        def read(self, handle: Handle, length: int, position: int) -> bytes:
            data = super().read(handle, length, position)
            self.read_bytes += len(data)
            return data

    read = {}
    for batches in (10, 400):
        path = ram_path / str(batches)
        log = open_log(path, segment_bytes=1 << 22)
        fill(log, batches, count=1, size=5_000)
        log.plan_checkpoint()()
        fill(log, 1, count=1, size=5_000)
        del log
        files = Counting()
        log = open_log(path, segment_bytes=1 << 22, files=files)
        assert log.durable_offset == batches + 1
        read[batches] = files.read_bytes
    assert read[400] < read[10] + 20_000


@pytest.mark.parametrize("clean", (True, False))
def test_what_fits_needs_one_write(
    ram_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    """The first append of a log, the first after a start, and one into new blocks do more."""
    for module in (spare_module, writer_module):
        monkeypatch.setattr(module, "ZERO_AHEAD_BYTES", 4096)
    path = ram_path / "log"
    log = open_log(path)
    assert not log.fits(0)
    fill(log, 1)
    assert log.fits(1000)
    assert not log.fits(4096)
    if clean:
        log.close()
    log = open_log(path)
    assert not log.fits(0)
    fill(log, 1)
    assert log.fits(1000)


def test_frames_are_counted_across_restarts(ram_path: Path) -> None:
    """The footer has the right number, whatever happened before it was written."""
    log = open_log(ram_path / "log")
    for turn in range(6):
        fill(log, 20, size=20)
        if turn % 2:
            log.plan_checkpoint()()
        if turn % 3 == 2:
            log.close()
        log = open_log(ram_path / "log")
    while not log.segments[0].sealed:
        fill(log, 1, size=20)
    log.plan_checkpoint()()
    log = open_log(ram_path / "log")
    assert log.segments[0].frame_count * 3 == log.segments[0].end.offset


# ---- Time ---------------------------------------------------------------------


def test_time_never_goes_back(ram_path: Path) -> None:
    """Whatever the clock does, within a run and from one to the next."""
    clock = Clock(1_000)
    log = open_log(ram_path / "log", segment_bytes=4096, clock=clock)
    times = []
    for now in (1_000, 500, 2_000, 0, 3_000, 1):
        clock.now_ns = now
        (outcome,) = log.append([batch(b"x")])
        assert isinstance(outcome, Appended)
        times.append(outcome.append_time_ns)
    assert times == [1_000, 1_000, 2_000, 2_000, 3_000, 3_000]
    log.sync()
    for clean in (False, True):
        if clean:
            log.close()
        log = open_log(ram_path / "log", segment_bytes=4096, clock=Clock(5))
        assert log.last_append_time_ns == 3_000
        (outcome,) = log.append([batch(b"x")])
        assert isinstance(outcome, Appended)
        assert outcome.append_time_ns == 3_000


def test_time_does_not_go_back_after_a_trim(ram_path: Path) -> None:
    """Also where the last segment is empty, and the one before it is gone."""
    clock = Clock(1_000)
    log = open_log(ram_path / "log", clock=clock)
    fill(log, 1)
    log.roll_aged(0)
    log.trim(log.durable_offset)
    assert [s.base_offset for s in log.segments] == [3]
    del log
    log = open_log(ram_path / "log", clock=Clock(5))
    assert log.last_append_time_ns == 1_000


def test_seeking_by_time(ram_path: Path) -> None:
    """Finds the first record of a time or later, also where many have the same."""
    clock = Clock(0)
    log = open_log(ram_path / "log", segment_bytes=4096, clock=clock)
    for now in range(0, 400, 10):
        clock.now_ns = now
        for _ in range(3):
            append(log, 2, 100)
    log.sync()
    assert len(log.segments) > 5
    for wanted in range(-5, 395):
        assert log.seek_time(wanted) == 6 * max(0, -(-wanted // 10))
    for past in (391, 1 << 62, 1 << 64, 1 << 70):
        assert log.seek_time(past) == log.durable_offset == 240
    assert log.seek_time(-(1 << 63)) == 0
    append(log)
    assert log.seek_time(391) == 240


# ---- Refusals -----------------------------------------------------------------


@pytest.mark.parametrize("offset", (-1, 4, 1 << 64))
def test_offsets_outside(tmp_path: Path, offset: int) -> None:
    """The error says where the log begins and ends."""
    log = open_log(tmp_path / "log")
    fill(log, 1)
    with pytest.raises(OffsetOutOfRange, match="holds offsets from 0 up to 3") as caught:
        log.read(offset, 100)
    assert (caught.value.log_start_offset, caught.value.next_offset) == (0, 3)


def test_offsets_not_yet_durable(tmp_path: Path) -> None:
    """Are not outside: there is nothing to read yet."""
    log = open_log(tmp_path / "log")
    append(log)
    for offset in range(4):
        result = log.read(offset, 1000)
        assert result is not None
        assert (result.spans, result.next_offset) == ([], offset)
    log.sync()
    assert len(read_all(log)) == 3


def test_a_segment_that_is_a_symbolic_link(ram_path: Path) -> None:
    """Is not followed."""
    log = open_log(ram_path / "log")
    fill(log, 1)
    log.close()
    path = ram_path / "log" / FIRST
    path.rename(ram_path / "elsewhere")
    path.symlink_to(ram_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        open_log(ram_path / "log")


@pytest.mark.parametrize("size", (0, 1, HEADER_BYTES, HEADER_BYTES + FOOTER_BYTES))
def test_a_segment_of_no_size(ram_path: Path, size: int) -> None:
    """Does not make the log begin again at 0."""
    log = open_log(ram_path / "log")
    fill(log, 3)
    log.close()
    os.truncate(ram_path / "log" / FIRST, size)
    before = contents(log)
    with pytest.raises(ChannelFailed):
        open_log(ram_path / "log")
    assert contents(log) == before


def test_zeros_at_the_end_that_are_missing(ram_path: Path) -> None:
    """Are put back: nothing that was stored is missing."""
    log = open_log(ram_path / "log")
    fill(log, 3)
    records = read_all(log)
    end = HEADER_BYTES + log.stored_bytes
    log.close()
    os.truncate(ram_path / "log" / FIRST, end)
    log = open_log(ram_path / "log")
    assert read_all(log) == records
    assert log.notices == [f"zeros were missing at the end of {FIRST}"]
    assert (ram_path / "log" / FIRST).stat().st_size == SEGMENT_BYTES_FIRST
    fill(log, 1)


def test_records_that_end_with_a_hole(ram_path: Path) -> None:
    """A file system may keep no blocks for zeros; they are part of the frame all the same."""

    class Sparse(Files):
        def data_end(self, handle: Handle, position: int) -> int:
            data = self.read(handle, 1 << 20, position)
            return position + len(data.rstrip(b"\0"))

    log = open_log(ram_path / "log")
    log.append([batch(bytes(20_000)), batch(b"one", bytes(20_000))])
    log.sync()
    for _ in range(2):
        log = open_log(ram_path / "log", files=Sparse())
        assert [r.content for r in read_all(log)] == [bytes(20_000), b"one", bytes(20_000)]
        assert log.notices == []
        log.close()


def test_errors_are_the_projects_own(tmp_path: Path) -> None:
    """What ``append`` answers can be told to a publisher."""
    log = open_log(tmp_path / "log")
    (outcome,) = log.append([batch(*numbered(0, 3))])
    assert not isinstance(outcome, MQError)
    assert outcome == (0, 3, 1_000_000_000, False)
