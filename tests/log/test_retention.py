"""Which segments go, and which stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.log.retention import Policy, SegmentFacts, choose

S = 1_000_000_000


def segments(*sizes: int) -> list[SegmentFacts]:
    """Segments of ten records each; the oldest was written last 100 s after the epoch."""
    return [SegmentFacts(10 * n, 10 * n + 10, size, (100 + n) * S) for n, size in enumerate(sizes)]


def removed(policy: Policy, *sizes: int, now_s: int = 103) -> list[int]:
    """The base offsets that go."""
    return [r.segment.base_offset for r in choose(segments(*sizes), policy, now_s * S)]


def test_without_limits_nothing_goes() -> None:
    """However old and large."""
    assert removed(Policy(), 1, 1, 1, now_s=10**9) == []
    assert not Policy().limited


def test_bytes_keep_at_least_the_limit_and_at_most_one_segment_more() -> None:
    """A segment goes only if what is left still has the limit's bytes."""
    assert removed(Policy(retention_bytes=20), 10, 10, 10) == [0]
    assert removed(Policy(retention_bytes=21), 10, 10, 10) == []
    assert removed(Policy(retention_bytes=1), 10, 10, 10) == [0, 10]


def test_the_active_segment_stays() -> None:
    """Whatever the limits say."""
    assert removed(Policy(retention_ms=1), 10, now_s=10**6) == []


def test_age_counts_from_a_segment_s_last_record() -> None:
    """One millisecond more than the limit, not at the limit."""
    policy = Policy(retention_ms=3000)
    assert removed(policy, 1, 1, 1, now_s=103) == []
    assert removed(policy, 1, 1, 1, now_s=104) == [0]
    assert removed(policy, 1, 1, 1, now_s=105) == [0, 10]


def test_a_clock_gone_back_removes_nothing() -> None:
    """Records from the future are not old."""
    assert removed(Policy(retention_ms=1), 1, 1, 1, now_s=0) == []


def test_records_are_counted() -> None:
    """Ten a segment."""
    assert removed(Policy(retention_records=20), 1, 1, 1) == [0]
    assert removed(Policy(retention_records=21), 1, 1, 1) == []


def test_what_a_group_has_not_acknowledged_is_held() -> None:
    """Up to the segment that holds the first such offset, whatever the age."""
    policy = Policy(retention_ms=1, held_from=10)
    assert removed(policy, 1, 1, 1, now_s=10**6) == [0]
    assert removed(Policy(retention_ms=1, held_from=9), 1, 1, 1, now_s=10**6) == []


def test_the_cap_on_held_bytes_wins() -> None:
    """More than it is not kept for anyone."""
    policy = Policy(held_from=0, held_bytes_max=15)
    assert removed(policy, 10, 10, 10) == [0]
    assert policy.limited


@pytest.mark.parametrize("field", ("retention_ms", "retention_bytes", "retention_records"))
def test_each_removal_says_why(field: str) -> None:
    """For the dry run and the log."""
    (first, *_) = choose(segments(5, 5, 5), Policy(**{field: 1}), 10**6 * S)
    assert field in first.reason


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=20),
    st.integers(0, 300),
    st.integers(0, 250),
    st.integers(0, 30_000),
)
def test_what_stays_is_one_run_within_the_limits(
    sizes: list[int], limit_bytes: int, limit_records: int, limit_ms: int
) -> None:
    """A prefix goes, the last stays, and no further segment could go."""
    facts = segments(*sizes)
    policy = Policy(limit_ms, limit_bytes, limit_records)
    gone = [removal.segment for removal in choose(facts, policy, 120 * S)]
    assert gone == facts[: len(gone)]
    rest = facts[len(gone) :]
    assert rest
    if limit_bytes and len(rest) > 1:
        assert sum(s.size_bytes for s in rest[1:]) < limit_bytes
    assert choose(rest, policy, 120 * S) == []
