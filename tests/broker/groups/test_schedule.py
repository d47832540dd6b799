"""Messages that their publisher delays, or lets expire."""

from __future__ import annotations

import pytest

from mq.broker.groups import Group, GroupConfig, Mode, Refusal
from mq.broker.groups import group as group_module
from mq.broker.groups.events import Scheduled, ScheduledRun
from mq.errors import Unavailable
from tests.broker.groups.shell import LEASE_MS, START_MS, Shell, refused

A, B = "ann", "bob"


def test_a_delayed_message_is_handed_out_no_earlier() -> None:
    """The others are; when its time comes, it goes first, as its first delivery."""
    shell = Shell(end=0)
    shell.advance(4, [(1, 2, START_MS + 300, None)])
    assert shell.fetched(A, 2) == [0, 2]
    assert shell.stats.waiting == 1
    assert refused(shell.ack((1, 2))) == [(1, 2, Refusal.NEVER)]
    shell.wait(299)
    assert shell.fetched(A, 5) == [3]
    assert not shell.group.deliverable(shell.now_ms)
    shell.wait(1)
    assert shell.group.deliverable(shell.now_ms)
    assert shell.fetch(B, 1) == [(1, 2, 1)]


def test_a_delay_survives_a_restart() -> None:
    """Without the record being read again."""
    shell = Shell(end=0)
    shell.advance(2, [(0, 1, START_MS + 300, None)])
    shell.crash()
    assert shell.group.read_offset == 2
    assert shell.fetched() == [1]
    shell.wait(300)
    assert shell.fetched() == [0]


def test_nothing_is_handed_out_before_its_schedule_is_durable() -> None:
    """The end moves when it is; if it can't be written, the shell reads again."""
    shell = Shell(end=0)
    schedule = [(0, 1, START_MS + 300, None)]
    plan = shell.group.advance(2, shell.now_ms, schedule)
    advancing = [shell.group.advancing]
    assert shell.group.read_offset == 0
    assert shell.fetched() == []
    with pytest.raises(Unavailable):
        shell.group.advance(3, shell.now_ms)
    shell.abandon(plan)
    advancing.append(shell.group.advancing)
    assert advancing == [True, False]
    shell.advance(2, schedule)
    assert shell.group.read_offset == 2


def test_records_read_again_are_not_scheduled_again() -> None:
    """What the group knows already has no effect, whatever state it is in by now."""
    shell = Shell(end=0)
    schedule = [(0, 1, START_MS + 300, None), (2, 3, START_MS + 300, None)]
    shell.advance(2, schedule)
    shell.fetch()
    shell.ack((1, 2))
    shell.crash()
    plan = shell.group.advance(3, shell.now_ms, schedule)
    assert plan.events == (Scheduled(3, (ScheduledRun(2, 3, START_MS + 300, 0),)),)
    shell.settle(plan)
    shell.wait(300)
    assert shell.fetched() == [0, 2]


def test_records_read_before_a_seek_are_not_taken_for_others() -> None:
    """Reading takes a while: what was read is used only where it fits."""
    shell = Shell(end=10)
    shell.settle(shell.group.seek(4, 10, shell.now_ms))
    for begin, following, expected in ((10, 12, 4), (2, 4, 4), (2, 6, 6), (6, 7, 7)):
        shell.settle(shell.group.advance(following, shell.now_ms, begin=begin))
        assert shell.group.read_offset == expected


def test_keys_read_from_further_back_fit_all_the_same() -> None:
    """The floor may pass records while they are read."""
    shell = Shell(GroupConfig(mode=Mode.KEY_ORDERED))
    shell.settle(shell.group.trim(2, shell.now_ms))
    keys = [b"a", b"a", b"b", b"c", b"b"]
    shell.settle(shell.group.advance(5, shell.now_ms, (), keys, begin=0))
    shell.fetch(A, 1)
    assert shell.fetched(B) == [3]


def test_a_delay_that_is_over_costs_nothing() -> None:
    """Nothing is journaled, and nothing waits."""
    shell = Shell(end=0)
    plan = shell.group.advance(5, shell.now_ms, [(0, 5, START_MS, None), (7, 9, None, 1)])
    assert not plan.events
    assert shell.fetched() == [0, 1, 2, 3, 4]


def test_an_expired_message_is_not_handed_out() -> None:
    """Nor is it when the timer has not fired yet; then it is counted."""
    shell = Shell(end=0)
    shell.advance(3, [(1, 2, None, START_MS + 300)])
    shell.now_ms += 300
    assert shell.fetched() == [0, 2]
    assert shell.group.next_event_ms(shell.now_ms) == shell.now_ms
    shell.wait(0)
    assert (shell.stats.expired, shell.stats.dead) == (1, 0)
    assert refused(shell.ack((1, 2))) == [(1, 2, Refusal.ALREADY)]


