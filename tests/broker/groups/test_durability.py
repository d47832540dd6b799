"""Between the decision and the word of the journal."""

from __future__ import annotations

import pytest

from mq.broker.groups import Group, GroupConfig, Mode, Refusal
from mq.errors import FailedPrecondition, InvalidArgument, OffsetOutOfRange, Unavailable
from tests.broker.groups.shell import END, LEASE_MS, Shell, refused

A, B = "ann", "bob"


def test_a_plan_changes_nothing_until_it_is_confirmed() -> None:
    """The message is neither done nor to be had; another call about it has to wait."""
    shell = Shell()
    shell.fetch(A, 1)
    plan = shell.group.ack(A, [(0, 1)], shell.now_ms)
    assert shell.group.floor == shell.stats.acked == 0
    shell.wait(10 * LEASE_MS)
    assert shell.fetched(B, 1) == [1]
    assert refused(shell.ack((0, 1))) == [(0, 1, Refusal.PENDING)]
    shell.settle(plan)
    assert shell.group.floor == shell.stats.acked == 1
    assert refused(shell.ack((0, 1))) == [(0, 1, Refusal.ALREADY)]


def test_a_message_whose_acknowledgement_failed_is_delivered_again() -> None:
    """Its lease goes on; when that has lapsed, to whoever comes."""
    shell = Shell()
    shell.fetch(A, 1)
    shell.abandon(shell.group.ack(A, [(0, 1)], shell.now_ms))
    assert refused(shell.group.extend(A, [(0, 1)], shell.now_ms, LEASE_MS)) == [(0, 1, None)]
    shell.wait(LEASE_MS)
    assert shell.fetch(B, 1) == [(0, 1, 2)]


def test_a_lease_that_lapsed_while_its_acknowledgement_failed_is_ended() -> None:
    """The timer has passed its deadline already, and is set again."""
    shell = Shell()
    shell.fetch(A, 1)
    plan = shell.group.ack(A, [(0, 1)], shell.now_ms)
    shell.wait(LEASE_MS)
    assert shell.group.next_event_ms(shell.now_ms) is None
    shell.abandon(plan)
    shell.wait(0)
    assert shell.fetch(B, 1) == [(0, 1, 2)]


def test_what_was_released_in_flight_comes_back_if_its_plan_fails() -> None:
    """Without waiting for a deadline of somebody who has left."""
    shell = Shell()
    shell.fetch(A, 1)
    plan = shell.group.ack(A, [(0, 1)], shell.now_ms)
    shell.release(A)
    shell.abandon(plan)
    assert shell.fetch(B, 1) == [(0, 1, 1)]


def test_a_raised_count_is_told_only_once_it_is_durable() -> None:
    """Until then the message of a lapsed lease is handed out to nobody."""
    shell = Shell(end=1)
    shell.fetch(A)
    shell.now_ms += LEASE_MS
    plan = shell.group.expire(shell.now_ms)
    assert shell.fetched(B) == []
    shell.settle(plan)
    assert shell.fetch(B) == [(0, 1, 2)]


def test_a_lapse_that_could_not_be_written_is_due_again() -> None:
    """It is not lost with the plan."""
    shell = Shell(end=1)
    shell.fetch(A)
    shell.now_ms += LEASE_MS
    shell.abandon(shell.group.expire(shell.now_ms))
    assert shell.group.next_event_ms(shell.now_ms) == shell.now_ms
    shell.wait(0)
    assert shell.fetch(B) == [(0, 1, 2)]


