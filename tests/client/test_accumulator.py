"""Messages into batches: when one is full, when it is due, how much is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.accumulator import Accumulator, BatchLimits
from mq.client.outgoing import Handle, OutgoingBatch
from mq.client.records import RECORD_OVERHEAD_BYTES
from mq.errors import MessageTooLarge
from mq.pb import mq_pb2 as pb

LIMITS = BatchLimits(linger_s=1.0, batch_bytes=100, batch_records=4, buffer_bytes=300)


def add(
    accumulator: Accumulator[Handle], content: bytes, now: float = 0.0, key: bytes = b""
) -> Handle | None:
    """Append as a producer does: the short way first."""
    handle = None if key else accumulator.append(content)
    return handle or accumulator.append_record(content, key, b"", now)


def taken(accumulator: Accumulator[Handle], now: float = 0.0) -> OutgoingBatch:
    """A batch that has to be there."""
    batch = accumulator.take(now)
    assert batch is not None
    return batch


def contents(batch: OutgoingBatch) -> list[bytes]:
    """What a sealed batch holds."""
    return list(pb.Records.FromString(batch.records).contents)


def test_a_batch_lingers() -> None:
    """A batch that isn't full is due a linger after its first message, not before."""
    accumulator = Accumulator(LIMITS, Handle)
    add(accumulator, b"a", now=5.0)
    add(accumulator, b"b", now=5.9)
    assert accumulator.due_at_s == 6.0
    assert accumulator.take(5.999) is None
    assert contents(taken(accumulator, 6.0)) == [b"a", b"b"]
    assert accumulator.take(100.0) is None


def test_a_full_batch_does_not_linger() -> None:
    """A message that doesn't fit any more makes the batch before it due at once."""
    accumulator = Accumulator(LIMITS, Handle)
    for index in range(5):
        add(accumulator, b"%d" % index)
    assert contents(taken(accumulator)) == [b"0", b"1", b"2", b"3"]
    assert accumulator.take(0.0) is None
    assert contents(taken(accumulator, 1.0)) == [b"4"]


def test_a_batch_is_full_before_it_is_too_large() -> None:
    """batch_bytes is not passed by a message that would still be added."""
    accumulator = Accumulator(LIMITS, Handle)
    add(accumulator, bytes(50))
    add(accumulator, bytes(50))
    assert len(contents(taken(accumulator))) == 1


def test_a_larger_message_is_a_batch_of_its_own() -> None:
    """One message above batch_bytes goes alone, the next into a new batch."""
    accumulator = Accumulator(LIMITS, Handle)
    add(accumulator, b"small")
    add(accumulator, bytes(120))
    add(accumulator, b"small")
    assert [len(contents(taken(accumulator))) for _ in range(2)] == [1, 1]
    assert contents(taken(accumulator, 1.0)) == [b"small"]


def test_a_flush_makes_what_is_there_due() -> None:
    """After `hurry` the open batch is due; what is added once it was taken lingers again."""
    accumulator = Accumulator(LIMITS, Handle)
    accumulator.hurry()
    add(accumulator, b"a")
    assert accumulator.take(0.0) is None
    accumulator.hurry()
    add(accumulator, b"b")
    assert contents(taken(accumulator)) == [b"a", b"b"]
    add(accumulator, b"c")
    assert accumulator.take(0.0) is None


def test_the_buffer_is_bounded() -> None:
    """A batch reserves its size when it is opened, and gives it back when it is released."""
    accumulator = Accumulator(LIMITS, Handle)
    batches = 0
    while add(accumulator, bytes(80)) is not None:
        batches += 1
        assert accumulator.held_bytes <= LIMITS.buffer_bytes
    assert batches == 3
    batch = taken(accumulator)
    assert add(accumulator, b"x") is None
    accumulator.release(batch)
    assert add(accumulator, b"x") is not None
    accumulator.release(taken(accumulator))
    accumulator.release(taken(accumulator))
    accumulator.release(taken(accumulator, 1.0))
    assert accumulator.held_bytes == 0
    assert accumulator.held() == []


def test_a_message_that_never_fits_is_refused() -> None:
    """More than the whole buffer is an error at once, not a wait without end."""
    accumulator = Accumulator(LIMITS, Handle)
    with pytest.raises(MessageTooLarge, match="buffer_bytes"):
        add(accumulator, bytes(LIMITS.buffer_bytes))
    assert add(accumulator, bytes(LIMITS.buffer_bytes - RECORD_OVERHEAD_BYTES)) is not None


def test_keys_and_headers_are_columns() -> None:
    """Once a record has a key or headers all of the batch have an entry, before and after it."""
    accumulator = Accumulator(LIMITS, Handle)
    headers = pb.Headers(entries=[pb.Header(key="a")])
    add(accumulator, b"0")
    accumulator.append_record(b"1", b"k", headers.SerializeToString(), 0.0)
    add(accumulator, b"2")
    records = pb.Records.FromString(taken(accumulator, 1.0).records)
    assert list(records.keys) == [b"", b"k", b""]
    assert list(records.headers) == [pb.Headers(), headers, pb.Headers()]


@given(
    messages=st.lists(st.tuples(st.binary(max_size=150), st.binary(max_size=30)), max_size=60),
    steps=st.lists(st.booleans(), max_size=60),
)
def test_nothing_is_lost_and_bounds_hold(
    messages: list[tuple[bytes, bytes]], steps: list[bool]
) -> None:
    """Whatever is added and taken when: all of it comes out, in order, in batches within bounds."""
    accumulator = Accumulator(LIMITS, Handle)
    came: list[bytes] = []
    handles: list[tuple[bytes, Handle]] = []
    batches: dict[OutgoingBatch, list[bytes]] = {}

    def drain(now: float) -> None:
        while (batch := accumulator.take(now)) is not None:
            batches[batch] = contents(batch)
            came.extend(batches[batch])
            assert len(batch.records) <= LIMITS.batch_bytes or batch.record_count == 1
            assert batch.record_count <= LIMITS.batch_records
            accumulator.release(batch)

    for index, (content, key) in enumerate(messages):
        while (handle := add(accumulator, content, key=key)) is None:
            drain(0.0)
        handles.append((content, handle))
        assert accumulator.held_bytes <= LIMITS.buffer_bytes
        if index < len(steps) and steps[index]:
            drain(1.0)
    drain(1.0)
    assert came == [content for content, _ in messages]
    assert all(batches[h._batch][h._index] == content for content, h in handles)
    assert accumulator.held_bytes == 0
