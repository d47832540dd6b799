"""The columns for delay and expiry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.outgoing import OutgoingBatch
from mq.client.records import encode_records
from mq.client.schedule import NO_SCHEDULE, Milliseconds, Schedule
from mq.errors import InvalidArgument
from mq.pb import mq_pb2 as pb

SPANS = st.one_of(st.none(), st.integers(0, (1 << 45) - 1))


def column(value: Milliseconds, count: int) -> list[int]:
    """What a reader sees of it."""
    entries = [value] * count if isinstance(value, int) or value is None else list(value)
    numbers = [each or 0 for each in entries]
    return numbers if any(numbers) else []


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=20), st.data())
def test_columns_are_as_the_serializer_writes_them(
    contents: list[bytes], data: st.DataObject
) -> None:
    """Empty, or one entry a record; the same bytes as protobuf's."""
    count = len(contents)
    spans = st.one_of(SPANS, st.lists(SPANS, min_size=count, max_size=count))
    schedule = Schedule(data.draw(spans), data.draw(spans))
    schedule.check(count)
    expected = pb.Records(
        contents=contents,
        deliver_after_ms=column(schedule.deliver_after_ms, count),
        expires_after_ms=column(schedule.expires_after_ms, count),
    )
    assert encode_records(contents) + schedule.encode(count) == expected.SerializeToString()


def test_none_costs_nothing() -> None:
    """No bytes."""
    assert NO_SCHEDULE.encode(1000) == b""
    assert Schedule(0, [None, 0]).encode(2) == b""


def test_a_batch_that_is_split_keeps_its_schedule() -> None:
    """Each half has it."""
    batch = OutgoingBatch(0.0, 0, schedule=Schedule(5, None))
    batch.contents = [b"a", b"b", b"c"]
    batch.seal()
    halves = [pb.Records.FromString(half.records) for half in batch.split()]
    assert [list(half.deliver_after_ms) for half in halves] == [[5], [5, 5]]


@pytest.mark.parametrize("value", (-1, 1 << 45, [1], [1, 2, 3], [1, -1]))
def test_what_is_no_schedule_is_refused(value: Milliseconds) -> None:
    """A negative time, one in a far future, columns that don't fit."""
    for schedule in (Schedule(value, None), Schedule(None, value)):
        with pytest.raises(InvalidArgument):
            schedule.check(2)


@pytest.mark.parametrize("value", (1.5, [1.5, 2], ["1", 2]))
def test_times_are_whole_numbers(value: Milliseconds) -> None:
    """Of milliseconds."""
    with pytest.raises(TypeError):
        Schedule(value).check(2)
