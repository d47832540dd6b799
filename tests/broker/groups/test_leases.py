"""Handing out, acknowledging, failing: a shared group, as its consumers see it."""

from __future__ import annotations

import pytest

from mq.broker.groups import GroupConfig, Refusal
from mq.broker.groups.ranges import Range
from mq.errors import FailedPrecondition, InvalidArgument, OffsetOutOfRange
from tests.broker.groups.shell import END, LEASE_MS, Shell, refused

A, B = "ann", "bob"


def test_new_messages_are_handed_out_in_order_once() -> None:
    """Each fetch goes on where the one before it ended, whoever asks."""
    shell = Shell()
    assert shell.fetch(A, 500) == [(0, 500, 1)]
    assert shell.fetch(B, 500) == [(500, 1_000, 1)]
    assert shell.fetch(A) == []


def test_nothing_is_handed_out_that_the_shell_has_not_read() -> None:
    """The end moves with `advance`, and never back."""
    shell = Shell(end=5)
    assert shell.fetched() == [0, 1, 2, 3, 4]
    shell.advance(3)
    assert shell.group.read_offset == 5
    assert shell.fetched() == []
    shell.advance(7)
    assert shell.fetched() == [5, 6]


def test_an_acknowledged_message_is_never_handed_out_again() -> None:
    """Not after its lease, a release, or a restart of the broker."""
    shell = Shell(end=4)
    shell.fetch()
    assert refused(shell.ack((0, 4))) == [(0, 4, None)]
    shell.wait(10 * LEASE_MS)
    shell.release()
    assert shell.fetched() == []
    shell.crash()
    shell.advance(4)
    assert shell.fetched() == []
    assert shell.group.floor == 4


def test_any_part_of_a_lease_can_be_acknowledged() -> None:
    """In any order; the floor follows once it is complete from below."""
    shell = Shell()
    shell.fetch(count=10)
    shell.ack((7, 9), (2, 4))
    assert shell.group.floor == 0
    shell.ack((0, 2))
    assert shell.group.floor == 4
    shell.ack((4, 7))
    assert shell.group.floor == 9


def test_what_a_silent_consumer_had_goes_to_others_with_a_count() -> None:
    """In order of offset, ahead of new messages, and no more to the silent one."""
    shell = Shell()
    shell.fetch(A, 4)
    shell.fetch(B, 2)
    shell.ack((1, 2))
    shell.wait(LEASE_MS)
    assert shell.fetch(B, 10) == [(0, 1, 2), (2, 6, 2), (6, 11, 1)]
    assert refused(shell.ack((0, 3))) == [
        (0, 1, Refusal.OTHER),
        (1, 2, Refusal.ALREADY),
        (2, 3, Refusal.OTHER),
    ]


def test_a_lease_lasts_until_expire_ends_it() -> None:
    """An acknowledgement after the deadline is good while nobody else has the message."""
    shell = Shell()
    shell.fetch()
    shell.now_ms += 10 * LEASE_MS
    assert refused(shell.ack((0, 1))) == [(0, 1, None)]
    shell.wait(0)
    assert refused(shell.ack((1, 2))) == [(1, 2, Refusal.EXPIRED)]


def test_each_refusal_says_why_and_moves_nothing() -> None:
    """One call over everything that can be wrong; only its own part is done."""
    shell = Shell()
    shell.fetch(A, 2)
    shell.ack((0, 1))
    shell.fetch(B, 2)
    shell.fetch(A, 2)
    shell.nack((4, 5))
    before = shell.stats
    outcomes = shell.ack((0, 9))
    assert refused(outcomes) == [
        (0, 1, Refusal.ALREADY),
        (1, 2, None),
        (2, 4, Refusal.OTHER),
        (4, 5, Refusal.EXPIRED),
        (5, 6, None),
        (6, 9, Refusal.NEVER),
    ]
    assert shell.stats.acked == before.acked + 2
    assert shell.stats.in_flight == 2


def test_nothing_is_journaled_if_everything_is_refused() -> None:
    """The answer can be given at once."""
    shell = Shell()
    plan = shell.group.ack(B, [(0, 5)], shell.now_ms)
    assert not plan.events
    assert refused(plan.outcomes) == [(0, 5, Refusal.NEVER)]
    shell.settle(plan)


