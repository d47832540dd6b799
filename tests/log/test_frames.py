"""Frames: made, checked, and found again behind damage."""

from __future__ import annotations

import random

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mq.log.format import FRAME_HEADER_BYTES
from mq.log.frames import (
    candidates,
    encode_header,
    frame_base_offset,
    frame_next_offset,
    frame_size,
    frame_time,
    parse_frame,
    parse_header,
    records_sound,
    segment_seed,
)
from mq.log.walk import OFFSET_MAX, Bound, Damage, walk
from mq.pb import mq_pb2 as pb

SEED = segment_seed(b"segment 12345678")


def frame(
    base_offset: int, records: bytes, *, count: int = 1, time_ns: int = 7, seed: int = SEED
) -> bytes:
    """One frame."""
    header = encode_header(
        seed, len(records), base_offset, count, time_ns, crc32c(records), durable_through=0
    )
    return header + records


@given(
    records=st.binary(max_size=300),
    base=st.integers(0, (1 << 64) - 1),
    count=st.integers(1, (1 << 32) - 1),
    time_ns=st.integers(0, (1 << 64) - 1),
    rest=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 3),
    attributes=st.integers(0, (1 << 32) - 1),
)
def test_frames_are_protobuf(
    records: bytes, base: int, count: int, time_ns: int, rest: tuple[int, int, int], attributes: int
) -> None:
    """What is encoded is what mq and any protobuf parser read."""
    producer, sequence, durable = rest
    raw = encode_header(
        SEED,
        len(records),
        base,
        count,
        time_ns,
        crc32c(records),
        attributes=attributes,
        producer_id=producer,
        sequence=sequence,
        durable_through=durable,
    )
    raw += records
    parsed = parse_frame(raw, 0, len(raw), SEED)
    assert parsed is not None
    (message,) = pb.PullResponse.FromString(raw).batches
    assert parsed.base_offset == message.base_offset == base == frame_base_offset(raw, 0)
    assert parsed.last_offset_delta == message.last_offset_delta == count - 1
    assert parsed.record_count == message.record_count == count
    assert parsed.append_time_ns == message.append_time_ns == time_ns == frame_time(raw, 0)
    assert parsed.attributes == message.attributes == attributes
    assert parsed.producer_id == message.producer_id == producer
    assert parsed.sequence == message.sequence == sequence
    assert parsed.durable_through == message.durable_through == durable
    assert parsed.records_crc == message.records_crc == crc32c(records)
    assert message.records == records
    assert parsed.next_offset == base + count == frame_next_offset(raw, 0)
    assert parsed.size == parsed.end == len(raw) == frame_size(raw, 0)


