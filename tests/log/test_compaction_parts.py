"""The parts of compaction by themselves: columns against a protobuf parser, keys against a dict."""

from __future__ import annotations

from itertools import compress
from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from mq.log.compaction.columns import parse_columns
from mq.log.compaction.latest import LatestOffsets
from mq.pb import mq_pb2 as pb

NAMES = ("contents", "keys", "headers", "deliver_after_ms", "expires_after_ms")
numbers = st.integers(0, (1 << 64) - 1)


@st.composite
def batches(draw: st.DrawFn) -> tuple[pb.Records, int]:
    """Records with any columns, and the last offset delta of their frame."""
    count = draw(st.integers(1, 12))

    def column(entries: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.just([]) | st.lists(entries, min_size=count, max_size=count))

    header = st.builds(pb.Header, key=st.text(max_size=3), value=st.binary(max_size=9))
    records = pb.Records(
        contents=draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count)),
        keys=column(st.binary(max_size=5)),
        headers=column(st.builds(pb.Headers, entries=st.lists(header, max_size=2))),
        deliver_after_ms=column(numbers),
        expires_after_ms=column(numbers),
    )
    if draw(st.booleans()):
        return records, count - 1
    deltas = draw(st.sets(st.integers(0, 1000), min_size=count, max_size=count))
    records.offset_deltas.extend(sorted(deltas))
    return records, max(deltas) + draw(st.integers(0, 3))


@given(batches(), st.data())
def test_records_are_taken_out_of_every_column(
    batch: tuple[pb.Records, int], data: st.DataObject
) -> None:
    """What is left is what a protobuf library would make of it, to the byte."""
    records, last = batch
    count = len(records.contents)
    columns = parse_columns(records.SerializeToString(), count, last)
    assert columns is not None
    kept = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    left = pb.Records()
    for name in NAMES:
        getattr(left, name).extend(compress(getattr(records, name), kept))
    left.offset_deltas.extend(compress(records.offset_deltas or range(count), kept))
    assert columns.only(kept).encode() == left.SerializeToString()


@given(st.binary(max_size=60), st.integers(0, 4), st.integers(0, 6))
def test_what_is_not_understood_is_left_alone(raw: bytes, count: int, last: int) -> None:
    """No bytes raise anything; what is taken for records is what a protobuf library sees."""
    columns = parse_columns(raw, count, last)
    try:
        parsed = pb.Records.FromString(raw)
    except DecodeError:
        return
    if columns is not None:
        assert columns.contents == list(parsed.contents)
        assert columns.keys == list(parsed.keys)
        assert len(columns.contents) == count
        assert all(delta <= last for delta in columns.offset_deltas)


def test_an_unknown_field_is_not_understood() -> None:
    """A column of a later version can't be cut, so its batch stays whole."""
    records = pb.Records(contents=[b"a"], keys=[b"k"]).SerializeToString()
    assert parse_columns(records, 1, 0) is not None
    assert parse_columns(records + b"\x4a\x01x", 1, 0) is None


@given(st.lists(st.binary(max_size=2), max_size=60), st.integers(1, 20))
def test_the_latest_offset_of_a_key_is_the_last_that_was_added(
    keys: list[bytes], gathered_max: int
) -> None:
    """However the keys were sorted in; of others, none is known."""
    latest, expected = LatestOffsets(gathered_max), {}
    for offset, key in enumerate(keys):
        latest.add(key, offset)
        expected[key] = offset
        assert len(latest) >= len(expected)
    latest.settle()
    assert len(latest) == len(expected)
    wanted = [*dict.fromkeys(keys), b"unknown"]
    assert latest.of(wanted).tolist() == [expected.get(key, -1) for key in wanted]
