"""Groups that are ordered by key, and groups with one active consumer."""

from __future__ import annotations

import pytest

from mq.broker.groups import GroupConfig, Mode, Refusal
from mq.errors import Fenced
from tests.broker.groups.shell import LEASE_MS, Shell, refused

A, B = "ann", "bob"
SESSION_MS = 5 * LEASE_MS


def keyed(keys: str, window: int = 100_000) -> Shell:
    """A key-ordered group that has read records with these keys; `-`: none."""
    shell = Shell(GroupConfig(mode=Mode.KEY_ORDERED, key_window=window))
    read(shell, keys)
    return shell


def read(shell: Shell, keys: str) -> None:
    """Let the group know of more records."""
    columns = [None if key == "-" else key.encode() for key in keys]
    shell.advance(shell.group.read_offset + len(keys), (), columns)


def test_messages_of_one_key_go_together_or_one_after_another() -> None:
    """A key that is out is not handed out to another, nor further to the same one."""
    shell = keyed("abab" + "ca")
    assert shell.fetched(A, 2) == [0, 1]
    assert shell.fetched(B) == [4]
    assert shell.fetched(A) == []
    shell.ack((0, 1))
    assert shell.fetched(B) == [2, 5]


def test_a_fetch_takes_a_key_as_far_as_it_goes() -> None:
    """In order, in one lease."""
    shell = keyed("aaaa")
    assert shell.fetch(A) == [(0, 4, 1)]
    assert shell.fetched(B) == []


def test_a_key_is_free_once_all_that_went_out_is_settled() -> None:
    """Acknowledging the last of a lease is not enough."""
    shell = keyed("aaaa")
    shell.fetch(A, 3)
    shell.ack((2, 3))
    assert shell.fetched(B) == []
    shell.ack((0, 2))
    assert shell.fetched(B) == [3]


def test_the_next_of_a_key_waits_for_the_journal() -> None:
    """A crash must not bring the earlier one back after the later one was handed out."""
    shell = keyed("aa")
    shell.fetch(A, 1)
    plan = shell.group.ack(A, [(0, 1)], shell.now_ms)
    assert shell.fetched(B) == []
    shell.settle(plan)
    assert shell.fetched(B) == [1]


def test_a_failed_message_holds_up_its_key_alone() -> None:
    """Until it has been delivered again, or is dead."""
    shell = keyed("abaa")
    shell.fetch(A, 1)
    shell.nack((0, 1), delay_ms=300)
    assert shell.fetched(B) == [1]
    shell.wait(300)
    assert shell.fetch(B, 1) == [(0, 1, 2)]


def test_a_dead_message_lets_its_key_go_on() -> None:
    """Once that is durable."""
    shell = Shell(GroupConfig(mode=Mode.KEY_ORDERED, max_deliveries=1))
    read(shell, "aa")
    shell.fetch(A, 1)
    shell.nack((0, 1))
    assert shell.fetched(B) == [1]


def test_a_failed_message_waits_for_later_ones_that_went_out_with_it() -> None:
    """Two consumers never have one key, even if the earlier one failed."""
    shell = keyed("aa")
    shell.fetch(A, 2)
    shell.nack((0, 1))
    assert shell.fetched(B) == []
    shell.ack((1, 2))
    assert shell.fetched(B) == [0]


def test_records_without_a_key_are_unordered() -> None:
    """They wait for nobody."""
    shell = keyed("--a-a")
    assert shell.fetched(A, 1) == [0]
    assert shell.fetched(B, 2) == [1, 2]
    assert shell.fetched(A) == [3]


def test_a_release_keeps_the_order() -> None:
    """What comes back goes out again before what follows it."""
    shell = keyed("aab")
    shell.fetch(A, 1)
    shell.release(A)
    assert shell.fetched(B, 1) == [0]
    shell.release(B)
    assert shell.fetched(B) == [0, 1, 2]


def test_retention_frees_a_key() -> None:
    """The message that held it up is gone."""
    shell = keyed("aaa")
    shell.fetch(A, 1)
    shell.settle(shell.group.trim(1, shell.now_ms))
    assert shell.fetched(B) == [1, 2]


def test_after_a_restart_keys_are_read_again_from_the_floor() -> None:
    """A message that waits holds up its key as before."""
    shell = keyed("aabab")
    shell.fetch(A)
    shell.ack((0, 1), (2, 3))
    shell.nack((1, 2), delay_ms=LEASE_MS)
    shell.crash()
    assert shell.group.read_offset == 1
    assert shell.fetched(B) == []
    read(shell, "abab")
    assert shell.fetched(B) == [4]
    shell.wait(LEASE_MS)
    assert shell.fetched(A, 2) == [1, 3]


def test_the_window_bounds_how_far_is_read_ahead() -> None:
    """It counts what is not done."""
    shell = keyed("aaa", window=5)
    assert shell.group.read_room == 2
    read(shell, "bc")
    assert shell.group.read_room == 0
    shell.fetch(A)
    shell.ack((0, 2), (3, 4))
    assert shell.group.read_room == 3
    assert Shell().group.read_room is None


