"""Receipts of producers: what is a repeat, what is missing, what is forgotten."""

from __future__ import annotations

import json

import pytest

from mq.errors import InvalidArgument, SequenceGap, SequenceTooOld
from mq.log.producers import PRODUCERS_MAX, WINDOW, Producers, Receipt


def receipt(sequence: int) -> Receipt:
    """The receipt of a batch."""
    return Receipt(sequence, 100 + sequence, 1, 5, 1000 + sequence)


def made(sequences: range, producer_id: int = 1) -> Producers:
    """A table that knows these batches."""
    producers = Producers()
    for sequence in sequences:
        producers.record(producer_id, receipt(sequence))
    return producers


def test_a_new_producer_may_begin_anywhere() -> None:
    """Its first sequence is taken as it is."""
    assert Producers().check(1, 77, 0) is None


def test_repeats() -> None:
    """The last ones are answered with their receipts, older ones refused."""
    producers = made(range(5, 5 + WINDOW + 3))
    last = 5 + WINDOW + 2
    assert producers.check(1, last + 1, 0) is None
    for back in range(WINDOW):
        assert producers.check(1, last - back, 1000 + last - back) == receipt(last - back)
    for old in (last - WINDOW, 5, 0):
        with pytest.raises(SequenceTooOld, match=f"repeats sequence {old}"):
            producers.check(1, old, 1000 + old)


def test_gaps() -> None:
    """Say which sequence is expected."""
    with pytest.raises(SequenceGap, match="before 6") as caught:
        made(range(6)).check(1, 7, 0)
    assert caught.value.expected_sequence == 6


def test_a_sequence_for_other_records() -> None:
    """Is the producer's bug, and is told so."""
    with pytest.raises(InvalidArgument, match="used sequence 3 for other records at offset 103"):
        made(range(6)).check(1, 3, 999)


def test_producers_are_forgotten_in_the_order_of_their_last_batch() -> None:
    """So that the table is bounded."""
    producers = Producers()
    for number in range(PRODUCERS_MAX):
        producers.record(number + 1, receipt(0))
    producers.record(1, receipt(1))
    producers.record(9_999, receipt(0))
    assert producers.check(2, 50, 0) is None
    assert producers.check(1, 1, 1001) == receipt(1)
    assert producers.check(9_999, 0, 1000) == receipt(0)
    assert len(producers.snapshot()) == PRODUCERS_MAX


def test_going_back_to_a_snapshot() -> None:
    """Undoes what was recorded since."""
    producers = made(range(3))
    snapshot = producers.snapshot()
    producers.record(1, receipt(3))
    producers.record(2, receipt(0))
    producers.restore(snapshot)
    assert producers.check(1, 3, 0) is None
    assert producers.check(2, 7, 0) is None
    producers.record(2, receipt(0))
    assert 2 not in snapshot


def test_json_keeps_the_order() -> None:
    """The next one to be forgotten is the same after a restart."""
    producers = Producers()
    for number in (5, 3, 1 << 63):
        producers.record(number, receipt(1))
    producers.record(5, receipt(2))
    again = Producers()
    again.load_json(json.loads(json.dumps(producers.to_json())))
    assert list(again.snapshot().items()) == list(producers.snapshot().items())
    assert list(again.snapshot()) == [3, 1 << 63, 5]
