"""What the device takes by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import device
from bench.targets import rows


def test_each_append_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the rate and the time make, in a file that does not grow."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    found = device.paced_syncs(tmp_path, 1_000, 0.02)
    assert len(synced) == 20
    assert found["rate_per_s"] == 1_000
    assert set(found["done"]) == set(found["sync"]) == {"p50", "p90", "p99", "p99.9", "max"}
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [16 << 20]


def test_it_stands_beside_the_target() -> None:
    """As what explains it; the verdict is the broker's own figure."""
    run = {
        "end_to_end": {
            "rates": [{"rate_per_s": 1_000, "receipt": {"p99": 4_000.0}}],
            "device": [{"rate_per_s": 1_000, "done": {"p99": 5_000.0}}],
        }
    }
    (row,) = (row for row in rows(run) if row.what.startswith("publish to a waiting pull"))
    assert row.peer == "append and sync alone: 5.00 ms"
    assert row.met is False
