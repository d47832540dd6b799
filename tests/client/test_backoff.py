"""Delays between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mq.client.backoff import Backoff


def test_delays_double_up_to_the_limit() -> None:
    """With no luck at all each is as long as it can be."""
    backoff = Backoff(0.1, 1.0, lambda: 1.0)
    assert [backoff.delay_s(failures) for failures in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_delays_are_bounded_and_never_nothing(failures: int, chance: float) -> None:
    """Chance shortens a delay by half at most."""
    longest = Backoff(random=lambda: 1.0).delay_s(failures)
    assert 0 < longest / 2 <= Backoff(random=lambda: chance).delay_s(failures) <= longest <= 2.0