def test_each_flipped_bit_of_a_frame() -> None:
    """In the header it is no frame; in the records, one whose records are not sound."""
    raw = frame(5, b"records of some length")
    for bit in range(len(raw) * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        header = parse_header(broken, 0, len(broken), SEED)
        if bit < FRAME_HEADER_BYTES * 8:
            assert header is None, f"bit {bit}"
        else:
            assert header is not None
            assert not records_sound(broken, header)
        assert parse_frame(broken, 0, len(broken), SEED) is None


@pytest.mark.parametrize("buffer", (bytes, bytearray, memoryview))
def test_where_a_frame_may_lie(buffer: type) -> None:
    """Anywhere, as long as it ends by the limit; with another segment's seed nowhere."""
    raw = frame(5, b"records")
    data = buffer(b"12345" + raw + b"123")
    assert parse_frame(data, 5, len(data), SEED) is not None
    assert parse_frame(data, 5, 5 + len(raw), SEED) is not None
    assert parse_frame(data, 5, 4 + len(raw), SEED) is None
    assert parse_frame(data, 4, len(data), SEED) is None
    assert parse_frame(data, 5, len(data), SEED + 1) is None
    assert parse_frame(data, len(data), len(data), SEED) is None


def test_zeros_are_no_frame() -> None:
    """Nor do they have one in them."""
    assert parse_header(bytes(1000), 0, 1000, SEED) is None
    assert list(candidates(bytes(1000), 0, 1000, SEED)) == []


def test_records_that_go_on_as_zeros() -> None:
    """What lies behind the buffer is taken for zeros, however many."""
    raw = frame(5, b"begin" + bytes(200_000))
    for length in (FRAME_HEADER_BYTES + 5, FRAME_HEADER_BYTES + 9, 100_000, len(raw) - 1):
        assert parse_frame(raw[:length], 0, 1 << 20, SEED) is not None
    assert parse_frame(raw[: FRAME_HEADER_BYTES + 4], 0, 1 << 20, SEED) is None
    assert parse_frame(raw[: FRAME_HEADER_BYTES - 1], 0, 1 << 20, SEED) is None


def test_candidates_are_found_anywhere() -> None:
    """Each sound header, at any byte, and no other."""
    source = random.Random(1)
    data, places = b"", []
    for offset in range(20):
        data += source.randbytes(source.randrange(50)) + b"\x0a" * source.randrange(3)
        places.append(len(data))
        data += frame(offset, source.randbytes(source.randrange(90)))
        data += frame(99, b"stranger", seed=SEED + 1)
    found = list(candidates(data, 0, len(data), SEED))
    assert [f.position for f in found] == places
    assert [f.position for f in candidates(data, places[3] + 1, len(data), SEED)] == places[4:]


# ---- Walking ------------------------------------------------------------------


def log_of(sizes: list[int], seed: int = SEED) -> tuple[bytes, list[Bound]]:
    """Frames of two records each, and the boundaries between them."""
    source = random.Random(len(sizes))
    data, bounds = b"", [Bound(10, 0)]
    for number, size in enumerate(sizes):
        data += frame(10 + 2 * number, source.randbytes(size), count=2, time_ns=100 + number // 2)
        bounds.append(Bound(12 + 2 * number, len(data)))
    return data, bounds


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=12),
    flips=st.lists(st.integers(0, 1 << 20), max_size=4),
    known=st.booleans(),
)
def test_a_walk_tells_of_everything(sizes: list[int], flips: list[int], known: bool) -> None:
    """Steps cover all bytes and offsets; what was not touched is a frame, and nothing else is."""
    data, bounds = log_of(sizes)
    broken = bytearray(data)
    for each in flips:
        broken[each % len(data)] ^= 1 + each % 255
    intact = {
        bounds[n].position
        for n in range(len(sizes))
        if data[bounds[n].position : bounds[n + 1].position]
        == broken[bounds[n].position : bounds[n + 1].position]
    }
    end = bounds[-1] if known else Bound(OFFSET_MAX, len(data))
    at = bounds[0]
    sound = set()
    for step in walk(broken, at, end, SEED):
        if step.damage is None:
            assert step.frame is not None
            sound.add(step.frame.position)
            assert at == (step.frame.base_offset, step.frame.position)
        else:
            assert at == (step.damage.first_offset, step.damage.position)
            assert step.damage.end > step.damage.position
        at = step.after()
    assert sound == intact
    if known or (len(data) == bounds[-1].position and at.offset != OFFSET_MAX):
        assert at == bounds[-1]


def test_damage_to_records_is_that_frame_alone() -> None:
    """Whatever lies in it, such as a frame that would fit."""
    data, bounds = log_of([10, 10])
    fake = frame(12, b"fake", count=1, time_ns=200)
    around = frame(10, b"before" + fake + b"after", count=2, time_ns=100)
    broken = bytearray(around + data[bounds[1].position :])
    broken[FRAME_HEADER_BYTES] ^= 1
    end = Bound(14, len(broken))
    steps = list(walk(broken, Bound(10, 0), end, SEED))
    assert [s.damage for s in steps] == [Damage(10, 12, 0, len(around)), None]


@pytest.mark.parametrize(
    "impostor",
    (
        frame(10, b"an offset that is over", count=2, time_ns=100),
        frame(14, b"a time that is over", count=1, time_ns=99),
        frame(12, b"too many records", count=50, time_ns=100),
        frame(12, b"a stranger", count=2, time_ns=100, seed=SEED ^ 1),
    ),
)
def test_what_does_not_fit_is_not_the_next_frame(impostor: bytes) -> None:
    """Neither in its place nor behind damage."""
    data, bounds = log_of([10, 30, 30, 10])
    second, third = bounds[1].position, bounds[2].position
    for prefix in (b"", b"\xff"):
        replaced = (prefix + impostor).ljust(third - second, b"\xff")[: third - second]
        broken = data[:second] + replaced + data[third:]
        steps = list(walk(broken, bounds[0], bounds[-1], SEED))
        assert [s.damage for s in steps] == [None, Damage(12, 14, second, third), None, None]


def test_an_empty_walk() -> None:
    """Has no steps."""
    assert list(walk(b"", Bound(3, 0), Bound(3, 0), SEED)) == []
    step = next(walk(b"x" * 100, Bound(3, 0), Bound(5, 100), SEED))
    assert step.moved(7).damage == Damage(3, 5, 7, 107)
    assert (step.frame, step.damage) == (None, Damage(3, 5, 0, 100))
