"""A batching producer without its I/O: what both shells drive.

A shell appends messages, asks `next_delivery` for calls to make whenever
something has happened or `wake_at_s` has come, and reports how they ended.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from mq.client.accumulator import Accumulator, BatchLimits, H
from mq.client.arguments import check_channel
from mq.client.backoff import Backoff
from mq.client.outgoing import OutgoingBatch
from mq.client.schedule import NO_SCHEDULE, Schedule
from mq.client.types import Durability, durability_number, parse_receipt
from mq.client.window import Delivery, Window
from mq.errors import DeadlineExceeded, Internal, InvalidArgument, MQError
from mq.pb import mq_pb2 as pb

_FAILURES_KEPT = 100
_PRODUCER_ID_BITS = 63
_CALL_TIMEOUT_MIN_S = 0.001


def random_producer_id() -> int:
    """A producer id that no one else has: 63 random bits, not zero."""
    return secrets.randbits(_PRODUCER_ID_BITS) or 1


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """How a producer batches, sends and gives up.

    Raises:
        InvalidArgument: Options that contradict each other.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    max_in_flight: int = 5
    durability: Durability | None = None
    delivery_timeout_s: float = 120.0
    retry_timeout_s: float | None = None
    call_timeout_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)
    new_producer_id: Callable[[], int] = random_producer_id
    schedule: Schedule = NO_SCHEDULE
    """Of every message; one number each."""

    def __post_init__(self) -> None:
        if self.delivery_timeout_s <= self.limits.linger_s:
            raise InvalidArgument(
                f"delivery_timeout_s ({self.delivery_timeout_s:g}) is longer than the linger "
                f"({self.limits.linger_s:g} s)"
            )


class ProducerCore(Generic[H]):
    """Accumulator and window of one producer to one channel."""

    def __init__(self, channel: str, options: ProducerOptions, handle_type: type[H]) -> None:
        self.channel = check_channel(channel)
        self._options = options
        self._durability = durability_number(options.durability)
        self._accumulator = Accumulator(options.limits, handle_type, options.schedule)
        self._window = Window(
            max_in_flight=options.max_in_flight,
            delivery_timeout_s=options.delivery_timeout_s,
            retry_timeout_s=options.retry_timeout_s,
            new_producer_id=options.new_producer_id,
            backoff=options.backoff,
        )
        self._failures: deque[OutgoingBatch] = deque(maxlen=_FAILURES_KEPT)
        self.append = self._accumulator.append
        self.append_record = self._accumulator.append_record
        self.hurry = self._accumulator.hurry

    # ---- Sending ----------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no message waits, and none is on its way."""
        return self._window.idle and self._accumulator.oldest_created_s is None

    def next_delivery(self, now: float) -> Delivery | None:
        """The next call to make, its request encoded; None until something happens."""
        self._expire(now)
        delivery = self._window.next(now, lambda: self._take(now))
        if delivery is not None and not delivery.request:
            delivery.request = self._encode(delivery)
        return delivery

    def _take(self, now: float) -> OutgoingBatch | None:
        batch = self._accumulator.take(now)
        if batch is not None:
            batch.when_done(partial(self._finished, batch))
        return batch

    def _finished(self, batch: OutgoingBatch) -> None:
        self._accumulator.release(batch)
        self._failures.extend(batch.failures())

    def _encode(self, delivery: Delivery) -> bytes:
        request = pb.PublishBatchRequest(
            channel=self.channel,
            records=delivery.batch.records,
            records_crc=delivery.batch.crc,
            producer_id=delivery.producer_id,
            sequence=delivery.sequence,
            durability=self._durability,  # type: ignore[arg-type]
        )
        return request.SerializeToString()

    def call_timeout_s(self, delivery: Delivery, now: float) -> float:
        """How long a call may take that begins now."""
        remaining = delivery.batch.created_s + self._options.delivery_timeout_s - now
        return max(_CALL_TIMEOUT_MIN_S, min(self._options.call_timeout_s, remaining))

    @property
    def wake_at_s(self) -> float | None:
        """When to ask `next_delivery` again if nothing happens before."""
        times = [self._window.wake_at_s]
        if self._window.has_room:
            times.append(self._accumulator.due_at_s)
        oldest = self._accumulator.oldest_created_s
        if oldest is not None:
            times.append(oldest + self._options.delivery_timeout_s)
        return min((each for each in times if each is not None), default=None)

    # ---- Outcomes ---------------------------------------------------------

    def succeeded(self, delivery: Delivery, response: bytes, now: float) -> None:
        """A call was answered with this serialized `PublishBatchResponse`."""
        try:
            receipt = parse_receipt(response)
        except Internal as error:
            self._window.failed(delivery, error, now)
        else:
            self._window.succeeded(delivery, receipt)

    def failed(self, delivery: Delivery, error: MQError, now: float) -> None:
        """A call ended with this error."""
        self._window.failed(delivery, error, now)

    def abandon(self, error: MQError) -> None:
        """Fail everything that isn't acknowledged."""
        self._window.abandon(error)
        self.hurry()
        while (batch := self._take(float("inf"))) is not None:
            batch.fail(error)

    def _expire(self, now: float) -> None:
        timeout_s = self._options.delivery_timeout_s
        while (oldest := self._accumulator.oldest_created_s) is not None:
            if oldest + timeout_s > now:
                return
            batch = self._take(now)
            assert batch is not None, "what is that old is due"
            batch.fail(
                DeadlineExceeded(
                    f"not sent within {timeout_s:g} s (delivery_timeout_s): "
                    "the broker is away, or slower than the producer"
                )
            )

    # ---- Flushing ---------------------------------------------------------

    def pending(self) -> list[OutgoingBatch]:
        """All batches whose fate is open, oldest first."""
        return self._accumulator.held()

    def take_failure(self) -> MQError | None:
        """The first failure that no handle has told of, once; all are then forgotten."""
        errors = [batch.error for batch in self._failures if not batch.error_seen]
        self._failures.clear()
        return errors[0] if errors else None

    @property
    def held_bytes(self) -> int:
        """Bytes of the buffer in use."""
        return self._accumulator.held_bytes
