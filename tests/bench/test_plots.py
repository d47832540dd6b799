"""Plots: one file for each that a run has figures for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is in the bench extra")
pytest.importorskip("hdrh.histogram", reason="hdrhistogram is in the bench extra")

from bench import latency, plots


def test_an_empty_run_draws_nothing(tmp_path: Path) -> None:
    """No figures, no files."""
    assert plots.draw({}, tmp_path) == []


def test_every_section_has_its_plot(tmp_path: Path) -> None:
    """All five, from a run that has all sections."""
    histogram = latency.histogram(np.arange(1, 100, dtype=np.int64) * 10_000)
    rounds = [{"messages_per_s": 1e5, "histogram": histogram}]
    run: dict[str, Any] = {
        "peers": {
            "synced": {
                "results": {"one": {"mq": rounds, "redis": rounds}},
                "batch_sizes": {"1": {"mq": rounds}, "500": {"mq": rounds, "nats": rounds}},
            }
        },
        "end_to_end": {"rates": [{"rate_per_s": 100, "histogram": histogram}]},
        "scale": {
            "stored": [
                {
                    "messages": count, "one_p50_us": [100.0, 110.0], "pull_p50_us": [200.0],
                    "batch_messages_per_s": [1e6, 1.1e6],
                }
                for count in (1_000, 10_000)
            ]
        },
        "recovery": {
            "stores": [
                {"bytes": size, "serving_s": 0.4, "cold_serving_s": 0.5} for size in (0, 10, 100)
            ]
        },
    }  # fmt: skip
    drawn = plots.draw(run, tmp_path)
    assert [path.stem for path in drawn] == [
        "throughput_by_batch_size", "publish_latency", "end_to_end_latency", "cost_by_stored",
        "opening_by_stored",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
