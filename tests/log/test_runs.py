"""Runs: sound frames taken together are what a walk finds one by one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mq.log.format import ATTRIBUTE_LOST, FRAME_DTYPE, FRAME_HEADER_BYTES, FRAME_STRUCT
from mq.log.frames import FRAME_TAGS, FRAME_TAGS_AT, encode_header, segment_seed
from mq.log.index import SparseIndex
from mq.log.runs import Run, find_run
from mq.log.walk import OFFSET_MAX, Bound, Step, walk

SEED = segment_seed(b"segment 12345678")
START = Bound(10, 0)
EARLIER_NS = 50
FRAMES = 5


def frame(base_offset: int, size: int, **fields: Any) -> bytes:
    """A frame of two records; ``fields`` are those of its header, sound or not."""
    records = random.Random(base_offset).randbytes(size)
    made: dict[str, Any] = {
        "record_count": 2,
        "append_time_ns": 100 + base_offset // 4,
        "records_crc": crc32c(records),
        **fields,
    }
    seed = made.pop("seed", SEED)
    at = made.pop("stated_offset", base_offset)
    return encode_header(seed, size, at, **made) + records


def log_of(sizes: list[int]) -> tuple[bytes, Bound]:
    """Frames that follow each other, and where they end."""
    data = b"".join(frame(10 + 2 * number, size) for number, size in enumerate(sizes))
    return data, Bound(10 + 2 * len(sizes), len(data))


def steps_of(data: bytes, end: Bound) -> list[Step]:
    """What a walk finds."""
    return list(walk(data, START, end, SEED, EARLIER_NS))


def run_of(data: bytes, end: Bound) -> Run | None:
    """The run, which is the beginning of the walk; with nothing of it before its time."""
    run = find_run(data, START, end, SEED, EARLIER_NS)
    if run is not None:
        found = list(run.steps())
        assert found == steps_of(data, end)[: len(found)]
        assert run.after() == found[-1].after()
        last = found[-1].frame
        assert last is not None
        assert run.last_append_time_ns == last.append_time_ns
    return run


def length(run: Run | None) -> int:
    """How many frames."""
    return 0 if run is None else len(run.positions)


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=12),
    flips=st.lists(st.integers(0, 1 << 20), max_size=3),
    known=st.booleans(),
    cut=st.integers(0, 400),
)
def test_a_run_goes_as_far_as_a_walk_finds_sound_frames(
    sizes: list[int], flips: list[int], known: bool, cut: int
) -> None:
    """Not a frame more, whatever is damaged, and not one less."""
    data, end = log_of(sizes)
    broken = bytearray(data)
    for each in flips:
        broken[each % len(data)] ^= 1 + each % 255
    held = bytes(broken)[: max(0, len(data) - cut)]
    limit = Bound(end.offset if known else OFFSET_MAX, len(held))
    sound = 0
    for step in steps_of(held, limit):
        if step.damage is not None:
            break
        sound += 1
    assert length(run_of(held, limit)) == sound


ODD: dict[str, dict[str, Any]] = {
    "a gap": {"stated_offset": 17},
    "an offset again": {"stated_offset": 14},
    "an earlier time": {"append_time_ns": 49},
    "another segment's": {"seed": SEED + 1},
    "other records": {"records_crc": 1},
    "marks lost records": {"attributes": ATTRIBUTE_LOST, "record_count": 0, "last_offset_delta": 1},
    "more records than offsets": {"record_count": 3, "last_offset_delta": 1},
    "durable before it was written": {"durable_through": 17},
}


@pytest.mark.parametrize("name", tuple(ODD))
@pytest.mark.parametrize("at", (0, 3, FRAMES - 1))
def test_a_run_ends_before_anything_odd(name: str, at: int) -> None:
    """That is for whoever walks to judge; compaction's fewer records are nothing odd."""
    frames = [frame(10 + 2 * number, 30) for number in range(FRAMES)]
    odd = dict(ODD[name])
    for field in ("stated_offset", "durable_through"):
        if field in odd:
            odd[field] += 2 * (at - 3)
    frames[at] = frame(10 + 2 * at, 30, **odd)
    data = b"".join(frames)
    assert length(run_of(data, Bound(OFFSET_MAX, len(data)))) == at
    frames[at] = frame(10 + 2 * at, 30, record_count=1, last_offset_delta=1)
    data = b"".join(frames)
    assert length(run_of(data, Bound(OFFSET_MAX, len(data)))) == FRAMES


def test_limits() -> None:
    """Of offsets and of bytes: a frame that goes beyond is not of the run."""
    data, end = log_of([30] * FRAMES)
    assert length(run_of(data, end)) == FRAMES
    assert length(run_of(data, Bound(end.offset - 1, end.position))) == FRAMES - 1
    assert length(run_of(data, Bound(end.offset, end.position - 1))) == FRAMES - 1
    assert length(run_of(data[:-1], end)) == FRAMES - 1
    assert run_of(b"", end) is None
    assert run_of(data[: FRAME_HEADER_BYTES - 1], end) is None
    assert find_run(data, START, end, SEED, 1 << 63) is None


def test_an_offset_too_large_for_sums_is_left_to_the_walk() -> None:
    """It is sound all the same."""
    base = (1 << 64) - 3
    data, end = (
        frame(base, 10, append_time_ns=EARLIER_NS),
        Bound(OFFSET_MAX, FRAME_HEADER_BYTES + 10),
    )
    assert [step.damage for step in walk(data, Bound(base, 0), end, SEED)] == [None]
    assert find_run(data, Bound(base, 0), end, SEED) is None


def test_a_run_can_be_moved() -> None:
    """All its positions are; its offsets are not."""
    run = run_of(*log_of([3, 40, 500]))
    assert run is not None
    moved = list(run.moved(1000).steps())
    assert moved == [step.moved(1000) for step in run.steps()]
    assert run.moved(1000).after() == (run.after().offset, run.after().position + 1000)


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=40), known=st.integers(0, 9000))
def test_an_index_takes_a_run_as_it_takes_its_frames(sizes: list[int], known: int) -> None:
    """The same frames have an entry, whatever the index knew before."""
    run = run_of(*log_of(sizes))
    assert run is not None
    one, other = SparseIndex(), SparseIndex()
    moved = run.moved(10_000)
    for index in (one, other):
        if known:
            index.add(0, known, 1)
    for step in moved.steps():
        assert step.frame is not None
        one.add(step.frame.base_offset, step.frame.position, step.frame.append_time_ns)
    other.add_run(moved)
    assert one.entries() == other.entries()
    assert one.verified == other.verified


def test_the_constants_fit_the_layout() -> None:
    """A tag stands before each field, where struct and dtype say."""
    fields = FRAME_STRUCT.unpack(frame(10, 0))
    assert tuple(fields[::2]) == FRAME_TAGS
    assert tuple(frame(10, 0)[at] for at in FRAME_TAGS_AT) == FRAME_TAGS
    assert FRAME_DTYPE.fields is not None
    offsets = sorted(at for _, at, *_ in FRAME_DTYPE.fields.values())
    assert offsets == [at + 1 for at in FRAME_TAGS_AT[1:-1]]
    assert np.dtype(FRAME_DTYPE).itemsize == FRAME_HEADER_BYTES
