"""The synchronous shell of a batching producer: locks, gRPC's own thread, and a timer.

Messages are appended by the caller's thread, under a lock, and a batch that is
full is sent by that same thread: no message crosses to another one. Answers
come in on gRPC's thread, which sends what they make room for. The timer's
thread sees to lingering batches, repetitions and deadlines only.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from types import TracebackType
from typing import Self

from mq.client.arguments import BytesLike, HeadersLike, encode_headers, to_bytes, to_key
from mq.client.flows import Invoke
from mq.client.methods import PUBLISH_BATCH
from mq.client.outgoing import Handle, OutgoingBatch
from mq.client.producer_core import ProducerCore, ProducerOptions
from mq.client.sync_transport import PendingCall, SyncTransport
from mq.client.types import Receipt
from mq.client.window import Delivery
from mq.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    MQError,
    Overloaded,
)

_clock = time.monotonic


class SyncPendingReceipt(Handle):
    """A message on its way. Ask for its `result`, as often as you like, or not at all."""

    __slots__ = ()

    def result(self, timeout_s: float | None = None) -> Receipt:
        """Wait for the receipt.

        Args:
            timeout_s: How long; None is until it is there, or has failed.

        Raises:
            DeadlineExceeded: Not within that time; the message is still on its way.
            MQError: It was not acknowledged.
        """
        if not self._batch.done and not _wait_until_done(self._batch, timeout_s):
            raise DeadlineExceeded(
                f"not acknowledged within {timeout_s:g} s, and still on its way: ask again"
            )
        return self._batch.record_receipt(self._index)


def _wait_until_done(batch: OutgoingBatch, timeout_s: float | None = None) -> bool:
    done = threading.Event()
    batch.when_done(done.set)
    # Its outcome is set before its waiters are called: one of the two is seen.
    return batch.done or done.wait(timeout_s)


class Producer:
    """Sends messages to one channel in batches, in order, each stored once.

    Made by `Client.producer`; safe to use from several threads. Close it, or use
    it as a context manager: what is not flushed at the end of the program is lost.
    """

    def __init__(self, transport: SyncTransport, channel: str, options: ProducerOptions) -> None:
        self._transport = transport
        self._core = ProducerCore(channel, options, SyncPendingReceipt)
        self._append = self._core.append
        # Two locks, taken in this order: the first keeps calls in the order of
        # their sequences, the second guards the core and is never held for long.
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._outcome = threading.Condition(self._lock)
        self._outcomes = 0
        self._tick = threading.Condition(self._lock)
        self._sleeping_until_s = 0.0
        self._timer: threading.Thread | None = None
        self._calls: set[PendingCall] = set()
        self._closed = False
        self._ended = False

    @property
    def channel(self) -> str:
        """The channel it sends to."""
        return self._core.channel

    @property
    def closed(self) -> bool:
        """Whether it takes no more messages."""
        return self._closed

    # ---- Sending ----------------------------------------------------------

    def send(
        self,
        content: BytesLike,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
    ) -> SyncPendingReceipt:
        """Add a message to the batch that is being filled; waits while the buffer is full.

        Args:
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.

        Returns:
            What can be asked for the receipt. A message that nobody asks after
            is sent all the same; `flush` tells if it failed.

        Raises:
            TypeError: Something is not bytes.
            MessageTooLarge: The buffer can never hold it.
            FailedPrecondition: The producer is closed.
        """
        if key is None and headers is None and type(content) is bytes:
            with self._lock:
                handle = self._append(content)
            if handle is not None:
                return handle
        record = to_bytes(content), to_key(key), encode_headers(headers)
        while True:
            seen = self._outcomes
            handle = self._append_record(*record)
            if handle is not None:
                return handle
            self._wait_for_outcome(seen)

    def publish(
        self,
        content: BytesLike,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
    ) -> Receipt:
        """Send a message and wait until it is stored.

        Args:
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.

        Raises:
            TypeError: Something is not bytes.
            MQError: It was not acknowledged.
        """
        return self.send(content, key, headers).result()

    def send_nowait(
        self,
        content: BytesLike,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
    ) -> SyncPendingReceipt:
        """Add a message without waiting.

        Args:
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.

        Returns:
            What can be asked for the receipt.

        Raises:
            Overloaded: The buffer is full: the message was not taken.
            TypeError: Something is not bytes.
            MessageTooLarge: The buffer can never hold it.
            FailedPrecondition: The producer is closed.
        """
        handle = self._append_record(to_bytes(content), to_key(key), encode_headers(headers))
        if handle is None:
            raise Overloaded(
                f"the producer's buffer is full ({self._core.held_bytes} bytes): try again "
                "later, or use send(), which waits, or raise buffer_bytes"
            )
        return handle

    def _append_record(
        self, content: bytes, key: bytes, headers: bytes
    ) -> SyncPendingReceipt | None:
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the producer is closed: make a new one")
            handle = self._core.append_record(content, key, headers, _clock())
        if handle is None or handle._index == 0:  # noqa: SLF001 - a batch was filled or begun
            self._pump()
        return handle

    # ---- Delivering -------------------------------------------------------

    def _pump(self) -> None:
        """Start all calls that may go now, and see to it that the next one isn't missed."""
        started: list[tuple[Delivery, PendingCall]] = []
        with self._sending:
            while (delivery := self._next_delivery()) is not None:
                call = self._begin(delivery)
                if call is not None:
                    started.append((delivery, call))
        # A call that is over already calls back at once, on this thread: hold no lock.
        for delivery, call in started:
            call.add_done_callback(partial(self._on_done, delivery))
        with self._lock:
            self._set_timer()

    def _next_delivery(self) -> Delivery | None:
        with self._lock:
            return None if self._ended else self._core.next_delivery(_clock())

    def _begin(self, delivery: Delivery) -> PendingCall | None:
        timeout_s = self._core.call_timeout_s(delivery, _clock())
        try:
            call = self._transport.begin(Invoke(PUBLISH_BATCH, delivery.request, timeout_s))
        except MQError as error:
            with self._lock:
                self._core.failed(delivery, error, _clock())
            return None
        with self._lock:
            self._calls.add(call)
        return call

    def _on_done(self, delivery: Delivery, call: PendingCall) -> None:
        """A call is over. On gRPC's thread, as a rule."""
        response, error = b"", None
        try:
            response = self._transport.finish(call)
        except MQError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - no batch is left without an outcome
            error = Internal(f"the call failed in the client: {caught!r}")
        with self._lock:
            self._calls.discard(call)
            if error is None:
                self._core.succeeded(delivery, response, _clock())
            else:
                self._core.failed(delivery, error, _clock())
        self._pump()
        self._tell_outcome()

    def _wait_for_outcome(self, seen: int) -> None:
        with self._outcome:
            self._outcome.wait_for(lambda: self._outcomes != seen or self._closed)

    def _tell_outcome(self) -> None:
        """Let those who wait for room look again."""
        with self._outcome:
            self._outcomes += 1
            self._outcome.notify_all()

    # ---- The timer --------------------------------------------------------

    def _set_timer(self) -> None:
        """Have the timer's thread wake up early enough. Needs the lock."""
        wake_at_s = self._core.wake_at_s
        if wake_at_s is None or self._ended:
            return
        if self._timer is None:
            name = f"mq-producer-{self.channel}"
            self._timer = threading.Thread(target=self._run_timer, name=name, daemon=True)
            self._timer.start()
        elif wake_at_s < self._sleeping_until_s:
            self._tick.notify()

    def _run_timer(self) -> None:
        while self._sleep():
            self._pump()
            self._tell_outcome()

    def _sleep(self) -> bool:
        """Wait until there is something to do; False once the producer has ended."""
        with self._lock:
            while not self._ended:
                wake_at_s = self._core.wake_at_s
                remaining = None if wake_at_s is None else wake_at_s - _clock()
                if remaining is not None and remaining <= 0:
                    return True
                self._sleeping_until_s = float("inf") if wake_at_s is None else wake_at_s
                self._tick.wait(remaining)
                self._sleeping_until_s = 0.0
            return False

    # ---- Ending -----------------------------------------------------------

    def flush(self) -> None:
        """Wait until all that was sent before is acknowledged.

        Raises:
            MQError: The first failure since the last flush that no receipt
                asked for has raised.
        """
        self._drain(None)
        self._raise_failure()

    def _drain(self, deadline_s: float | None) -> None:
        with self._lock:
            self._core.hurry()
            pending = self._core.pending()
        self._pump()
        for batch in pending:
            remaining = None if deadline_s is None else max(0.0, deadline_s - _clock())
            if not batch.done and not _wait_until_done(batch, remaining):
                return

    def _raise_failure(self) -> None:
        with self._lock:
            error = self._core.take_failure()
        if error is not None:
            raise error

    def close(self, timeout_s: float | None = None) -> None:
        """Flush and end. Closing again does nothing.

        Args:
            timeout_s: How long to flush at most; what is not acknowledged then
                fails with `Cancelled`. None leaves it to ``delivery_timeout_s``.

        Raises:
            MQError: As `flush` does.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._outcome.notify_all()
        try:
            self._drain(None if timeout_s is None else _clock() + timeout_s)
        finally:
            self.abort()
        self._raise_failure()

    def abort(self) -> None:
        """End without flushing: what is not acknowledged fails with `Cancelled`."""
        with self._lock:
            self._closed = self._ended = True
            self._core.abandon(
                Cancelled("the producer was closed before this was acknowledged; it may be stored")
            )
            calls = list(self._calls)
            self._tick.notify_all()
            self._outcome.notify_all()
            timer, self._timer = self._timer, None
        for call in calls:
            call.cancel()
        if timer is not None:
            timer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush and end; only end where the block was interrupted."""
        if exc is None:
            self.close()
        elif isinstance(exc, Exception):
            try:
                self.close()
            except MQError as error:
                exc.add_note(f"and the producer could not deliver everything: {error}")
        else:
            self.abort()
