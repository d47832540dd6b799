"""Batches as a consumer gets them: checked, cut to what was asked, opened lazily."""

from __future__ import annotations

from collections.abc import Sequence

import crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.batch import Batch, read_batch
from mq.client.pulled import read_pull
from mq.client.types import time_from_ns
from mq.errors import DataLoss, Internal
from mq.pb import mq_pb2 as pb

TIME_NS = 1_700_000_000_123_456_789


def frame(
    base_offset: int,
    contents: Sequence[bytes],
    deltas: Sequence[int] = (),
    keys: Sequence[bytes] = (),
    headers: Sequence[pb.Headers] = (),
) -> pb.RecordBatch:
    """A record batch as a broker sends it."""
    records = pb.Records(
        contents=contents, keys=keys, headers=headers, offset_deltas=deltas
    ).SerializeToString()
    return pb.RecordBatch(
        base_offset=base_offset,
        last_offset_delta=deltas[-1] if deltas else max(0, len(contents) - 1),
        record_count=len(contents),
        append_time_ns=TIME_NS,
        records=records,
        records_crc=crc32c.crc32c(records),
    )


def response(*frames: pb.RecordBatch, start: int = 0, following: int = 0) -> bytes:
    """A serialized answer with these batches."""
    return pb.PullResponse(
        batches=frames,
        start_offset=start,
        next_offset=following,
        log_start_offset=1,
        durable_offset=99,
    ).SerializeToString()


def read(part: pb.RecordBatch, first: int, records_max: int | None = None) -> Batch:
    """A batch that has records wanted."""
    batch = read_batch("c", part, first, records_max)
    assert batch is not None
    return batch


