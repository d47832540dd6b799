"""The asynchronous shell of a batching producer: a timer, and a task a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import partial
from types import TracebackType
from typing import Self

from mq.client.aio_transport import AioTransport, PendingCall
from mq.client.arguments import BytesLike, HeadersLike, encode_headers, to_bytes, to_key
from mq.client.flows import Invoke
from mq.client.methods import PUBLISH_BATCH
from mq.client.outgoing import Handle, OutgoingBatch
from mq.client.producer_core import ProducerCore, ProducerOptions
from mq.client.types import Receipt
from mq.client.window import Delivery
from mq.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    MQError,
    Overloaded,
    Unavailable,
)


class PendingReceipt(Handle):
    """A message on its way. Await it for its `Receipt`, as often as you like, or not at all."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, Receipt]:
        if not self._batch.done:
            yield from _until_done(self._batch).__await__()
        return self._batch.record_receipt(self._index)


def _until_done(batch: OutgoingBatch) -> asyncio.Future[None]:
    # A future for each who waits: cancelling one of them leaves the others alone.
    future = asyncio.get_running_loop().create_future()
    batch.when_done(partial(_wake, future))
    return future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AsyncProducer:
    """Sends messages to one channel in batches, in order, each stored once.

    Made by `AsyncClient.producer`, and used in one event loop.
    """

    def __init__(self, transport: AioTransport, channel: str, options: ProducerOptions) -> None:
        self._transport = transport
        self._core = ProducerCore(channel, options, PendingReceipt)
        self._append = self._core.append
        self._calls: dict[asyncio.Task[None], PendingCall] = {}
        # That of a publish which waits for it itself.
        self._alone: PendingCall | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_senders: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def channel(self) -> str:
        """The channel it sends to."""
        return self._core.channel

    @property
    def closed(self) -> bool:
        """Whether it takes no more messages."""
        return self._closed

    # ---- Sending ----------------------------------------------------------

    async def send(
        self,
        content: BytesLike,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
    ) -> PendingReceipt:
        """Add a message to the batch that is being filled.

        Waits only while the buffer is full, and lets other tasks run once a
        batch.

        Args:
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.

        Returns:
            What can be awaited for the receipt. A message that nobody asks
            after is sent all the same; `flush` tells if it failed.

        Raises:
            TypeError: Something is not bytes.
            MessageTooLarge: The buffer can never hold it.
            FailedPrecondition: The producer is closed.
        """
        if key is None and headers is None and type(content) is bytes:
            handle = self._append(content)
            if handle is not None:
                return handle
        handle = await self._append_or_wait(content, key, headers)
        if handle._index == 0:  # noqa: SLF001 - the first of its batch
            await asyncio.sleep(0)
        return handle

    async def publish(
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
        if self._core.idle:
            return await self._publish_alone(content, key, headers)
        return await (await self._append_or_wait(content, key, headers))

    async def _publish_alone(
        self, content: BytesLike, key: BytesLike | None, headers: HeadersLike | None
    ) -> Receipt:
        """With nothing else under way: the caller waits for the call itself, not for a task."""
        record = to_bytes(content), to_key(key), encode_headers(headers)
        handle = self._append_record(*record, begin=False)
        assert handle is not None, "an empty buffer has room"
        for delivery, call in self._begin():
            if delivery.batch is handle._batch:  # noqa: SLF001
                self._alone = call
                await self._deliver_alone(delivery, call)
            else:
                self._start(delivery, call)
        return await handle

    async def _deliver_alone(self, delivery: Delivery, call: PendingCall) -> None:
        try:
            await self._deliver(delivery, call)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                return  # the call was, by abort(): the batch knows
            # It may be stored, and those behind it wait to know: send it again.
            error = Unavailable("whoever published it was cancelled")
            self._core.failed(delivery, error, asyncio.get_running_loop().time())
            if not self._closed:
                self._pump()
            raise
        finally:
            self._alone = None

    async def _append_or_wait(
        self, content: BytesLike, key: BytesLike | None, headers: HeadersLike | None
    ) -> PendingReceipt:
        record = to_bytes(content), to_key(key), encode_headers(headers)
        while (handle := self._append_record(*record)) is None:
            await self._room()
        return handle

    def send_nowait(
        self,
        content: BytesLike,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
    ) -> PendingReceipt:
        """Add a message without waiting. Nothing is sent until the caller awaits something.

        Args:
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.

        Returns:
            What can be awaited for the receipt.

        Raises:
            Overloaded: The buffer is full: the message was not taken.
            TypeError: Something is not bytes.
            MessageTooLarge: The buffer can never hold it.
            FailedPrecondition: The producer is closed.
        """
        if key is None and headers is None and type(content) is bytes:
            handle = self._append(content)
            if handle is not None:
                return handle
        handle = self._append_record(to_bytes(content), to_key(key), encode_headers(headers))
        if handle is None:
            raise Overloaded(
                f"the producer's buffer is full ({self._core.held_bytes} bytes): await something, "
                "or use send(), which waits, or raise buffer_bytes"
            )
        return handle

    def _append_record(
        self, content: bytes, key: bytes, headers: bytes, *, begin: bool = True
    ) -> PendingReceipt | None:
        if self._closed:
            raise FailedPrecondition("the producer is closed: make a new one")
        loop = asyncio.get_running_loop()
        handle = self._core.append_record(content, key, headers, loop.time())
        # A batch was filled or begun.
        if begin and (handle is None or handle._index == 0):  # noqa: SLF001
            self._pump()
        return handle

    async def _room(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting_senders.append(future)
        await future

    # ---- Delivering -------------------------------------------------------

    def _pump(self) -> None:
        """Start all calls that may go now, and see to it that the next one isn't missed."""
        for delivery, call in self._begin():
            self._start(delivery, call)

    def _start(self, delivery: Delivery, call: PendingCall) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(delivery, call))
        self._calls[task] = call
        task.add_done_callback(self._calls.pop)

    def _begin(self) -> list[tuple[Delivery, PendingCall]]:
        """All calls that may go now, to be waited for; and the timer for the next one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        begun = []
        while (delivery := self._core.next_delivery(now)) is not None:
            timeout_s = self._core.call_timeout_s(delivery, now)
            try:
                call = self._transport.begin(Invoke(PUBLISH_BATCH, delivery.request, timeout_s))
            except MQError as error:
                self._core.failed(delivery, error, now)
                continue
            begun.append((delivery, call))
        self._set_timer(loop)
        return begun

    async def _deliver(self, delivery: Delivery, call: PendingCall) -> None:
        clock = asyncio.get_running_loop().time
        try:
            response = await self._transport.finish(call)
        except MQError as error:
            self._core.failed(delivery, error, clock())
        except Exception as error:  # noqa: BLE001 - no batch is left without an outcome
            failure = Internal(f"the call failed in the client: {error!r}")
            self._core.failed(delivery, failure, clock())
        else:
            self._core.succeeded(delivery, response, clock())
        self._pump()
        self._wake_senders()

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        wake_at_s = self._core.wake_at_s
        if self._timer is not None:
            if wake_at_s is not None and self._timer.when() <= wake_at_s:
                return  # it sets itself again
            self._timer.cancel()
            self._timer = None
        if wake_at_s is not None:
            self._timer = loop.call_at(wake_at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()
        self._wake_senders()

    def _wake_senders(self) -> None:
        """Let those who wait for room look again."""
        waiting, self._waiting_senders = self._waiting_senders, []
        for future in waiting:
            _wake(future)

    # ---- Ending -----------------------------------------------------------

    async def flush(self) -> None:
        """Wait until all that was sent before is acknowledged.

        Raises:
            MQError: The first failure since the last flush that no awaited
                receipt has raised.
        """
        await self._drain()
        error = self._core.take_failure()
        if error is not None:
            raise error

    async def _drain(self) -> None:
        self._core.hurry()
        self._pump()
        for batch in self._core.pending():
            if not batch.done:
                await _until_done(batch)

    async def close(self, timeout_s: float | None = None) -> None:
        """Flush and end. Closing again does nothing.

        Args:
            timeout_s: How long to flush at most; what is not acknowledged then
                fails with `Cancelled`. None leaves it to ``delivery_timeout_s``.

        Raises:
            MQError: As `flush` does.
        """
        if self._closed:
            return
        self._closed = True
        self._wake_senders()
        try:
            async with asyncio.timeout(timeout_s):
                await self._drain()
        except TimeoutError:
            pass
        finally:
            self.abort()
        await asyncio.gather(*self._calls, return_exceptions=True)
        error = self._core.take_failure()
        if error is not None:
            raise error

    def abort(self) -> None:
        """End without flushing: what is not acknowledged fails with `Cancelled`."""
        self._closed = True
        self._core.abandon(
            Cancelled("the producer was closed before this was acknowledged; it may be stored")
        )
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task, call in self._calls.items():
            task.cancel()
            call.cancel()  # the task may not have begun, and then wouldn't pass it on
        if self._alone is not None:
            self._alone.cancel()
        self._wake_senders()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush and end; only end where the block was cancelled or interrupted."""
        if exc is None:
            await self.close()
        elif isinstance(exc, Exception):
            try:
                await self.close()
            except MQError as error:
                exc.add_note(f"and the producer could not deliver everything: {error}")
        else:
            self.abort()
