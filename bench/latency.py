"""Latency distributions as HDR histograms: mergeable, and small in a result file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 100 ns to two minutes at three digits.
_UNIT_NS = 100
_HIGHEST = 120 * 1_000_000_000 // _UNIT_NS
_DIGITS = 3
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


def histogram(latencies_ns: NDArray[np.int64]) -> str:
    """An encoded histogram of latencies, as text for a result file."""
    result = _empty()
    values, counts = np.unique(latencies_ns // _UNIT_NS, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        result.record_value(min(max(value, 1), _HIGHEST), count)
    return str(result.encode().decode("ascii"))


def merged(encoded: Iterable[str]) -> str:
    """One histogram of all."""
    result = _empty()
    for text in encoded:
        result.decode_and_add(text)
    return str(result.encode().decode("ascii"))


def quantiles_us(encoded: str) -> dict[str, float]:
    """Quantiles in microseconds, by name: ``p50`` … ``p99.9``, ``max``."""
    decoded = _hdr().decode(encoded)
    return {
        _name(quantile): decoded.get_value_at_percentile(quantile * 100) * _UNIT_NS / 1e3
        for quantile in QUANTILES
    }


def curve(encoded: str) -> tuple[list[float], list[float]]:
    """Points of the distribution: percentiles, and latencies in milliseconds."""
    decoded = _hdr().decode(encoded)
    percentiles = [100 * (1 - 10 ** (-step / 20)) for step in range(81)]
    values = [decoded.get_value_at_percentile(p) * _UNIT_NS / 1e6 for p in percentiles]
    return percentiles, values


def _name(quantile: float) -> str:
    return "max" if quantile == 1.0 else f"p{quantile * 100:g}"


def _hdr() -> Any:
    # Imported late: tables can be printed, and most of the bench run, without it.
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415

    return HdrHistogram


def _empty() -> Any:
    return _hdr()(1, _HIGHEST, _DIGITS)
