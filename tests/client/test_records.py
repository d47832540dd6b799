"""The wire format of records: the same bytes as protobuf's, and where things lie in them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.records import decode_contents, encode_records, locate_contents, varint
from mq.pb import mq_pb2 as pb

# Lengths around the steps of a varint's size, and of the table of prefixes.
lengths = st.sampled_from([0, 1, 2, 127, 128, 4095, 4096, 16383, 16384])
contents_lists = st.lists(st.binary(max_size=40) | lengths.map(bytes), min_size=1, max_size=20)


def slices(records: bytes, count: int) -> list[bytes]:
    """The contents, by way of their positions."""
    starts, sizes = locate_contents(records, count)
    assert starts.dtype == sizes.dtype == np.int64
    return [records[a : a + n] for a, n in zip(starts.tolist(), sizes.tolist(), strict=True)]


@given(st.data(), contents_lists)
def test_columns_are_encoded_as_protobuf_does(data: st.DataObject, contents: list[bytes]) -> None:
    """Joined from prefixes or serialized by protobuf: the same bytes."""
    count = len(contents)
    keys = data.draw(st.just([]) | st.lists(st.binary(), min_size=count, max_size=count))
    headers = data.draw(st.sampled_from([[], [pb.Headers(entries=[pb.Header(key="a")])] * count]))
    message = pb.Records(contents=contents, keys=keys, headers=headers)
    encoded = encode_records(contents, keys, [each.SerializeToString() for each in headers])
    assert encoded == message.SerializeToString(deterministic=True)


@given(contents_lists)
def test_contents_come_back(contents: list[bytes]) -> None:
    """What was encoded is decoded, one record or many."""
    assert decode_contents(encode_records(contents), len(contents)) == contents


@given(contents_lists, st.booleans())
def test_positions_of_what_serializers_write(contents: list[bytes], with_keys: bool) -> None:
    """Positions and lengths give the contents, with and without further columns."""
    keys = [b"key"] * len(contents) if with_keys else []
    assert slices(encode_records(contents, keys), len(contents)) == contents


@given(st.binary(max_size=300), st.integers(1, 50))
def test_positions_of_contents_of_one_length(content: bytes, count: int) -> None:
    """Contents that are all of one length are found too, keys behind them or not."""
    for keys in ([], [b"k"] * count):
        assert slices(encode_records([content] * count, keys), count) == [content] * count


@given(contents_lists, st.randoms(use_true_random=False))
def test_positions_in_any_encoding(contents: list[bytes], chance: random.Random) -> None:
    """Padded lengths, columns mixed, unknown fields: whatever a parser accepts."""
    pieces = []
    for content in contents:
        pieces.append(
            chance.choice([b"", b"\x12\x01k", b"\x78\x96\x01", b"\x7d1234", b"\x7912345678"])
        )
        padding = chance.randrange(3)
        size = bytearray(varint(len(content)))
        for _ in range(padding):
            size[-1] |= 0x80
            size.append(0)
        pieces += [b"\x0a", bytes(size), content]
    records = b"".join(pieces)
    assert list(pb.Records.FromString(records).contents) == contents
    assert slices(records, len(contents)) == contents


@given(st.binary(max_size=60), st.integers(1, 5))
def test_rubbish_is_refused(rubbish: bytes, count: int) -> None:
    """Bytes that are no such batch raise ValueError, and nothing else."""
    try:
        decoded = decode_contents(rubbish, count)
    except ValueError:
        decoded = None
    try:
        located = slices(rubbish, count)
    except ValueError:
        located = None
    if decoded is not None and located is not None:
        assert located == decoded


@pytest.mark.parametrize("count", (1, 3))
def test_another_number_of_records_is_refused(count: int) -> None:
    """A header that announces more or fewer records than there are is not believed."""
    records = encode_records([b"a", b"bc"])
    with pytest.raises(ValueError, match="record"):
        decode_contents(records, count)
    with pytest.raises(ValueError, match="record"):
        locate_contents(encode_records([b"a", b"bc"], [b"k", b"k"]), 3)


def test_nothing_has_no_positions() -> None:
    """No records, no positions."""
    starts, sizes = locate_contents(b"", 0)
    assert len(starts) == len(sizes) == 0
