"""Medians and spread over the rounds of a measurement."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the lowest and the highest of them."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def relative(self) -> float:
        """Half the range, as a fraction of the median: 0.05 is "within 5 %"."""
        if not self.median:
            return 0.0
        return (self.high - self.low) / 2 / abs(self.median)


def spread(values: Iterable[float]) -> Spread:
    """Summarizes one figure over its rounds, leaving out those that are not numbers.

    Raises:
        ValueError: None of them is a number.
    """
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        raise ValueError("no round gave a figure")
    return Spread(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def ratio(ours: Spread, theirs: Spread) -> Spread:
    """``ours / theirs``: of the medians, and of the extremes that are furthest apart.

    Raises:
        ValueError: The other's figure is zero.
    """
    if not theirs.low or not theirs.median:
        raise ValueError("can't compare with a figure of zero")
    return Spread(
        ours.median / theirs.median,
        ours.low / theirs.high,
        ours.high / theirs.low,
        min(ours.rounds, theirs.rounds),
    )
