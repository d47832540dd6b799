"""What is sent when, after each kind of answer; chance is left to the property test."""

from __future__ import annotations

from collections import deque

import pytest

from mq.client.backoff import Backoff
from mq.client.outgoing import OutgoingBatch
from mq.client.types import BatchReceipt
from mq.client.window import Delivery, Window
from mq.errors import (
    Cancelled,
    ChannelReadOnly,
    DeadlineExceeded,
    InvalidArgument,
    MessageTooLarge,
    MQError,
    Overloaded,
    SequenceGap,
    SequenceTooOld,
    Unavailable,
)

DELAY_S = 0.05


class Bench:
    """A window, the batches in front of it, and the calls it makes."""

    def __init__(self, *sizes: int, retry_timeout_s: float | None = None) -> None:
        self.batches = [batch_of(size, index) for index, size in enumerate(sizes)]
        self.queue = deque(self.batches)
        ids = iter(range(100, 200))
        self.window = Window(
            max_in_flight=3,
            delivery_timeout_s=10.0,
            retry_timeout_s=retry_timeout_s,
            new_producer_id=lambda: next(ids),
            backoff=Backoff(DELAY_S, 1.0, lambda: 1.0),
        )

    def calls(self, now: float = 0.0) -> list[Delivery]:
        """All calls to make now."""
        made = []
        while (delivery := self.window.next(now, self._supply)) is not None:
            made.append(delivery)
        return made

    def names(self, now: float = 0.0) -> list[tuple[int, int, str]]:
        """The same, as producer id, sequence and first content."""
        return [(d.producer_id, d.sequence, first_content(d.batch)) for d in self.calls(now)]

    def _supply(self) -> OutgoingBatch | None:
        return self.queue.popleft() if self.queue else None

    def succeed(self, delivery: Delivery) -> None:
        """The broker has stored it."""
        receipt = BatchReceipt(
            delivery.sequence * 10, delivery.batch.record_count, 1, "synced", False
        )
        self.window.succeeded(delivery, receipt)

    def fail(self, delivery: Delivery, error: MQError, now: float = 0.0) -> None:
        """The call ended with an error."""
        self.window.failed(delivery, error, now)

    def established(self) -> list[Delivery]:
        """The first batch is acknowledged; the calls that follow."""
        (first,) = self.calls()
        self.succeed(first)
        return self.calls()


def batch_of(size: int, index: int) -> OutgoingBatch:
    """A sealed batch of so many records."""
    batch = OutgoingBatch(0.0, 0)
    batch.contents = [b"%d.%d" % (index, record) for record in range(size)]
    batch.seal()
    return batch


def first_content(batch: OutgoingBatch) -> str:
    """The first record of a batch."""
    return batch.records[2 : 2 + batch.records[1]].decode()


def test_the_first_batch_goes_alone() -> None:
    """Until a producer id is known to the broker only one batch is out; then the window fills."""
    bench = Bench(1, 1, 1, 1, 1)
    (first,) = bench.calls()
    assert bench.calls() == []
    bench.succeed(first)
    assert bench.names() == [(100, 2, "1.0"), (100, 3, "2.0"), (100, 4, "3.0")]


def test_a_repeat_stays_within_what_the_broker_remembers() -> None:
    """However many are acknowledged behind it, no batch is sent 16 after an unresolved one."""
    bench = Bench(*[1] * 30)
    lost, *calls = bench.established()
    newest = 0
    while calls:
        newest = calls[-1].sequence
        for call in calls:
            bench.succeed(call)
        calls = bench.calls()
    assert (lost.sequence, newest) == (2, 17)
    bench.succeed(lost)
    assert [call.sequence for call in bench.calls()] == [18, 19, 20]


def test_an_acknowledged_batch_makes_room() -> None:
    """Batches are resolved in any order, and each makes room for one more."""
    bench = Bench(1, 1, 1, 1, 1, 1)
    calls = bench.established()
    bench.succeed(calls[2])
    assert bench.names() == [(100, 5, "4.0")]
    assert bench.batches[3].done
    assert not bench.batches[1].done


