"""Which batch is sent when, under which sequence: order kept, nothing doubled.

The broker's rule, for one producer id: it takes the sequence after the last
one, answers a repeat of the last 16 with the first receipt, and refuses a
sequence that skips one (`SequenceGap`). A producer id that it doesn't know may
begin anywhere. From that rule follows what is done here:

- Unresolved batches lie within `IN_FLIGHT_LIMIT` sequences, so a repeat is
  always remembered. The first batch of a producer id goes alone, since any of several
  could arrive first and become the beginning.
- A call that ends without the broker's word (connection lost, out of time) may
  have been carried out: it is sent again as it was, under its sequence. Batches
  go again in order, none before its predecessor is on its way.
- A batch that is refused for good leaves its sequence unused, so everything
  after it would be a gap for ever. That makes the rest safe to send under a new
  producer id: no earlier call of theirs, still on its way somewhere, can be
  taken any more. Where an earlier call of the refused batch itself may still be
  taken, that is not so; then those after it whose fate is unknown fail with it,
  and only those that were certainly not taken go on.

Pure: the time, the random numbers and the outcome of calls are passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mq.client.backoff import Backoff
from mq.client.outgoing import OutgoingBatch
from mq.client.types import BatchReceipt
from mq.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    InvalidArgument,
    MessageTooLarge,
    MQError,
    PermissionDenied,
    ResourceExhausted,
    SequenceGap,
    SequenceTooOld,
    Unauthenticated,
)

# The broker remembers the receipts of this many batches of a producer.
IN_FLIGHT_LIMIT = 16

# With these the broker says that nothing was written.
_NOTHING_WRITTEN = (
    InvalidArgument,
    ResourceExhausted,
    ChannelNotFound,
    PermissionDenied,
    SequenceGap,
    Unauthenticated,
)
# Of these, the ones that concern what a batch holds, and maybe one message of it only.
# (Any ResourceExhausted without a reason is gRPC's own limit on the size of a call.)
_FOR_ITS_CONTENT = frozenset({InvalidArgument, MessageTooLarge, ResourceExhausted})


@dataclass(slots=True, eq=False)
class Delivery:
    """A batch under a sequence, from its first call to its outcome."""

    batch: OutgoingBatch
    producer_id: int
    sequence: int
    request: bytes = b""
    """The shell's: the encoded call, the same for each attempt."""
    in_flight: bool = False
    uncertain: bool = False
    """A call of it ended without the broker's word, so it may be stored."""
    failures: int = 0
    retry_at_s: float = 0.0
    blocked_by: int = 0
    """The sequence that the broker wants to see before it."""
    acknowledged_at_send: int = 0
    refused: bool = False
    rest: tuple[OutgoingBatch, ...] = ()
    """Of a refused batch: what to send in its place."""
    last_error: MQError | None = None