def test_messages_expire_without_anybody_asking() -> None:
    """So that the lag is right; whether new, delayed, or backing off."""
    shell = Shell(end=0)
    shell.advance(3, [(0, 1, None, START_MS + 300), (2, 3, START_MS + 900, START_MS + 300)])
    shell.fetch(A, 1)
    shell.nack((0, 1), delay_ms=10_000)
    assert shell.stats.waiting == 2
    shell.wait(300)
    stats = shell.group.stats(3, shell.now_ms)
    assert (stats.expired, stats.behind, stats.waiting) == (2, 1, 0)
    assert shell.group.floor == 1


def test_an_expired_message_can_be_dead() -> None:
    """If so configured; the letter says how often it was delivered."""
    shell = Shell(GroupConfig(expired_to_dead=True), end=0)
    shell.advance(1, [(0, 1, None, START_MS + 300)])
    shell.wait(300)
    assert shell.group.dead_letters(9) == [(0, 0, 1, 0, "the message expired")]
    assert shell.stats.expired == 0


def test_a_message_that_expires_while_leased_stays_with_its_consumer() -> None:
    """An acknowledgement is good; a failure is its end."""
    shell = Shell(end=0)
    shell.advance(2, [(0, 2, None, START_MS + 300)])
    shell.fetch()
    shell.wait(300)
    assert refused(shell.ack((0, 1))) == [(0, 1, None)]
    shell.nack((1, 2))
    assert (shell.stats.acked, shell.stats.expired) == (1, 1)
    assert shell.fetched(B) == []


def test_a_released_message_that_has_expired_is_not_handed_out() -> None:
    """It expires, uncounted as a delivery."""
    shell = Shell(end=0)
    shell.advance(1, [(0, 1, None, START_MS + 300)])
    shell.fetch()
    shell.wait(300)
    shell.release()
    assert shell.fetched(B) == []
    shell.wait(0)
    assert shell.stats.expired == 1


def test_an_expiry_survives_a_restart() -> None:
    """As the delay does."""
    shell = Shell(end=0)
    shell.advance(2, [(0, 1, None, START_MS + 300)])
    shell.crash()
    shell.wait(300)
    assert shell.stats.expired == 1
    assert shell.fetched() == [1]


def test_a_seek_back_learns_the_schedule_again() -> None:
    """The shell reads from there: what is over is over, what is not is not."""
    shell = Shell(end=0)
    schedule = [(0, 1, START_MS + 100, None), (1, 2, START_MS + 900, START_MS + 2_000)]
    shell.advance(3, schedule)
    shell.wait(500)
    shell.settle(shell.group.seek(0, 3, shell.now_ms))
    shell.advance(3, schedule)
    assert shell.fetched() == [0, 2]
    shell.wait(10 * LEASE_MS)
    assert shell.stats.expired == 1


def test_an_expired_message_frees_its_key() -> None:
    """Those behind it go on once that is durable."""
    shell = Shell(GroupConfig(mode=Mode.KEY_ORDERED))
    shell.advance(2, [(0, 1, START_MS + 900, START_MS + 300)], [b"a", b"a"])
    assert shell.fetched() == []
    shell.wait(300)
    assert shell.fetched() == [1]


def test_time_moves_a_bounded_number_of_ranges_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is due at once; all of it comes in the end."""
    monkeypatch.setattr(group_module, "WORK_MAX", 3)
    shell = Shell(end=0)
    shell.advance(40, [(o, o + 1, START_MS + 1 + o % 7, None) for o in range(0, 20, 2)])
    shell.advance(80, [(o, o + 1, None, START_MS + 1 + o % 7) for o in range(40, 80, 2)])
    shell.fetch(A, 5)
    shell.now_ms += LEASE_MS
    calls = 0
    while (due_ms := shell.group.next_event_ms(shell.now_ms)) and due_ms <= shell.now_ms:
        plan = shell.group.expire(shell.now_ms)
        assert len(plan.events) <= 3
        shell.settle(plan)
        calls += 1
    assert calls > 20 // 3
    assert shell.stats.expired == 20
    assert shell.group.deliverable(shell.now_ms)
    got = []
    while some := shell.fetched(B, 100):
        got += some
        shell.ack(*[(o, o + 1) for o in some], consumer=B)
    assert sorted(got) == [o for o in range(80) if o < 40 or o % 2]
    assert shell.group.floor == 80


def test_times_beyond_all_reason_are_kept_in_bounds() -> None:
    """A delay until the end of time is a very long one."""
    shell = Shell(end=0)
    shell.advance(2, [(0, 1, 1 << 70, None), (1, 2, None, 1 << 70)])
    assert shell.stats.waiting == 1
    assert shell.fetched() == [1]
    again = Group.recover(shell.group.to_snapshot(), [])
    assert again.stats(2, shell.now_ms).waiting == 1
