"""The table of targets: met, not met, not measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench import targets
from bench.targets import si


def _run(**workloads: dict[str, list[float]]) -> dict[str, Any]:
    results = {
        workload: {
            broker: [{"messages_per_s": value, "p50_us": value} for value in values]
            for broker, values in brokers.items()
        }
        for workload, brokers in workloads.items()
    }
    return {"profile": "all", "peers": {"synced": {"results": results}}}


def _find(run: dict[str, Any], start: str) -> targets.Row:
    (row,) = (row for row in targets.rows(run) if row.what.startswith(start))
    return row


def test_an_empty_run_has_every_row_and_meets_nothing() -> None:
    """What was not measured is said to be so, never met or missed."""
    found = targets.rows({"profile": "quick"})
    assert len(found) == 14
    assert {row.met for row in found} == {None}


def test_best_of_each_side_is_compared() -> None:
    """Each broker is taken at the workload that it is fastest at."""
    run = _run(batch={"mq": [10.0], "redis": [100.0]}, batch_x4={"mq": [900.0], "redis": [50.0]})
    row = _find(run, "batched publish")
    assert row.ratio == "9.00x"
    assert row.met is False
    run["peers"]["synced"]["results"]["batch_x4"]["mq"] = [{"messages_per_s": 1_000.0}]
    assert _find(run, "batched publish").met is True


def test_the_median_of_the_rounds_decides() -> None:
    """One lucky round does not meet a target."""
    run = _run(group_ack={"mq": [90.0, 95.0, 1_000.0], "nats": [10.0, 10.0, 10.0]})
    assert _find(run, "group fetch").met is False


def test_a_latency_is_met_by_the_smaller() -> None:
    """A time that may not be slower compares the other way round than a rate."""
    assert _find(_run(one={"mq": [300.0], "nats": [400.0]}), "one publish").met is True
    assert _find(_run(one={"mq": [500.0], "nats": [400.0]}), "one publish").met is False


def test_a_missing_peer_is_no_win() -> None:
    """Without the other's figure there is no verdict."""
    row = _find(_run(in_flight_64={"mq": [5.0]}), "publish, 64")
    assert row.met is None
    assert "nats" in row.peer


@pytest.mark.parametrize(("p99_us", "met"), ((2_900.0, True), (3_100.0, False)))
def test_end_to_end_at_its_rate(p99_us: float, met: bool) -> None:
    """The p99 at 1,000 a second is looked at, not that of another rate."""
    run = {
        "profile": "all",
        "end_to_end": {
            "rates": [
                {"rate_per_s": 100, "receipt": {"p99": 9e9}},
                {"rate_per_s": 1_000, "receipt": {"p99": p99_us}},
            ]
        },
    }
    assert _find(run, "publish to a waiting pull").met is met


def _store(size: int, serving_s: float, rss: int) -> dict[str, Any]:
    return {"bytes": size, "serving_s": serving_s, "opened_memory": {"rss": rss}}


def test_recovery_compares_the_smallest_store_with_the_largest() -> None:
    """The empty store is not the baseline; both the ratio and the limit have to hold."""
    stores = [_store(0, 0.1, 1), _store(10**7, 0.5, 100), _store(10**10, 0.6, 110)]
    run = {"profile": "all", "recovery": {"stores": stores}}
    assert _find(run, "start to first answer").met is True
    assert _find(run, "memory once opened").met is True
    stores[2] = _store(10**10, 1.1, 130)
    stores[1] = _store(10**7, 1.0, 100)
    assert _find(run, "start to first answer").met is False
    assert _find(run, "memory once opened").met is False


def test_the_dearer_of_two_costs_decides() -> None:
    """Batches that cost the same don't hide single publishes that cost more."""
    stored = [
        {"messages": 1_000, "batch_messages_per_s": [100.0], "one_p50_us": [100.0]},
        {"messages": 10**7, "batch_messages_per_s": [100.0], "one_p50_us": [120.0]},
    ]
    assert _find({"profile": "all", "scale": {"stored": stored}}, "publish cost").met is False


def test_a_replay_that_was_not_cold_proves_nothing() -> None:
    """Neither met nor missed when the files were in memory."""
    result = {"alone": {"p99_us": [1.0]}, "cold": {"p99_us": [1.5]}, "was_cold": False}
    run = {"profile": "all", "cold_replay": result}
    assert _find(run, "publish p99 beside").met is None
    result["was_cold"] = True
    assert _find(run, "publish p99 beside").met is True


@pytest.mark.parametrize(
    ("value", "text"),
    ((0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (586_000, "586 k"), (1_312_000, "1.31 M")),
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Three digits are enough to compare by."""
    assert si(value) == text