@pytest.mark.parametrize(
    "error", (Unavailable("gone"), DeadlineExceeded("late"), Overloaded("busy"))
)
def test_a_lost_call_is_made_again(error: MQError) -> None:
    """The same batch goes again under its sequence, after the backoff."""
    bench = Bench(1)
    (call,) = bench.calls()
    bench.fail(call, error)
    assert bench.window.wake_at_s == DELAY_S
    assert bench.calls(DELAY_S - 0.001) == []
    assert bench.calls(DELAY_S) == [call]


def test_calls_go_again_in_order() -> None:
    """A batch that is due again waits for its predecessor to be on its way."""
    bench = Bench(1, 1, 1, 1, 1)
    one, two, three = bench.established()
    bench.fail(one, Unavailable("gone"), now=1.0)
    bench.fail(two, Unavailable("gone"), now=0.0)
    bench.succeed(three)
    assert bench.calls(DELAY_S) == []
    assert bench.window.wake_at_s == 1.0 + DELAY_S
    again = bench.calls(1.0 + DELAY_S)
    assert again[:2] == [one, two]
    assert [delivery.sequence for delivery in again[2:]] == [5]


def test_later_calls_are_let_end_first() -> None:
    """A batch goes again once no call behind it is out: those are bound to be gaps."""
    bench = Bench(1, 1, 1, 1)
    one, two, three = bench.established()
    bench.fail(one, Unavailable("gone"))
    bench.fail(two, SequenceGap("gap", expected_sequence=2))
    assert bench.calls(DELAY_S) == []
    assert bench.window.wake_at_s == 10.0
    bench.fail(three, SequenceGap("gap", expected_sequence=2))
    assert bench.calls(DELAY_S) == [one]


def test_a_gap_waits_for_what_the_broker_misses() -> None:
    """Batches refused as gaps go again, at once, when the missing one is acknowledged."""
    bench = Bench(1, 1, 1, 1)
    one, two, three = bench.established()
    bench.fail(two, SequenceGap("gap", expected_sequence=2))
    bench.fail(three, SequenceGap("gap", expected_sequence=2))
    assert bench.calls() == []
    bench.succeed(one)
    assert bench.calls() == [two, three]


def test_a_gap_of_the_past_is_over() -> None:
    """If the missing batch was acknowledged meanwhile, the refused one goes at once."""
    bench = Bench(1, 1, 1)
    one, two = bench.established()
    bench.succeed(one)
    bench.fail(two, SequenceGap("gap", expected_sequence=2))
    assert bench.calls() == [two]


def test_a_gap_without_a_number_is_tried_again_later() -> None:
    """A broker that doesn't say what it misses is asked again after the backoff."""
    bench = Bench(1, 1)
    (one,) = bench.established()
    bench.fail(one, SequenceGap("gap"))
    assert bench.calls() == []
    assert bench.calls(DELAY_S) == [one]


def test_a_broker_that_forgot_gets_a_new_producer_id() -> None:
    """If the broker counts from before what it acknowledged, the rest goes under another id."""
    bench = Bench(1, 1, 1)
    one, two = bench.established()
    bench.fail(one, SequenceGap("gap", expected_sequence=1))
    assert bench.calls() == []
    bench.fail(two, SequenceGap("gap", expected_sequence=1))
    assert bench.names() == [(101, 1, "1.0")]


def test_a_repeat_that_is_too_old_fails_alone() -> None:
    """A batch whose receipt is forgotten was stored: only its own outcome is an error."""
    bench = Bench(1, 1, 1, 1, 1)
    one, *_ = bench.established()
    bench.fail(one, SequenceTooOld("long ago"))
    with pytest.raises(SequenceTooOld):
        bench.batches[1].record_receipt(0)
    assert bench.names() == [(100, 5, "4.0")]


