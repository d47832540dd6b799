"""The tables of the section about groups."""

from __future__ import annotations

from bench.groups_tables import tables
from bench.tables import markdown


def test_a_rate_stands_under_its_broker_whoever_was_first() -> None:
    """Rounds begin with another broker each, and their results are in that order."""
    rate = {"nats": 10.0, "mq": 200.0}
    by_broker = {name: [{"messages_per_s": value}] for name, value in rate.items()}
    memory = {"anonymous": 1_000_000, "rss": 2_000_000}
    in_flight = {
        "in_flight": 1_000,
        "scattered": True,
        "memory_before": memory,
        "memory": memory,
        "serving_s": 1.0,
        "recovery_s": 0.5,
    }
    result = {
        "settings": {"mq": "", "nats": ""},
        "batches": {"500": by_broker},
        "consumers": {"8": by_broker},
        "in_flight": [in_flight],
    }
    batches, consumers, outstanding = map(markdown, tables(result))
    assert "| 500 | 200/s ±0% | 10/s ±0% | 20.0x |" in batches
    assert "| 8 | 200/s" in consumers
    assert "| 1,000, no two together | 1 MB | 1 MB | 2 MB | 1.00 s | 0.50 s |" in outstanding