@pytest.mark.parametrize("ranges", ([(3, 3)], [(5, 2)], [(-1, 2)]))
def test_what_is_no_range_is_refused_whole(ranges: list[Range]) -> None:
    """Before anything is done about the others."""
    shell = Shell()
    shell.fetch()
    with pytest.raises(InvalidArgument, match="no range"):
        shell.ack((0, 1), *ranges)
    assert shell.stats.acked == 0


def test_overlapping_ranges_are_done_once() -> None:
    """The answer covers each message once."""
    shell = Shell()
    shell.fetch()
    assert refused(shell.ack((0, 3), (2, 5), (1, 2))) == [(0, 5, None)]
    assert shell.stats.acked == 5


def test_a_nacked_message_waits_as_long_as_was_asked() -> None:
    """And comes back with a count."""
    shell = Shell()
    shell.fetch(count=3)
    assert refused(shell.nack((1, 2), delay_ms=700)) == [(1, 2, None)]
    assert shell.stats.waiting == 1
    assert shell.group.next_event_ms(shell.now_ms) == shell.now_ms + 700
    shell.wait(699)
    assert shell.fetched(B, 1) == [3]
    shell.wait(1)
    assert shell.fetch(B, 1) == [(1, 2, 2)]


def test_back_off_doubles_with_each_failure() -> None:
    """Between the least and the most that is configured."""
    shell = Shell(GroupConfig(backoff_min_ms=100, backoff_max_ms=350), end=1)
    for wait_ms in (100, 200, 350, 350):
        shell.fetch()
        shell.nack((0, 1), delay_ms=None)
        assert shell.group.next_event_ms(shell.now_ms) == shell.now_ms + wait_ms
        shell.wait(wait_ms)
    assert shell.fetch() == [(0, 1, 5)]


def test_extending_moves_the_deadline() -> None:
    """Of a part only, if only that was named; it ends when it says, sooner or later."""
    shell = Shell()
    shell.fetch(A, 4)
    shell.now_ms += LEASE_MS - 1
    outcomes = shell.group.extend(A, [(0, 1), (2, 3)], shell.now_ms, LEASE_MS)
    assert refused(outcomes) == [(0, 1, None), (2, 3, None)]
    shell.wait(1)
    assert shell.fetched(B, 2) == [1, 3]
    shell.wait(LEASE_MS - 2)
    assert shell.stats.in_flight == 4
    shell.group.extend(A, [(0, 1)], shell.now_ms, 10 * LEASE_MS)
    shell.group.extend(A, [(2, 3)], shell.now_ms, 1)
    shell.wait(1)
    assert shell.fetch(B, 1) == [(2, 3, 2)]


def test_extending_what_is_lost_is_refused() -> None:
    """As an acknowledgement would be."""
    shell = Shell()
    shell.fetch(A, 2)
    shell.wait(LEASE_MS)
    shell.fetch(B, 1)
    outcomes = shell.group.extend(A, [(0, 3)], shell.now_ms, LEASE_MS)
    assert refused(outcomes) == [
        (0, 1, Refusal.OTHER),
        (1, 2, Refusal.EXPIRED),
        (2, 3, Refusal.NEVER),
    ]


def test_a_release_gives_everything_back_uncounted() -> None:
    """At once, and in order of offset; nothing has to be journaled."""
    shell = Shell()
    shell.fetch(A, 4)
    shell.ack((1, 2))
    plan = shell.group.release(A, shell.now_ms)
    assert not plan.events
    assert shell.fetch(B, 3) == [(0, 1, 1), (2, 4, 1)]
    assert refused(shell.ack((0, 1))) == [(0, 1, Refusal.OTHER)]


def test_a_part_of_a_fetch_can_be_handed_back() -> None:
    """As if it had not been fetched; what another has, or was acknowledged, stays."""
    shell = Shell()
    shell.fetch(A, 4)
    shell.ack((0, 1))
    outcomes = shell.group.hand_back(A, [(0, 3)], shell.now_ms)
    assert refused(outcomes) == [(0, 1, Refusal.ALREADY), (1, 3, None)]
    assert shell.fetch(B, 3) == [(1, 3, 1), (4, 5, 1)]