def test_a_key_for_each_record_is_asked_for() -> None:
    """Anything else is the shell's own mistake."""
    shell = keyed("aa")
    with pytest.raises(AssertionError, match="one key a record"):
        shell.advance(4, (), [b"a"])


def exclusive(end: int = 1_000) -> Shell:
    """A group with one active consumer, to be."""
    return Shell(GroupConfig(mode=Mode.EXCLUSIVE, session_ms=SESSION_MS), end)


def test_one_is_active_the_others_stand_by() -> None:
    """The first that joins gets an epoch; the next gets none, and no messages."""
    shell = exclusive()
    assert (shell.join(A), shell.join(B)) == (1, 0)
    assert shell.fetched(A, 2, epoch=1) == [0, 1]
    with pytest.raises(Fenced, match="join"):
        shell.fetch(B)
    with pytest.raises(Fenced):
        shell.fetch(A, epoch=2)


def test_an_epoch_is_told_only_once_it_is_durable() -> None:
    """Until then nobody is active."""
    shell = exclusive()
    plan = shell.group.join(A, shell.now_ms)
    assert plan.epoch == 1
    assert shell.group.active == ""
    shell.abandon(plan)
    with pytest.raises(Fenced):
        shell.fetch(A, epoch=1)
    assert shell.join(B) == 1


def test_another_takes_over_from_a_silent_consumer() -> None:
    """After its leases and its session; then the old one is refused."""
    shell = exclusive()
    shell.join(A)
    shell.fetch(A, 2, epoch=1)
    shell.wait(LEASE_MS)
    assert shell.join(B) == 0
    shell.now_ms += SESSION_MS - LEASE_MS - 1
    assert shell.group.next_event_ms(shell.now_ms) == shell.now_ms + 1
    assert shell.join(B) == 0
    shell.now_ms += 1
    assert shell.join(B) == 2
    assert shell.fetch(B, 2, epoch=2) == [(0, 2, 2)]
    assert refused(shell.ack((0, 2), epoch=1)) == [(0, 2, Refusal.FENCED)]
    assert refused(shell.nack((0, 2), epoch=1)) == [(0, 2, Refusal.FENCED)]
    outcomes = shell.group.extend(A, [(0, 2)], shell.now_ms, LEASE_MS, 1)
    assert refused(outcomes) == [(0, 2, Refusal.FENCED)]
    with pytest.raises(Fenced):
        shell.fetch(A, epoch=1)
    assert refused(shell.ack((0, 2), consumer=B, epoch=2)) == [(0, 2, None)]


def test_a_long_lease_keeps_the_place() -> None:
    """However long its consumer is silent."""
    shell = exclusive()
    shell.join(A)
    shell.group.fetch(A, shell.now_ms, 1, 10 * SESSION_MS, 1)
    shell.wait(5 * SESSION_MS)
    assert shell.join(B) == 0


def test_a_heartbeat_keeps_the_place() -> None:
    """Of a consumer whose fetch waits."""
    shell = exclusive()
    shell.join(A)
    for _ in range(3):
        shell.wait(SESSION_MS - 1)
        shell.group.heartbeat(A, shell.now_ms)
    assert shell.join(B) == 0


def test_a_release_frees_the_place_at_once() -> None:
    """Its messages are the next one's, uncounted."""
    shell = exclusive()
    shell.join(A)
    shell.fetch(A, 2, epoch=1)
    shell.release(A, epoch=1)
    assert shell.group.active == ""
    assert shell.join(B) == 2
    assert shell.fetch(B, 2, epoch=2) == [(0, 2, 1)]


def test_a_stale_release_moves_nothing() -> None:
    """The new life of a consumer is not ended by its old one."""
    shell = exclusive()
    shell.join(A)
    shell.join(A)
    with pytest.raises(Fenced):
        shell.release(A, epoch=1)
    assert (shell.group.active, shell.group.epoch) == (A, 2)


def test_a_consumer_that_comes_back_takes_its_own_place() -> None:
    """Its former life is fenced, and what that had counts as a failed delivery."""
    shell = exclusive()
    shell.join(A)
    shell.fetch(A, 2, epoch=1)
    assert shell.join(A) == 2
    assert shell.fetch(A, 2, epoch=2) == [(0, 2, 2)]
    assert refused(shell.ack((0, 1), epoch=1)) == [(0, 1, Refusal.FENCED)]


def test_the_active_consumer_outlives_a_restart_of_the_broker() -> None:
    """It has a session's time to be heard of; its epoch is good."""
    shell = exclusive()
    shell.join(A)
    shell.crash()
    shell.advance(shell.end)
    assert shell.join(B) == 0
    assert shell.fetched(A, 1, epoch=1) == [0]
    shell.crash()
    shell.advance(shell.end)
    assert shell.join(B) == 0
    shell.wait(SESSION_MS)
    assert shell.join(B) == 2
