"""The sparse index against a plain list."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mq.log.format import INDEX_INTERVAL_BYTES
from mq.log.index import SparseIndex

Entry = tuple[int, int, int]
# Too large for a float64 to tell neighbours apart.
HUGE = (1 << 63) + 1

frames = st.lists(
    st.tuples(st.integers(1, 5), st.integers(100, 9000), st.integers(0, 3)), max_size=80
)


def build(steps: list[tuple[int, int, int]]) -> tuple[SparseIndex, list[Entry]]:
    """An index of frames, and the entries it is to have."""
    index = SparseIndex()
    offset, position, time_ns = HUGE, 128, HUGE
    expected: list[Entry] = []
    for records, size, later in steps:
        time_ns += later
        index.add(offset, position, time_ns)
        if not expected or position - expected[-1][1] >= INDEX_INTERVAL_BYTES:
            expected.append((offset, position, time_ns))
        offset, position = offset + records, position + size
    return index, expected


@given(frames, st.integers(-2, 300), st.integers(-200, 400_000), st.integers(-2, 200))
def test_searches(
    steps: list[tuple[int, int, int]], offset: int, position: int, time_ns: int
) -> None:
    """Each finds the last entry that is not past what is looked for."""
    index, expected = build(steps)
    assert index.entries() == expected
    assert index.count == len(expected) == len(index.verified)
    offset, time_ns = HUGE + offset, HUGE + time_ns
    position = max(0, position)
    assert index.floor_offset(offset) == sum(e[0] <= offset for e in expected) - 1
    assert index.floor_position(position) == sum(e[1] <= position for e in expected) - 1
    assert index.before_time(time_ns) == sum(e[2] < time_ns for e in expected) - 1
    for entry, (base, at, when) in enumerate(expected):
        assert index.base_offset(entry) == base
        assert index.position(entry) == at
        assert index.append_time_ns(entry) == when


@given(frames)
def test_the_file_holds_all_of_it(steps: list[tuple[int, int, int]]) -> None:
    """It is read back, unverified, for its own segment alone."""
    index, expected = build(steps)
    raw = index.encode(b"i" * 16)
    decoded = SparseIndex.decode(raw, b"i" * 16)
    assert decoded is not None
    assert decoded.entries() == expected
    assert not any(decoded.verified)
    assert SparseIndex.decode(raw, b"j" * 16) is None


@given(frames, st.integers(0, 300_000))
def test_a_shortened_index_grows_again(steps: list[tuple[int, int, int]], cut: int) -> None:
    """Nothing in it counts as verified, and the original is as it was."""
    index, expected = build(steps)
    cut = max(1, cut)
    short = index.truncated(cut)
    kept = [e for e in expected if e[1] < cut]
    assert short.entries() == kept
    assert not any(short.verified)
    short.add(HUGE * 2 - 5, 1 << 40, HUGE * 2 - 5)
    assert short.entries() == [*kept, (HUGE * 2 - 5, 1 << 40, HUGE * 2 - 5)]
    assert index.entries() == expected


def test_a_reader_may_search_while_it_grows() -> None:
    """An entry that a reader has once seen stays where it is."""
    index = SparseIndex()
    source = random.Random(3)
    position, seen = 0, []
    for offset in range(500):
        index.add(offset, position, offset)
        seen.append(position)
        position += INDEX_INTERVAL_BYTES + source.randrange(100)
        assert [index.position(n) for n in range(index.count)] == seen