def test_plans_are_settled_in_the_order_they_were_made() -> None:
    """Any other is the shell's own mistake, and so is settling twice."""
    shell = Shell()
    shell.fetch(A, 2)
    first = shell.group.ack(A, [(0, 1)], shell.now_ms)
    second = shell.group.ack(A, [(1, 2)], shell.now_ms)
    assert second.number == first.number + 1
    with pytest.raises(AssertionError, match="order"):
        shell.group.confirm(second, shell.now_ms)
    unsettled = [shell.group.unsettled_number]
    for plan in (first, second):
        shell.settle(plan)
        unsettled.append(shell.group.unsettled_number)
    assert unsettled == [first.number, second.number, None]
    with pytest.raises((AssertionError, IndexError)):
        shell.group.confirm(second, shell.now_ms)


def test_after_a_crash_leases_are_gone_and_the_rest_is_not() -> None:
    """What was leased is available at once, uncounted; counts and times are kept."""
    shell = Shell()
    shell.fetch(A, 6)
    shell.ack((1, 2))
    shell.nack((2, 3))
    shell.nack((3, 4), delay_ms=5_000)
    shell.fetch(B, 1)
    shell.crash()
    shell.advance(END)
    assert shell.fetch(B, 4) == [(2, 3, 2), (0, 1, 1), (4, 6, 1)]
    assert refused(shell.ack((0, 1), (6, 7), consumer=A)) == [
        (0, 1, Refusal.OTHER),
        (6, 7, Refusal.NEVER),
    ]
    shell.release(B)
    shell.wait(5_000)
    assert shell.fetch(B, 4) == [(0, 1, 1), (2, 4, 2), (4, 5, 1)]


def test_an_entry_that_was_written_counts_though_nobody_was_told() -> None:
    """A crash between the sync and the answer."""
    shell = Shell()
    shell.fetch(A, 2)
    plan = shell.group.ack(A, [(0, 2)], shell.now_ms)
    group = Group.recover(None, [*shell.journal, plan.to_bytes()])
    assert group.floor == 2


def test_a_snapshot_and_the_journal_since_make_the_same_group() -> None:
    """Entries that the snapshot has are skipped, those that were in flight are not."""
    shell = Shell()
    shell.fetch(A, 6)
    shell.ack((0, 1))
    in_flight = shell.group.ack(A, [(3, 5)], shell.now_ms)
    snapshot, position = shell.group.to_snapshot(), len(shell.journal)
    shell.settle(in_flight)
    shell.nack((1, 2), delay_ms=500)
    expected = shell.group.to_snapshot()
    for start in (0, position - 1, position):
        group = Group.recover(snapshot, shell.journal[start:])
        assert group.to_snapshot() == expected
    assert Group.recover(None, shell.journal).to_snapshot() == expected


def test_while_a_seek_is_in_flight_nothing_is_decided() -> None:
    """Callers try again; the timer has nothing to do; a part can still be handed back."""
    shell = Shell()
    shell.fetch(A, 5)
    seek = shell.group.seek(2, END, shell.now_ms)
    group, now_ms = shell.group, shell.now_ms
    for call in (
        lambda: group.fetch(B, now_ms, 1, 1),
        lambda: group.ack(A, [(0, 1)], now_ms),
        lambda: group.nack(A, [(0, 1)], now_ms),
        lambda: group.extend(A, [(0, 1)], now_ms, 1),
        lambda: group.release(A, now_ms),
        lambda: group.join(A, now_ms),
        lambda: group.advance(END + 1, now_ms),
        lambda: group.seek(1, END, now_ms),
        lambda: group.commit(1, END, now_ms),
        lambda: group.configure(GroupConfig(), now_ms),
    ):
        with pytest.raises(Unavailable):
            call()
    shell.now_ms += LEASE_MS
    assert not group.expire(shell.now_ms).events
    assert group.next_event_ms(shell.now_ms) is None
    group.hand_back(A, [(4, 5)], shell.now_ms)
    shell.abandon(seek)
    assert refused(shell.ack((0, 5))) == [(0, 4, None), (4, 5, Refusal.EXPIRED)]


