"""The tables of the section ``groups``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from bench.new_table import new_table
from bench.stats import spread
from bench.targets import si


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """By batch size, by consumers, and what is in flight."""
    names = list(result["settings"])
    yield _rates("Group fetch + acknowledge by batch size, synced", "messages", result["batches"],
                 names)  # fmt: skip
    yield _rates("The same in 500s by number of consumers", "consumers", result["consumers"], names)
    yield _in_flight(result["in_flight"])


def _rates(title: str, first: str, results: Mapping[str, Any], names: list[str]) -> Table:
    ratios = [f"mq / {name}" for name in names if name != "mq" and "mq" in names]
    table = new_table(title, first, *names, *ratios)
    for label, by_broker in results.items():
        rates = {name: spread(one["messages_per_s"] for one in by_broker[name]) for name in names}
        cells = [f"{si(rate.median)}/s ±{rate.relative:.0%}" for rate in rates.values()]
        if "mq" in rates:
            mine = rates["mq"].median
            cells += [f"{mine / rate.median:.1f}x" for n, rate in rates.items() if n != "mq"]
        table.add_row(label, *cells)
    return table


def _in_flight(results: list[Mapping[str, Any]]) -> Table:
    table = new_table(
        "Messages in flight", "messages", "own memory before", "own memory", "with mapped files",
        "kill -9 to first delivery", "of it the group",
    )  # fmt: skip
    for one in results:
        label = f"{one['in_flight']:,}" + (", no two together" if one["scattered"] else "")
        table.add_row(
            label, _mb(one["memory_before"]["anonymous"]), _mb(one["memory"]["anonymous"]),
            _mb(one["memory"]["rss"]), f"{one['serving_s']:.2f} s", f"{one['recovery_s']:.2f} s",
        )  # fmt: skip
    return table


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