def test_after_a_refusal_the_rest_goes_on() -> None:
    """One batch is refused for good: those behind it go again, in order, under a new id."""
    bench = Bench(1, 1, 1, 1, 1)
    one, two, three = bench.established()
    bench.fail(one, InvalidArgument("bad"))
    bench.fail(two, SequenceGap("gap", expected_sequence=2))
    assert bench.calls() == []
    bench.fail(three, Unavailable("gone"))
    (again,) = bench.calls()
    assert (again.producer_id, again.sequence) == (101, 1)
    bench.succeed(again)
    assert bench.names() == [(101, 2, "3.0"), (101, 3, "4.0")]
    with pytest.raises(InvalidArgument):
        bench.batches[1].record_receipt(0)


def test_what_may_be_stored_is_not_sent_again_elsewhere() -> None:
    """Where a refused batch may be stored all the same, so may the ones behind it: they fail."""
    bench = Bench(1, 1, 1, 1)
    one, two, three = bench.established()
    bench.fail(one, ChannelReadOnly("the sync failed"))
    bench.fail(two, Unavailable("gone"))
    bench.fail(three, SequenceGap("gap", expected_sequence=2))
    assert bench.names() == [(101, 1, "3.0")]
    with pytest.raises(DeadlineExceeded, match=r"could store it twice.*gone"):
        bench.batches[2].record_receipt(0)


@pytest.mark.parametrize("error", (InvalidArgument("bad"), MessageTooLarge("large")))
def test_a_batch_refused_for_its_content_is_split(error: MQError) -> None:
    """Halves are sent in its place, and its records' outcomes are those of the halves."""
    bench = Bench(3, 1)
    (whole,) = bench.calls()
    bench.fail(whole, error)
    (left,) = bench.calls()
    assert (left.producer_id, left.batch.record_count) == (101, 1)
    bench.succeed(left)
    right, behind = bench.calls()
    assert (right.sequence, right.batch.record_count, behind.sequence) == (2, 2, 3)
    bench.succeed(right)
    batch = bench.batches[0]
    assert batch.done
    assert [batch.record_receipt(index).offset for index in range(3)] == [10, 20, 21]


def test_a_batch_that_may_be_stored_is_not_split() -> None:
    """An earlier call of it, still on its way, could be taken as a whole: it just fails."""
    bench = Bench(2)
    (whole,) = bench.calls()
    bench.fail(whole, Unavailable("gone"))
    (whole,) = bench.calls(DELAY_S)
    bench.fail(whole, MessageTooLarge("large"))
    assert bench.calls(DELAY_S) == []
    with pytest.raises(MessageTooLarge):
        bench.batches[0].record_receipt(1)


def test_time_runs_out() -> None:
    """A batch that isn't acknowledged in time fails, and tells of its last attempt."""
    bench = Bench(1, 1, 1)
    _, waiting = bench.established()
    bench.fail(waiting, SequenceGap("gap", expected_sequence=2))
    assert bench.window.wake_at_s == 10.0
    assert bench.calls(9.9) == []
    assert not bench.batches[2].done
    bench.calls(10.0)
    with pytest.raises(DeadlineExceeded, match=r"within 10 s.*gap"):
        bench.batches[2].record_receipt(0)


def test_a_repetition_that_would_come_too_late_is_not_waited_for() -> None:
    """The error is the attempt's own, when it ends."""
    bench = Bench(1, retry_timeout_s=0.0)
    (call,) = bench.calls()
    bench.fail(call, Unavailable("gone"))
    with pytest.raises(Unavailable, match="gone"):
        bench.batches[0].record_receipt(0)


def test_what_is_abandoned_is_over() -> None:
    """All that is unresolved fails, and reports that come later change nothing."""
    bench = Bench(2, 1, 1)
    (whole,) = bench.calls()
    bench.fail(whole, InvalidArgument("bad"))
    (left,) = bench.calls()
    bench.window.abandon(Cancelled("closed"))
    bench.succeed(left)
    bench.fail(left, Unavailable("gone"))
    for index in range(2):
        with pytest.raises(Cancelled):
            bench.batches[0].record_receipt(index)
    assert bench.window.wake_at_s is None
