"""A small group ledger, and what its audit makes of ledgers that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.group_ledger import Plan, run
from tests.acceptance.group_ledger_audit import (
    AFTER_ACK,
    CONSUMER_KILLED,
    LEASE_EXPIRED,
    SERVER_KILLED,
    UNEXPLAINED,
    audit,
)


@pytest.mark.timeout(120)
def test_every_message_is_processed_and_every_duplicate_explained(tmp_path: Path) -> None:
    """Three consumers and the server are killed at random; poison dies once, and comes back."""
    plan = Plan(
        messages=3_000,
        consumers=3,
        poison=20,
        seed=5,
        consumer_kill_s=0.5,
        server_kill_s=1.0,
        lease_ms=1_000,
        consumer_kills_min=2,
        server_kills_min=1,
    )
    report = run(plan, tmp_path)
    assert report.sound, report
    assert report.processed == plan.messages
    assert report.server_kills
    assert report.consumer_kills


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (["P 0 1 10 20 9", "A 0 30"], "P 0 1 40 50 9", AFTER_ACK),
        (["P 0 1 10 20 9"], "P 0 1 40 50 9", UNEXPLAINED),
        (["P 0 1 10 20 9"], "P 0 2 40 50 9", LEASE_EXPIRED),
        (["P 0 1 10 20 9", "L 0 60"], "P 0 1 40 50 9", LEASE_EXPIRED),
        (["P 0 1 110 120 9"], "P 0 1 140 150 9", CONSUMER_KILLED),
        (["P 0 1 210 220 9", "A 0 240"], "P 0 1 235 238 9", SERVER_KILLED),
    ],
)
def test_a_duplicate_has_one_reason_or_is_a_failure(
    first: list[str], second: str, reason: str
) -> None:
    """By what was killed meanwhile, and by what the consumer was told."""
    killed = {"a": 130} if reason == CONSUMER_KILLED else {}
    found = audit({"a": first, "b": [second]}, [9], killed, [230])
    assert found.duplicates == {reason: 1}


def test_other_contents_are_told() -> None:
    """Of an offset that was published, and of one that was not."""
    assert audit({"a": ["P 0 1 1 2 8", "P 1 1 1 2 9"]}, [9], {}, []).corrupt == {0, 1}
