"""The open-loop schedule: what is due when, and that nothing late is left out."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.pacing import Schedule, ticks


def test_due_times_are_evenly_spaced() -> None:
    """Message i is due i periods after the first."""
    schedule = Schedule(1_000, 3, start_ns=5)
    assert [schedule.due_ns(index) for index in range(3)] == [5, 1_000_005, 2_000_005]


def test_nothing_is_due_before_the_start() -> None:
    """The first message is due at the start, not earlier."""
    schedule = Schedule(10, 2, start_ns=1_000)
    assert schedule.take(999) == range(0)
    assert schedule.take(1_000) == range(1)


def test_a_stall_makes_all_that_was_missed_due_at_once() -> None:
    """After a pause every message of the pause is taken, with its own due time."""
    schedule = Schedule(1_000, 100, start_ns=0)
    assert schedule.take(0) == range(1)
    late = schedule.take(50_000_000)
    assert late == range(1, 51)
    assert schedule.due_ns(late[0]) == 1_000_000


def test_finishes_after_the_last() -> None:
    """No more than the count is ever due."""
    schedule = Schedule(1_000, 5, start_ns=0)
    assert schedule.take(10**12) == range(5)
    assert schedule.finished
    assert schedule.take(10**13) == range(5, 5)


@pytest.mark.parametrize(("rate", "count"), ((0, 1), (-1, 1), (1, 0)))
def test_rate_and_count_are_above_zero(rate: float, count: int) -> None:
    """A schedule that could never end or begin is refused."""
    with pytest.raises(ValueError, match="above zero"):
        Schedule(rate, count, 0)


@given(
    rate=st.floats(0.01, 1e7),
    start=st.integers(0, 10**15),
    steps=st.lists(st.integers(0, 10**9), max_size=50),
)
def test_taken_exactly_when_due(rate: float, start: int, steps: list[int]) -> None:
    """However the clock is looked at: all that is due is taken, once, and nothing else."""
    schedule = Schedule(rate, 100, start)
    now, expected_next = start - 10**6, 0
    for step in steps:
        now += step
        taken = schedule.take(now)
        assert taken.start == expected_next
        expected_next = taken.stop
        assert all(schedule.due_ns(index) <= now for index in taken)
        assert schedule.finished or schedule.next_due_ns > now


async def test_ticks_yield_every_message_and_none_early() -> None:
    """The clock-driven shell gives all indices in order, none before it is due."""
    schedule = Schedule(5_000, 50, time.monotonic_ns())
    seen: list[int] = []
    async with asyncio.timeout(30):
        async for due in ticks(schedule):
            now = time.monotonic_ns()
            assert all(schedule.due_ns(index) <= now for index in due)
            seen += due
    assert seen == list(range(50))
