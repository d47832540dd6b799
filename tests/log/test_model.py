"""The log against a model that is a list: any order of anything, the same answers."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mq.errors import InvalidArgument, MQError, OffsetOutOfRange, SequenceGap, SequenceTooOld
from mq.log.cache import SegmentCache
from mq.log.log import Append, Appended, Log
from mq.log.producers import WINDOW
from tests.log.batches import (
    Clock,
    Record,
    append,
    batch,
    content_at,
    decode,
    open_log,
    rounds,
    seeded_ids,
)

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Stored(NamedTuple):
    """What the model knows of a record."""

    content: bytes
    time_ns: int


class Sent(NamedTuple):
    """What the model knows of a producer's batch."""

    append: Append
    outcome: Appended


class LogMachine(RuleBasedStateMachine):
    """Drives a log and a list side by side."""

    @initialize(
        segment_bytes=st.sampled_from((4096, 10_000, 1 << 16)),
        open_max=st.sampled_from((0, 1, 2, 100)),
    )
    def begin(self, segment_bytes: int, open_max: int) -> None:
        """An empty log, and an empty list."""
        self.directory = Path(tempfile.mkdtemp(prefix="mq-test-", dir=MEMORY))
        self.segment_bytes = segment_bytes
        self.cache = SegmentCache(open_max)
        self.clock = Clock()
        self.ids = seeded_ids()
        self.log = self.open()
        self.records: list[Stored] = []
        self.durable = 0
        self.start = 0
        self.sent: list[Sent] = []
        self.serial = itertools.count()

    def open(self) -> Log:
        """Open the log."""
        return open_log(
            self.directory / "log",
            segment_bytes=self.segment_bytes,
            cache=self.cache,
            clock=self.clock,
            random_id=self.ids,
        )

    def teardown(self) -> None:
        """Remove the files."""
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    def store(self, appended: Append, outcome: Appended | MQError, made: list[bytes]) -> None:
        """Note a batch that was appended."""
        assert isinstance(outcome, Appended)
        last = self.records[-1].time_ns if self.records else 0
        time_ns = max(last, self.clock.now_ns)
        assert outcome == (len(self.records), len(made), time_ns, False)
        self.records += [Stored(content, time_ns) for content in made]
        if appended.producer_id:
            self.sent.append(Sent(appended, outcome))

    # ---- Writing ----------------------------------------------------------

    @rule(
        sizes=st.lists(
            st.lists(st.sampled_from((0, 7, 60, 700)), min_size=1, max_size=6), max_size=5
        ),
        large=st.sampled_from((0, 0, 0, 5_000, 70_000)),
    )
    def append_group(self, sizes: list[list[int]], large: int) -> None:
        """Batches are framed one after another, in new segments as need be."""
        if large:
            sizes = [*sizes, [large]]
        contents = [[content_at(next(self.serial), size) for size in each] for each in sizes]
        batches = [batch(*made) for made in contents]
        for sent, outcome, made in zip(batches, self.log.append(batches), contents, strict=True):
            self.store(sent, outcome, made)

    @rule(producer=st.integers(1, 3), count=st.integers(1, 4))
    def append_sequence(self, producer: int, count: int) -> None:
        """A producer's next batches."""
        sequence = self.next_sequence(producer)
        contents = [[b"%d" % next(self.serial)] for _ in range(count)]
        batches = [
            batch(*made, producer_id=producer, sequence=sequence + n)
            for n, made in enumerate(contents)
        ]
        for sent, outcome, made in zip(batches, self.log.append(batches), contents, strict=True):
            self.store(sent, outcome, made)

    def next_sequence(self, producer: int) -> int:
        """The sequence that a producer's next batch must have."""
        return max(
            (s.append.sequence + 1 for s in self.sent if s.append.producer_id == producer),
            default=5,
        )

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A batch sent again is answered as before, or refused, and never stored again."""
        sent = data.draw(st.sampled_from(self.sent))
        (outcome,) = self.log.append([sent.append])
        back = self.next_sequence(sent.append.producer_id) - sent.append.sequence
        if back > WINDOW:
            assert isinstance(outcome, SequenceTooOld)
        else:
            assert outcome == sent.outcome._replace(duplicate=True)

    @rule(producer=st.integers(1, 3), ahead=st.integers(1, 3))
    def skip_a_sequence(self, producer: int, ahead: int) -> None:
        """A batch whose predecessor is missing is refused, alone."""
        known = any(s.append.producer_id == producer for s in self.sent)
        if known:
            sequence = self.next_sequence(producer)
            early = batch(b"early", producer_id=producer, sequence=sequence + ahead)
            other = batch(b"%d" % next(self.serial), producer_id=producer, sequence=sequence)
            refused, outcome = self.log.append([early, other])
            assert isinstance(refused, SequenceGap)
            assert refused.expected_sequence == sequence
            self.store(other, outcome, [b"%d" % (next(self.serial) - 1)])

    @rule(count=st.sampled_from((0, -1, 1 << 32)))
    def append_nonsense(self, count: int) -> None:
        """A batch that can't be is refused, and the one beside it is stored."""
        good = batch(b"good")
        bad = Append(good.records, count, good.records_crc)
        refused, outcome = self.log.append([bad, good])
        assert isinstance(refused, InvalidArgument)
        self.store(good, outcome, [b"good"])

    @rule()
    def sync(self) -> None:
        """All of it is visible."""
        self.durable = len(self.records)
        assert self.log.sync() == self.durable

    @rule()
    def checkpoint(self) -> None:
        """Changes nothing that shows."""
        self.log.plan_checkpoint()()

    @rule()
    def prepare(self) -> None:
        """Changes nothing that shows."""
        self.log.prepare()

    @rule(seconds=st.integers(-100, 100))
    def move_the_clock(self, seconds: int) -> None:
        """The clock jumps."""
        self.clock.now_ns = max(0, self.clock.now_ns + seconds * 1_000_000_000)

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        """Whole segments go, none that holds the offset."""
        offset = data.draw(st.integers(self.start, len(self.records)))
        self.log.trim(offset)
        self.durable = len(self.records)
        assert self.start <= self.log.log_start_offset <= offset
        self.start = self.log.log_start_offset

    # ---- Opening again ----------------------------------------------------

    @rule()
    def stop_and_start(self) -> None:
        """A clean stop keeps everything."""
        self.log.close()
        self.log.close()
        self.reopen()

    @rule(hints=st.sets(st.sampled_from(("checkpoint", "idx"))))
    def kill_and_start(self, hints: set[str]) -> None:
        """A killed process has written everything, and hints are not needed to find it."""
        files = [p for p in (self.directory / "log").iterdir() if p.name.endswith(tuple(hints))]
        for path in files:
            path.unlink()
        self.reopen()
        if "checkpoint" in hints:
            # Receipts of what was removed were only there.
            self.sent = [s for s in self.sent if s.outcome.base_offset >= self.start]

    def reopen(self) -> None:
        """Open, with nothing found out of the ordinary."""
        self.log = self.open()
        self.durable = len(self.records)
        assert self.log.notices == []
        assert self.log.damage == []

    # ---- Reading ----------------------------------------------------------

    @rule(
        data=st.data(),
        max_bytes=st.sampled_from((1, 100, 1000, 5000, 1 << 20)),
        max_records=st.sampled_from((0, 1, 2, 7, 50)),
        may_block=st.booleans(),
    )
    def read(self, data: st.DataObject, max_bytes: int, max_records: int, may_block: bool) -> None:
        """A read is whole frames from the one with the offset, as many as asked for."""
        offset = data.draw(st.integers(self.start, len(self.records)))
        result = self.log.read(offset, max_bytes, max_records, may_block=may_block)
        if result is None:
            assert not may_block
            return
        found = list(decode(result.join()))
        assert result.start_offset == offset
        if offset >= self.durable:
            assert not found
            assert result.next_offset == offset
            return
        assert found[0].offset <= offset < result.next_offset == found[-1].offset + 1
        assert result.next_offset <= self.durable
        expected = range(found[0].offset, result.next_offset)
        assert found == [Record(n, self.records[n].content) for n in expected]
        size = sum(span.end - span.start for span in result.spans)
        if size > max_bytes:
            # Then it is one frame, which the offset lies in.
            assert result.next_offset - found[0].offset <= 6
            assert len(result.spans) == 1
        if max_records and result.next_offset - offset > max_records:
            assert result.next_offset - offset < max_records + 6

    @rule()
    def read_everything(self) -> None:
        """From the start to the end by one read after another."""
        offset = self.start
        while offset < self.durable:
            result = self.log.read(offset, 2000)
            assert result is not None
            for record in decode(result.join()):
                assert record.content == self.records[record.offset].content
            assert result.next_offset > offset
            offset = result.next_offset

    @rule(data=st.data(), delta=st.integers(-2, 2))
    def seek(self, data: st.DataObject, delta: int) -> None:
        """A time is found where the first record of that time or later is."""
        times = [r.time_ns for r in self.records] or [self.clock.now_ns]
        wanted = data.draw(st.sampled_from(times)) + delta
        expected = next(
            (n for n in range(self.start, self.durable) if self.records[n].time_ns >= wanted),
            self.durable,
        )
        assert self.log.seek_time(wanted) == expected

    @rule(wanted=st.sampled_from((-(1 << 63), -1, 0, (1 << 63) - 1, 1 << 64, 1 << 70)))
    def seek_far(self, wanted: int) -> None:
        """Times before and after everything are no error."""
        expected = self.start if wanted <= 0 else self.durable
        assert self.log.seek_time(wanted) == expected

    @rule(past=st.integers(1, 1 << 65))
    def read_outside(self, past: int) -> None:
        """Before the start and after the end there is nothing."""
        for offset in (self.start - past, len(self.records) + past):
            with pytest.raises(OffsetOutOfRange) as caught:
                self.log.read(offset, 1000)
            assert caught.value.log_start_offset == self.start
            assert caught.value.next_offset == self.durable

    @invariant()
    def counts_agree(self) -> None:
        """What the log says of itself is so."""
        if not hasattr(self, "records"):
            return
        log = self.log
        # Sealing a segment makes it durable.
        assert self.durable <= log.durable_offset <= len(self.records)
        self.durable = log.durable_offset
        assert log.end_offset == len(self.records)
        assert log.log_start_offset == self.start
        assert log.last_append_time_ns == (self.records[-1].time_ns if self.records else 0)
        assert log.read_only_reason is None
        assert log.stored_bytes <= log.allocated_bytes or not log.segments
        assert len(self.cache) <= 100


TestLog = pytest.mark.timeout(rounds(600, 7200))(LogMachine.TestCase)
TestLog.settings = settings(stateful_step_count=rounds(40, 60), max_examples=rounds(150, 2000))


def test_random_histories(ram_path: Path) -> None:
    """Long histories of small batches, read back whole after each of many restarts."""
    source = random.Random(1)
    log = open_log(ram_path / "log", segment_bytes=20_000)
    for _ in range(30):
        for _ in range(source.randrange(40)):
            append(log, source.randrange(1, 9), source.choice((5, 50, 500)))
        log.sync()
        if source.random() < 0.5:
            log.close()
        log = open_log(ram_path / "log", segment_bytes=20_000)
    assert log.durable_offset == log.end_offset > 1000