class Window:
    """The batches that are on their way, and the state of one producer id."""

    def __init__(
        self,
        *,
        max_in_flight: int,
        delivery_timeout_s: float,
        new_producer_id: Callable[[], int],
        retry_timeout_s: float | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        if not 1 <= max_in_flight <= IN_FLIGHT_LIMIT:
            raise InvalidArgument(
                f"max_in_flight is from 1 to {IN_FLIGHT_LIMIT}, which is as many batches of a "
                f"producer as a broker remembers: {max_in_flight}"
            )
        self._max_in_flight = max_in_flight
        self._delivery_timeout_s = delivery_timeout_s
        self._retry_timeout_s = delivery_timeout_s if retry_timeout_s is None else retry_timeout_s
        self._new_producer_id = new_producer_id
        self._backoff = backoff or Backoff()
        self._sent: deque[Delivery] = deque()  # unresolved, in order of sequence
        self._backlog: deque[OutgoingBatch] = deque()  # to be sent again under a new id
        self._begin()

    def _begin(self) -> None:
        self._producer_id = self._new_producer_id()
        self._next_sequence = 1
        self._acknowledged = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is unresolved."""
        return not self._sent and not self._backlog

    # ---- What to send -----------------------------------------------------

    def next(self, now: float, supply: Callable[[], OutgoingBatch | None]) -> Delivery | None:
        """The next call to make, now; None until something happens or `wake_at_s`.

        Args:
            now: Seconds.
            supply: Gives the next batch, if there is one.
        """
        self._expire(now)
        self._restart_if_broken()
        again = self._first_waiting()
        if again is not None:
            return self._send(again) if self._may_go(again, now) else None
        if not self._has_room():
            return None
        batch = self._backlog.popleft() if self._backlog else supply()
        if batch is None:
            return None
        delivery = Delivery(batch, self._producer_id, self._next_sequence)
        self._next_sequence += 1
        self._sent.append(delivery)
        return self._send(delivery)

    def _send(self, delivery: Delivery) -> Delivery:
        delivery.in_flight = True
        delivery.blocked_by = 0
        delivery.acknowledged_at_send = self._acknowledged
        return delivery

    def _first_waiting(self) -> Delivery | None:
        """The batch that goes again before any other; None where all are in flight."""
        return next((each for each in self._sent if not each.in_flight), None)

    def _may_go(self, delivery: Delivery, now: float) -> bool:
        return now >= delivery.retry_at_s and not self._is_held_up(delivery)

    def _is_held_up(self, delivery: Delivery) -> bool:
        """Whether a call has to end before this batch, the first waiting one, may go again.

        Later batches in flight are waited for: they are bound to be gaps, and
        going again behind them would keep calls out of order for good.
        """
        first = self._sent[0]
        blocked = delivery is not first and first.sequence <= delivery.blocked_by
        overtaken = any(each.in_flight and each.sequence > delivery.sequence for each in self._sent)
        return delivery.refused or blocked or overtaken

    def _has_room(self) -> bool:
        if not self._sent:
            return True
        # Unresolved batches may have resolved ones between them: the span counts too.
        span = self._next_sequence - self._sent[0].sequence
        known = self._acknowledged > 0
        return known and len(self._sent) < self._max_in_flight and span < IN_FLIGHT_LIMIT

    @property
    def wake_at_s(self) -> float | None:
        """When `next` may have something to do without anything happening."""
        waiting = [each for each in self._sent if not each.in_flight]
        batches = [each.batch for each in waiting if not each.refused] + [*self._backlog]
        times = [batch.created_s + self._delivery_timeout_s for batch in batches]
        if waiting and not self._is_held_up(waiting[0]):
            times.append(waiting[0].retry_at_s)
        return min(times, default=None)

    @property
    def has_room(self) -> bool:
        """Whether a new batch could be sent now."""
        return not self._backlog and self._has_room() and all(each.in_flight for each in self._sent)

    # ---- What became of it ------------------------------------------------

    def succeeded(self, delivery: Delivery, receipt: BatchReceipt) -> None:
        """The broker has stored the batch; nothing where all was abandoned meanwhile."""
        if delivery not in self._sent:
            return
        self._sent.remove(delivery)
        self._acknowledged = max(self._acknowledged, delivery.sequence)
        delivery.batch.succeed(receipt)

    def failed(self, delivery: Delivery, error: MQError, now: float) -> None:
        """The call ended with this error; nothing where all was abandoned meanwhile."""
        if delivery not in self._sent:
            return
        delivery.in_flight = False
        delivery.last_error = error
        if isinstance(error, SequenceGap):
            self._gap(delivery, error, now)
        elif isinstance(error, SequenceTooOld):
            # Taken long ago, so its sequence is not unused: the others just go on.
            self._sent.remove(delivery)
            self._acknowledged = max(self._acknowledged, delivery.sequence)
            delivery.batch.fail(error)
        else:
            if type(error) is InvalidArgument:
                delivery.uncertain = False  # the same bytes were never acceptable
            elif not isinstance(error, _NOTHING_WRITTEN):
                delivery.uncertain = True
            if error.retriable:
                self._retry(delivery, error, now)
            else:
                self._refuse(delivery, error)

    def _retry(self, delivery: Delivery, error: MQError, now: float) -> None:
        delivery.failures += 1
        delivery.retry_at_s = now + self._backoff.delay_s(delivery.failures)
        if delivery.retry_at_s >= delivery.batch.created_s + self._retry_timeout_s:
            self._refuse(delivery, error)

    def _gap(self, delivery: Delivery, error: SequenceGap, now: float) -> None:
        expected = error.expected_sequence
        if 0 < expected <= delivery.acknowledged_at_send:
            # The broker has lost what it had acknowledged, and counts from there.
            delivery.uncertain = False
            delivery.refused = True
            delivery.rest = (delivery.batch,)
        elif 0 < expected < delivery.sequence:
            delivery.blocked_by = expected
        else:
            delivery.blocked_by = delivery.sequence - 1
            self._retry(delivery, error, now)

    def _refuse(self, delivery: Delivery, error: MQError) -> None:
        delivery.refused = True
        batch = delivery.batch
        divisible = batch.record_count > 1 and not delivery.uncertain
        if divisible and type(error) in _FOR_ITS_CONTENT:
            delivery.rest = batch.split()
        else:
            batch.fail(error)

    # ---- Time, and starting over ------------------------------------------

    def _expire(self, now: float) -> None:
        for delivery in self._sent:
            idle = not delivery.in_flight and not delivery.refused
            if idle and self._is_late(delivery.batch, now):
                delivery.refused = True
                delivery.batch.fail(self._out_of_time(delivery.last_error))
        while self._backlog and self._is_late(self._backlog[0], now):
            self._backlog.popleft().fail(self._out_of_time(None))

    def _is_late(self, batch: OutgoingBatch, now: float) -> bool:
        return batch.created_s + self._delivery_timeout_s <= now

    def _out_of_time(self, last_error: MQError | None) -> DeadlineExceeded:
        why = f"; the last attempt ended with: {last_error}" if last_error else ""
        return DeadlineExceeded(
            f"not acknowledged within {self._delivery_timeout_s:g} s (delivery_timeout_s){why}"
        )

    def _restart_if_broken(self) -> None:
        """Once the first unresolved batch is a refused one and no call is out: start over."""
        if not self._sent or not self._sent[0].refused:
            return
        if any(each.in_flight for each in self._sent):
            return
        doubtful = self._sent[0].uncertain
        again: list[OutgoingBatch] = []
        for delivery in self._sent:
            if delivery.refused:
                again += delivery.rest
            elif doubtful and delivery.uncertain:
                delivery.batch.fail(self._lost_track(delivery.last_error))
            else:
                again.append(delivery.batch)
        self._sent.clear()
        self._backlog.extendleft(reversed(again))
        self._begin()

    @staticmethod
    def _lost_track(last_error: MQError | None) -> DeadlineExceeded:
        return DeadlineExceeded(
            "it isn't known whether this batch was stored, and an earlier one failed, so that "
            f"sending it again could store it twice; the last attempt ended with: {last_error}"
        )

    def abandon(self, error: MQError) -> None:
        """Fail everything unresolved; their calls are the caller's to cancel."""
        for delivery in self._sent:
            if not delivery.refused:
                delivery.batch.fail(error)
            for batch in delivery.rest:
                batch.fail(error)
        for batch in self._backlog:
            batch.fail(error)
        self._sent.clear()
        self._backlog.clear()