def test_what_a_later_lease_has_is_not_handed_back_by_an_earlier_one() -> None:
    """The same consumer fetched it again after its lease lapsed; not even a seek repeats ids."""
    shell = Shell()
    shell.fetch(A, 2)
    old = shell.group.last_lease_id
    shell.settle(shell.group.seek(0, END, shell.now_ms))
    shell.advance(END)
    shell.fetch(A, 2)
    late = shell.group.hand_back(A, [(0, 2)], shell.now_ms, lease_id=old)
    assert refused(late) == [(0, 2, Refusal.EXPIRED)]
    lease_id = shell.group.last_lease_id
    shell.wait(LEASE_MS)
    assert shell.fetch(A, 2) == [(0, 2, 2)]
    shell.group.hand_back(A, [(0, 2)], shell.now_ms, lease_id=lease_id)
    assert shell.fetch(B, 2) == [(2, 4, 1)]
    shell.group.hand_back(A, [(0, 1)], shell.now_ms, lease_id=shell.group.last_lease_id - 1)
    assert shell.fetch(B, 1) == [(0, 1, 2)]


def test_a_fetch_of_a_batch_is_one_range() -> None:
    """Even where its parts came back one by one."""
    shell = Shell()
    shell.fetch(count=500)
    for first in range(0, 500, 50):
        shell.nack((first, first + 50))
    assert shell.fetch(count=500) == [(0, 500, 2)]


def test_a_commit_moves_the_cursor_of_a_reader_without_leases() -> None:
    """It survives, counts as acknowledged, and a late one does not move it back."""
    shell = Shell()
    assert shell.group.committed == 0
    for offset in (300, 200):
        shell.settle(shell.group.commit(offset, END, shell.now_ms))
    assert shell.group.committed == shell.stats.acked == 300
    shell.crash()
    assert shell.group.committed == 300
    assert shell.stats.behind == 700


def test_commits_and_leases_do_not_mix() -> None:
    """A group that has leased messages refuses a commit, and so does the channel's end."""
    shell = Shell()
    with pytest.raises(OffsetOutOfRange):
        shell.group.commit(END + 1, END, shell.now_ms)
    shell.fetch()
    with pytest.raises(FailedPrecondition, match="leased"):
        shell.group.commit(5, END, shell.now_ms)
    assert shell.group.committed == 0


def test_the_numbers_are_of_messages() -> None:
    """In the group and by consumer."""
    shell = Shell(GroupConfig(max_deliveries=3))
    shell.fetch(A, 10)
    shell.fetch(B, 5)
    shell.ack((0, 2))
    shell.nack((2, 5), delay_ms=50)
    shell.nack((5, 6))
    stats = shell.stats
    assert stats.behind == END - 2
    assert stats.in_flight == 9
    assert stats.waiting == 3
    assert stats.redelivered == 4
    assert stats.acked == 2
    assert stats.oldest_offset == 2
    assert stats.consumers == ((A, 4, 2, shell.now_ms), (B, 5, 0, shell.now_ms))


def test_a_group_that_is_done_has_no_oldest_message() -> None:
    """And is nothing behind."""
    shell = Shell(end=3)
    shell.fetch()
    shell.ack((0, 3))
    assert shell.stats.oldest_offset is None
    assert shell.stats.behind == 0


def test_idle_consumers_are_forgotten() -> None:
    """A session after their last call, unless they hold something."""
    shell = Shell(GroupConfig(session_ms=5 * LEASE_MS))
    shell.fetch(A, 1)
    shell.fetch(B, 1)
    shell.ack((0, 1))
    shell.wait(3 * LEASE_MS)
    assert [c.name for c in shell.stats.consumers] == [A, B]
    shell.group.heartbeat(B, shell.now_ms)
    shell.now_ms += 3 * LEASE_MS
    shell.settle(shell.group.expire(shell.now_ms))
    assert [c.name for c in shell.stats.consumers] == [B]


@pytest.mark.parametrize(
    ("consumer", "count", "lease_ms", "named"),
    (
        ("", 1, 1, "name"),
        ("x" * 256, 1, 1, "name"),
        (A, 0, 1, "max_records"),
        (A, 1, 0, "lease_ms"),
        (A, 1, 1 << 60, "lease_ms"),
    ),
)
def test_a_fetch_out_of_its_limits_is_refused(
    consumer: str, count: int, lease_ms: int, named: str
) -> None:
    """The message names the argument; nothing is leased."""
    shell = Shell()
    with pytest.raises(InvalidArgument, match=named):
        shell.group.fetch(consumer, shell.now_ms, count, lease_ms)
    assert shell.stats.in_flight == 0


def test_a_delay_out_of_its_limits_is_refused() -> None:
    """The message stays where it is."""
    shell = Shell()
    shell.fetch()
    with pytest.raises(InvalidArgument, match="delay_ms"):
        shell.nack((0, 1), delay_ms=-1)
    assert shell.stats.in_flight == 10
