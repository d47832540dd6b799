"""The map of ranges, against a dictionary."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.broker.groups import ranges
from mq.broker.groups.ranges import OFFSET_MAX, Range, RangeMap, append_range, merged
from mq.errors import InvalidArgument

SPAN = 60
offsets = st.integers(0, SPAN)
changes = st.lists(st.tuples(offsets, st.integers(1, SPAN), st.integers(0, 3)), max_size=60)


@pytest.fixture(params=(512, 8), ids=("large-chunks", "small-chunks"))
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_CHUNK_MAX", request.param)
    monkeypatch.setattr(ranges, "_CHUNK_MIN", 2 if request.param == 8 else 32)
    monkeypatch.setattr(ranges, "_CHUNK_LOADED", request.param - 2)


def built(steps: list[tuple[int, int, int]]) -> tuple[RangeMap, dict[int, int]]:
    """The map after these changes, and what it stands for."""
    found, model = RangeMap(), dict.fromkeys(range(3 * SPAN), 0)
    for first, size, value in steps:
        found.set(first, first + size, value)
        model.update(dict.fromkeys(range(first, first + size), value))
    return found, model


def check(found: RangeMap, model: dict[int, int]) -> None:
    """Every question has the model's answer."""
    assert {o: found.get(o) for o in model} == model
    runs = found.runs(0, len(model))
    assert {o: v for first, following, v in runs for o in range(first, following)} == model
    assert all(left[2] != right[2] for left, right in pairwise(runs))
    assert bool(found) == any(model.values())
    starts, values = found.columns()
    assert len(starts) == len(found)
    assert list(zip(starts, values, strict=True)) == [
        (o, model[o]) for o in model if model[o] != (model[o - 1] if o else 0)
    ]


@pytest.mark.usefixtures("_chunks")
@given(changes)
def test_it_is_a_map_of_every_offset(steps: list[tuple[int, int, int]]) -> None:
    """After any changes it tells each value, as few runs as can be."""
    check(*built(steps))


@pytest.mark.usefixtures("_chunks")
@given(changes)
def test_columns_make_the_same_map_again(steps: list[tuple[int, int, int]]) -> None:
    """Whatever the chunks were, and it can be changed on."""
    found, model = built(steps)
    again = RangeMap.from_columns(*found.columns())
    check(again, model)
    again.set(3, 50, 9)
    check(again, {o: 9 if 3 <= o < 50 else v for o, v in model.items()})


def test_columns_with_equal_neighbours_are_merged() -> None:
    """What was computed need not be canonical."""
    found = RangeMap.from_columns(np.array([2, 4, 6, 9]), np.array([1, 1, 0, 0]))
    assert found.runs(0, 10) == [(0, 2, 0), (2, 6, 1), (6, 10, 0)]


@given(changes, offsets)
def test_the_next_run_is_found(steps: list[tuple[int, int, int]], offset: int) -> None:
    """The next that is set, and the next that is not, clipped to where it was asked."""
    found, model = built(steps)
    some = next((o for o in model if o >= offset and model[o]), None)
    got = found.next_set(offset)
    assert (got and got[0]) == some
    if got is not None:
        first, following, value = got
        assert {model[o] for o in range(first, following)} == {value}
        assert model[following] != value
    none = next(o for o in model if o >= offset and not model[o])
    end = next((o for o in model if o > none and model[o]), None)
    assert found.next_unset(offset) == (none, end)
    assert [run for run in found.runs(0, 99) if run[2]] == found.set_runs(0, 99)


@given(changes, offsets, st.integers(1, SPAN))
def test_runs_of_a_part_are_clipped(
    steps: list[tuple[int, int, int]], first: int, size: int
) -> None:
    """They cover just what was asked for."""
    found, model = built(steps)
    runs = found.runs(first, first + size)
    assert runs[0][0] == first
    assert runs[-1][1] == first + size
    assert [v for f, n, v in runs for _ in range(f, n)] == [
        model[o] for o in range(first, first + size)
    ]
    assert found.run_at(first)[2] == model[first]


def test_many_runs_stay_in_order() -> None:
    """Thousands of runs, in and out at random places, over many chunks."""
    order = random.Random(5)
    found, model = RangeMap(), dict.fromkeys(range(20_000), 0)
    for _ in range(15_000):
        first = order.randrange(19_000)
        size = order.choice((1, 1, 1, 2, 50))
        value = order.randrange(3)
        found.set(first, first + size, value)
        model.update(dict.fromkeys(range(first, first + size), value))
    check(found, model)
    found.set(0, 19_999, 0)
    assert len(found) == 2 * model[19_999]
    found.clear()
    assert not found


@given(st.lists(st.tuples(offsets, st.integers(1, 9))))
def test_ranges_are_merged(pairs: list[tuple[int, int]]) -> None:
    """The same offsets, in order, none touching."""
    given_ranges = [(first, first + size) for first, size in pairs]
    found = merged(given_ranges)
    assert {o for r in found for o in range(*r)} == {o for r in given_ranges for o in range(*r)}
    assert all(left[1] < right[0] for left, right in pairwise(found))


@pytest.mark.parametrize("bad", ((3, 3), (4, 3), (-1, 3), (0, OFFSET_MAX + 1)))
def test_what_is_no_range_is_refused(bad: Range) -> None:
    """The answer names it."""
    with pytest.raises(InvalidArgument, match=f"{bad[0]}, {bad[1]}"):
        merged([(0, 1), bad])


def test_a_range_that_follows_is_joined() -> None:
    """Only if it does."""
    found: list[Range] = []
    for piece in ((0, 2), (2, 3), (4, 5)):
        append_range(found, *piece)
    assert found == [(0, 3), (4, 5)]