@given(
    count=st.integers(1, 30),
    base=st.integers(0, 50),
    first=st.integers(0, 90),
    records_max=st.none() | st.integers(1, 40),
    sparse=st.booleans(),
    data=st.data(),
)
def test_cut_to_exactly_what_was_asked(
    *, count: int, base: int, first: int, records_max: int | None, sparse: bool, data: st.DataObject
) -> None:
    """Of a batch, those records from the first offset on, no more than asked; every view agrees."""
    deltas: list[int] = []
    if sparse:
        chosen = data.draw(st.sets(st.integers(0, 60), min_size=count, max_size=count))
        deltas = sorted(chosen)
    offsets = [base + delta for delta in deltas or range(count)]
    contents = [b"%d" % offset for offset in offsets]
    keys = data.draw(st.sampled_from([[], [b"k" + content for content in contents]]))
    batch = read_batch("c", frame(base, contents, deltas, keys), first, records_max)
    wanted = [offset for offset in offsets if offset >= first][:records_max]
    if batch is None:
        assert not wanted
        return
    assert list(batch.offsets) == wanted
    assert (batch.base_offset, batch.next_offset) == (wanted[0], wanted[-1] + 1)
    assert batch.record_count == len(batch) == len(wanted)
    assert batch.contents == [b"%d" % offset for offset in wanted]
    assert [(m.offset, m.content) for m in batch] == [(o, b"%d" % o) for o in wanted]
    assert [m.key for m in batch] == [b"k%d" % o if keys else None for o in wanted]
    starts, lengths = batch.offsets_and_lengths()
    buffer = np.frombuffer(batch.records, np.uint8)
    located = [
        buffer[a : a + n].tobytes() for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    assert located == batch.contents


def test_messages_know_their_batch() -> None:
    """Key, headers, time and channel are looked up when they are asked for."""
    headers = [pb.Headers(entries=[pb.Header(key="a", value=b"1"), pb.Header(key="a", value=b"2")])]
    batch = read(frame(5, [b"x", b"y"], keys=[b"k", b""], headers=[*headers, pb.Headers()]), 5)
    first, second = batch.messages()
    assert (first.key, first.headers) == (b"k", (("a", b"1"), ("a", b"2")))
    assert (second.key, second.headers) == (None, ())
    assert first.channel == "c"
    assert first.append_time_ns == TIME_NS
    assert first.append_time == batch.append_time == time_from_ns(TIME_NS)
    assert repr(second) == "Message(channel='c', offset=6, content=b'y')"
    assert repr(batch) == "Batch(channel='c', base_offset=5, record_count=2)"


def test_without_columns_there_is_nothing_to_look_up() -> None:
    """No keys and no headers: None and empty."""
    message = next(read(frame(0, [b"x"]), 0).messages())
    assert message.key is None
    assert message.headers == ()


def test_another_crc_is_data_loss_with_its_range() -> None:
    """Records that aren't the producer's name the offsets that are lost, from the wanted one on."""
    damaged = frame(10, [b"a", b"b", b"c"])
    damaged.records = damaged.records.replace(b"b", b"B")
    with pytest.raises(DataLoss, match=r"offsets 11 to 12.*pull from 13") as caught:
        read_batch("c", damaged, 11)
    assert (caught.value.first_offset, caught.value.next_offset) == (11, 13)


def test_damage_before_the_start_does_not_matter() -> None:
    """A damaged batch of which nothing is wanted is left alone."""
    damaged = frame(10, [b"a"])
    damaged.records_crc ^= 1
    assert read_batch("c", damaged, 11) is None


@pytest.mark.parametrize("view", ("contents", "keys", "offsets_and_lengths"))
def test_a_good_crc_over_nonsense_is_data_loss(view: str) -> None:
    """A batch that is not what its header says is reported with its range."""
    part = frame(3, [b"a", b"b"])
    part.records = b"\x0a\x7f"
    part.records_crc = crc32c.crc32c(part.records)
    batch = read(part, 3)
    with pytest.raises(DataLoss, match="pull from 5") as caught:
        getattr(batch, view)() if view == "offsets_and_lengths" else getattr(batch, view)
    assert (caught.value.first_offset, caught.value.next_offset) == (3, 5)


def test_deltas_that_are_missing_are_data_loss() -> None:
    """Fewer records than offsets, and no word on which: reported."""
    part = frame(3, [b"a", b"b"])
    part.last_offset_delta = 4
    with pytest.raises(DataLoss, match="which 2 of its offsets"):
        read_batch("c", part, 3)


def test_a_batch_that_compaction_has_emptied_is_passed_over() -> None:
    """There is no record to hand out, and nothing wrong; the next pull goes on behind it."""
    empty = frame(3, [])
    empty.last_offset_delta = 6
    assert read_batch("c", empty, 3) is None
    result = read_pull("c", response(empty, frame(10, [b"a"]), start=3, following=11), 0)
    assert [(m.offset, m.content) for m in result] == [(10, b"a")]
    assert read_pull("c", response(empty, start=3, following=10), 0).next_offset == 10


def test_a_codec_of_the_future_is_refused() -> None:
    """Records encoded in an unknown way are not guessed at."""
    part = frame(0, [b"a"])
    part.attributes = 3
    with pytest.raises(Internal, match="codec 3"):
        read_batch("c", part, 0)


def test_a_result_is_cut_at_both_ends() -> None:
    """A pull's result has what was asked, and goes on behind it."""
    frames = frame(0, [b"0", b"1", b"2"]), frame(3, [b"3"]), frame(4, [b"4", b"5"])
    result = read_pull("c", response(*frames, start=1, following=6), 4)
    assert [(m.offset, m.content) for m in result] == [(i, b"%d" % i) for i in range(1, 5)]
    assert len(result) == 4
    assert (result.next_offset, result.log_start_offset, result.durable_offset) == (5, 1, 99)


def test_a_result_without_a_limit_is_whole() -> None:
    """Without max_records the broker's next offset counts, beyond the batches too."""
    result = read_pull("c", response(frame(0, [b"0"]), following=7), 0)
    assert (len(result), result.next_offset) == (1, 7)


def test_an_empty_result_is_no_error() -> None:
    """Nothing there: no batches, and where to go on."""
    result = read_pull("c", response(start=9, following=9), 0)
    assert (result.batches, len(result), result.next_offset) == ([], 0, 9)


def test_what_is_good_comes_before_the_damage() -> None:
    """Damage ends a result before it; at the beginning it raises."""
    damaged = frame(1, [b"1"])
    damaged.records_crc ^= 1
    result = read_pull("c", response(frame(0, [b"0"]), damaged, following=2), 0)
    assert (len(result), result.next_offset) == (1, 1)
    with pytest.raises(DataLoss):
        read_pull("c", response(damaged, start=1, following=2), 0)


def test_an_answer_that_is_none_is_refused() -> None:
    """Bytes that are no PullResponse raise the project's error."""
    with pytest.raises(Internal, match="no PullResponse"):
        read_pull("c", b"\x0a\x7f", 0)