def test_a_seek_begins_anew() -> None:
    """Below all is done, above all is new, and leases from before are worth nothing."""
    shell = Shell()
    shell.fetch(A, 10)
    shell.ack((0, 3), (5, 7))
    shell.settle(shell.group.seek(2, END, shell.now_ms))
    assert shell.group.floor == shell.group.read_offset == 2
    assert refused(shell.ack((1, 4))) == [(1, 2, Refusal.ALREADY), (2, 4, Refusal.NEVER)]
    shell.advance(END)
    assert shell.fetch(B, 5) == [(2, 7, 1)]
    shell.crash()
    assert shell.group.floor == 2


@pytest.mark.parametrize("offset", (2, END + 1))
def test_a_seek_beyond_either_end_is_refused(offset: int) -> None:
    """It names both, and moves nothing."""
    shell = Shell()
    shell.settle(shell.group.trim(3, shell.now_ms))
    with pytest.raises(OffsetOutOfRange) as caught:
        shell.group.seek(offset, END, shell.now_ms)
    assert caught.value.details() == {"log_start_offset": 3, "next_offset": END}
    assert shell.group.floor == 3


def test_retention_takes_messages_away_from_everybody() -> None:
    """From the moment it is said, even before the journal has it."""
    shell = Shell()
    shell.fetch(A, 4)
    shell.nack((0, 1))
    plan = shell.group.trim(3, shell.now_ms)
    assert shell.fetched(B, 2) == [4, 5]
    shell.settle(plan)
    assert shell.stats.trimmed == 3
    assert shell.stats.in_flight == 3
    assert refused(shell.ack((0, 4))) == [(0, 3, Refusal.ALREADY), (3, 4, None)]
    assert shell.group.floor == 4


def test_an_acknowledgement_that_retention_overtakes_is_kept_to_what_is_left() -> None:
    """Decided before, durable after: the part below is counted once."""
    shell = Shell()
    shell.fetch(A, 4)
    trim = shell.group.trim(2, shell.now_ms)
    ack = shell.group.ack(A, [(0, 4)], shell.now_ms)
    shell.settle(trim)
    shell.settle(ack)
    assert (shell.stats.trimmed, shell.stats.acked) == (2, 2)
    assert shell.group.floor == 4
    assert Group.recover(None, shell.journal).to_snapshot() == shell.group.to_snapshot()


def test_a_mode_can_not_be_changed_on_a_live_group() -> None:
    """Nothing is moved; without leases it can."""
    shell = Shell()
    shell.fetch(A, 1)
    with pytest.raises(FailedPrecondition, match="SHARED"):
        shell.group.configure(GroupConfig(mode=Mode.EXCLUSIVE), shell.now_ms)
    shell.ack((0, 1))
    shell.settle(shell.group.configure(GroupConfig(mode=Mode.EXCLUSIVE), shell.now_ms))
    shell.advance(END)
    assert shell.join(B) == 1
    assert shell.fetched(B, 1, epoch=1) == [1]


def test_settings_survive() -> None:
    """All of them, of the shell's too."""
    config = GroupConfig(max_deliveries=7, lease_ms=5, dead_letter_channel="tomb", key_window=9)
    shell = Shell(config)
    shell.crash()
    assert shell.group.config == config


@pytest.mark.parametrize(
    ("config", "named"),
    (
        (GroupConfig(max_deliveries=-1), "max_deliveries"),
        (GroupConfig(backoff_min_ms=5, backoff_max_ms=4), "backoff_max_ms"),
        (GroupConfig(session_ms=0), "session_ms"),
        (GroupConfig(key_window=0), "key_window"),
        (GroupConfig(lease_ms=0), "lease_ms"),
    ),
)
def test_settings_that_can_not_be_used_are_refused(config: GroupConfig, named: str) -> None:
    """The message names the setting."""
    shell = Shell()
    with pytest.raises(InvalidArgument, match=named):
        shell.group.configure(config, shell.now_ms)
    with pytest.raises(InvalidArgument, match=named):
        Group().create(config, 0, 0)
