"""Medians, spread, ratios, the order of rounds, and histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.rounds import Turn, interleaved
from bench.stats import Spread, ratio, spread


def test_spread_of_rounds() -> None:
    """The median, the extremes and how many there were."""
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert spread([3.0, 1.0, 2.0]).relative == 0.5


def test_spread_leaves_out_what_is_no_number() -> None:
    """A round that timed nothing doesn't spoil the others."""
    assert spread([math.nan, 4.0]) == Spread(4.0, 4.0, 4.0, 1)
    with pytest.raises(ValueError, match="no round"):
        spread([math.nan])


def test_a_spread_of_zeros_is_no_division_by_zero() -> None:
    """The relative spread of nothing is nothing."""
    assert spread([0.0, 0.0]).relative == 0


def test_ratio_is_of_medians_and_its_range_the_widest() -> None:
    """The worst against the best, and the best against the worst."""
    compared = ratio(Spread(10, 8, 12, 5), Spread(2, 1, 4, 3))
    assert compared == Spread(5, 2, 12, 3)
    with pytest.raises(ValueError, match="zero"):
        ratio(Spread(1, 1, 1, 1), Spread(0, 0, 0, 1))


def test_rounds_are_interleaved_and_begin_with_another_each() -> None:
    """A B, then B A: the contenders of a workload in a row, each once a round."""
    assert list(interleaved(["w"], ["a", "b"], 2)) == [
        Turn("w", "a", 0), Turn("w", "b", 0), Turn("w", "b", 1), Turn("w", "a", 1),
    ]  # fmt: skip


def test_every_pair_has_every_round() -> None:
    """Nothing is left out, whatever the order."""
    turns = list(interleaved(["v", "w"], ["a", "b", "c"], 4))
    assert len(turns) == len(set(turns)) == 2 * 3 * 4


def test_no_contenders_no_turns() -> None:
    """Nothing to compare is not an error."""
    assert list(interleaved(["w"], [], 3)) == []


def test_histograms_keep_quantiles_and_merge() -> None:
    """A merged histogram has the quantiles of all its values, to three digits."""
    pytest.importorskip("hdrh.histogram", reason="hdrhistogram is in the bench extra")
    from bench import latency

    low = latency.histogram(np.arange(1, 1001, dtype=np.int64) * 1_000)
    high = latency.histogram(np.full(1_000, 50_000_000, np.int64))
    assert latency.quantiles_us(low)["p50"] == pytest.approx(500, rel=0.01)
    merged = latency.quantiles_us(latency.merged([low, high]))
    assert merged["p50"] == pytest.approx(1_000, rel=0.01)
    assert merged["max"] == pytest.approx(50_000, rel=0.01)


def test_a_distribution_curve_never_goes_down() -> None:
    """Percentiles and their values rise together."""
    pytest.importorskip("hdrh.histogram", reason="hdrhistogram is in the bench extra")
    from bench import latency

    rng = np.random.default_rng(1)
    percentiles, values = latency.curve(latency.histogram(rng.integers(1_000, 10**9, 5_000)))
    assert percentiles == sorted(percentiles)
    assert values == sorted(values)


def test_latencies_out_of_range_are_clamped() -> None:
    """Too short or too long a time is recorded as the nearest that can be."""
    pytest.importorskip("hdrh.histogram", reason="hdrhistogram is in the bench extra")
    from bench import latency

    quantiles = latency.quantiles_us(latency.histogram(np.asarray([0, 10**15], np.int64)))
    assert quantiles["p50"] == pytest.approx(0.1)
    assert quantiles["max"] == pytest.approx(120e6, rel=0.01)
