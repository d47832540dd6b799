"""Messages that fail too often, and what is owed for them."""

from __future__ import annotations

import pytest

from mq.broker.groups import DeadLetter, GroupConfig
from tests.broker.groups.shell import END, LEASE_MS, Shell

A, B = "ann", "bob"


def test_a_message_dies_instead_of_being_delivered_once_too_often() -> None:
    """The letter has its count and the last reason."""
    shell = Shell(GroupConfig(max_deliveries=2), end=3)
    shell.fetch()
    shell.nack((1, 2), reason="first")
    shell.fetch()
    shell.nack((1, 2), reason="second")
    assert shell.fetched() == []
    assert shell.group.dead_letters(10) == [DeadLetter(0, 1, 2, 2, "second")]
    assert shell.stats.dead == shell.stats.dead_unpublished == 1


def test_a_message_of_silent_consumers_dies_too() -> None:
    """The lapse of its lease is the reason."""
    shell = Shell(GroupConfig(max_deliveries=1), end=2)
    shell.fetch()
    shell.wait(LEASE_MS)
    assert shell.group.dead_letters(10) == [DeadLetter(0, 0, 2, 1, "the lease expired")]
    assert shell.group.floor == 2


def test_sequence_numbers_are_dense_over_messages() -> None:
    """Each letter's message at offset o has sequence + o - first."""
    shell = Shell(GroupConfig(max_deliveries=1))
    shell.fetch(count=10)
    shell.nack((5, 8), reason="x")
    shell.nack((0, 1), reason="y")
    shell.nack((9, 10), reason="z")
    assert [letter[:3] for letter in shell.group.dead_letters(10)] == [
        (0, 5, 8),
        (3, 0, 1),
        (4, 9, 10),
    ]
    assert len(shell.group.dead_letters(2)) == 2


def test_an_abandoned_death_leaves_no_gap() -> None:
    """Numbers are given when it is durable."""
    shell = Shell(GroupConfig(max_deliveries=1))
    shell.fetch(count=2)
    lost = shell.group.nack(A, [(0, 1)], shell.now_ms)
    kept = shell.group.nack(A, [(1, 2)], shell.now_ms)
    shell.abandon(lost)
    shell.settle(kept)
    assert [letter[:3] for letter in shell.group.dead_letters(10)] == [(0, 1, 2)]


def test_what_was_not_said_to_be_published_is_offered_again_after_a_crash() -> None:
    """With the same numbers, so that the dead-letter channel can tell."""
    shell = Shell(GroupConfig(max_deliveries=1))
    shell.fetch(count=6)
    shell.nack((0, 4), reason="x")
    shell.nack((5, 6), reason="y")
    shell.settle(shell.group.dead_done(2, shell.now_ms))
    expected = [DeadLetter(2, 2, 4, 1, "x"), DeadLetter(4, 5, 6, 1, "y")]
    assert shell.group.dead_letters(10) == expected
    shell.crash()
    assert shell.group.dead_letters(10) == expected
    shell.publish_dead()
    shell.crash()
    assert shell.group.dead_letters(10) == []
    assert shell.stats.dead == 5


def test_retention_waits_for_a_dead_letter() -> None:
    """The record is still to be read, though the floor has passed it."""
    shell = Shell(GroupConfig(max_deliveries=1))
    shell.fetch(count=4)
    shell.ack((0, 2), (3, 4))
    shell.nack((2, 3))
    assert (shell.group.floor, shell.group.retain_offset) == (4, 2)
    shell.publish_dead()
    assert shell.group.retain_offset == 4


def test_letters_outlive_a_trim_and_a_seek() -> None:
    """They are owed all the same; a second life can end in a second letter."""
    shell = Shell(GroupConfig(max_deliveries=1))
    shell.fetch(count=1)
    shell.nack((0, 1))
    shell.settle(shell.group.seek(0, END, shell.now_ms))
    shell.advance(END)
    shell.fetch(count=1)
    shell.nack((0, 1))
    shell.settle(shell.group.trim(5, shell.now_ms))
    assert [letter[:3] for letter in shell.group.dead_letters(10)] == [(0, 0, 1), (1, 0, 1)]


def test_lowering_the_limit_ends_those_over_it() -> None:
    """Without another delivery: at once, or when their wait is over."""
    shell = Shell(end=3)
    shell.fetch()
    shell.nack((0, 1))
    shell.nack((1, 2), delay_ms=500)
    shell.settle(shell.group.configure(GroupConfig(max_deliveries=1), shell.now_ms))
    shell.wait(0)
    assert [letter.first for letter in shell.group.dead_letters(10)] == [0]
    shell.wait(500)
    assert [letter.first for letter in shell.group.dead_letters(10)] == [0, 1]
    assert shell.fetched() == []
    assert shell.group.dead_letters(1)[0].reason.startswith("it failed 1 times")


def test_raising_the_limit_before_they_are_dead_saves_them() -> None:
    """Nothing has been decided yet."""
    shell = Shell(end=1)
    shell.fetch()
    shell.nack((0, 1))
    for limit in (1, 2):
        shell.settle(shell.group.configure(GroupConfig(max_deliveries=limit), shell.now_ms))
    shell.wait(0)
    assert shell.fetch() == [(0, 1, 2)]


def test_a_released_message_over_a_lowered_limit_dies() -> None:
    """It would be delivered once too often."""
    shell = Shell(end=1)
    shell.fetch()
    shell.nack((0, 1))
    shell.fetch()
    shell.settle(shell.group.configure(GroupConfig(max_deliveries=1), shell.now_ms))
    shell.release()
    shell.wait(0)
    assert shell.stats.dead == 1


def test_a_long_reason_is_cut() -> None:
    """It is kept in memory and in the journal."""
    shell = Shell(GroupConfig(max_deliveries=1), end=1)
    shell.fetch()
    shell.nack((0, 1), reason="é" * 5_000)
    shell.crash()
    assert shell.group.dead_letters(1)[0].reason == "é" * 512


def test_nobody_publishes_what_nobody_owes() -> None:
    """The shell's own mistake; saying it twice is none."""
    shell = Shell(GroupConfig(max_deliveries=1), end=1)
    shell.fetch()
    shell.nack((0, 1))
    with pytest.raises(AssertionError, match="owes"):
        shell.group.dead_done(2, shell.now_ms)
    shell.publish_dead()
    assert not shell.group.dead_done(1, shell.now_ms).events
