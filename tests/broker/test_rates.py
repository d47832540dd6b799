"""Rates over the last minute."""

from __future__ import annotations

import pytest

from mq.broker.rates import WINDOW_S, Rate


def test_a_rate_is_the_last_minute_s_mean() -> None:
    """60 records over a minute are one a second."""
    rate = Rate()
    for second in range(WINDOW_S):
        rate.add(1000.0 + second, 2, 200)
    assert rate.per_second(1000.0 + WINDOW_S - 1) == (2.0, 200.0)


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    """Counts leave the window second by second, and all at once after a pause."""
    rate = Rate()
    rate.add(5.0, WINDOW_S, WINDOW_S)
    assert rate.per_second(5.0 + WINDOW_S - 1) == (1.0, 1.0)
    assert rate.per_second(5.0 + WINDOW_S) == (0.0, 0.0)
    rate.add(1e6, WINDOW_S, 0)
    assert rate.per_second(1e6) == (1.0, 0.0)


@pytest.mark.parametrize("now_s", [0.0, 59.9, 1e9])
def test_an_idle_channel_has_no_rate(now_s: float) -> None:
    """Nothing was published, whenever one asks."""
    assert Rate().per_second(now_s) == (0.0, 0.0)
