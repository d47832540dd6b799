"""The fast front: pygrpc-native, HTTP/2 in Rust outside the GIL.

A dispatcher thread an address takes calls from the library, as many as have
come, and hands the whole list to the event loop at once; there each becomes a
light object and its handler runs without a task. That is also what group
commit wants: publishes that arrive together are handled together.

What it lacks: TLS, and a limit on a request's size while it is received. So it
is for loopback, Unix sockets and trusted networks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from pygrpc_native import (
    EVENT_CANCEL,
    STREAM_CLOSED,
    STREAM_SENT,
    NativeGrpcFront,
)

from mq.errors import MQError
from mq.server.call import Metadata, Method
from mq.server.fronts import base
from mq.server.fronts.address import Address, claim, unbound
from mq.server.fronts.base import CallBase, CallObserver, Limits, run_stream
from mq.server.fronts.fallback import Fallback
from mq.server.status import (
    OK,
    Status,
    internal,
    overloaded,
    stopping,
    to_status,
    too_large,
)

# How many calls one trip across the GIL may carry.
_BATCH_EVENTS_MAX = 512
# A stream's queue in the library holds one message. A reader that keeps up has
# it empty again within some turns of the loop; one that doesn't is polled.
_FULL_TURNS = 50
_FULL_WAIT_MIN_S = 0.001
_FULL_WAIT_MAX_S = 0.05
# How long answers may take to leave after the grace is over.
_FLUSH_S = 1.0
_STOP_POLL_S = 0.005
_CLOSE_TIMEOUT_S = 5.0

Details = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]


class NativeCall(CallBase):
    """A call of the native front."""

    __slots__ = ("_details", "_id", "_listener", "_now", "method_id")

    def __init__(
        self,
        listener: Listener,
        call_id: int,
        method_id: int,
        request: bytes,
        details: Details,
        now: float,
    ) -> None:
        # CallBase's own, written out: this runs once a call.
        self.request = request
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.over = False
        self.task: asyncio.Task[None] | None = None
        self.method_id = method_id
        self._listener = listener
        self._id = call_id
        self._details = details
        self._now = now

    @property
    def peer(self) -> str:
        """See `Call`."""
        return self._details[1]

    @property
    def metadata(self) -> Metadata:
        """See `Call`."""
        return self._details[0]

    @property
    def deadline(self) -> float | None:
        """See `Call`."""
        remaining_s = self._details[2]
        return None if remaining_s is None else self._now + remaining_s

    def reply(self, response: bytes) -> None:
        """See `Call`."""
        if self.over:
            return
        self.over = True
        self.on_cancel = None
        listener = self._listener
        del listener.calls[self._id]
        listener.respond(self._id, response)
        listener.finished(self.method_id, OK)

    def fail(self, error: MQError) -> None:
        """See `Call`."""
        self.fail_with(to_status(error))

    def fail_with(self, status: Status) -> None:
        """End the call with a status other than OK."""
        if self.over:
            return
        self.over = True
        self.on_cancel = None
        listener = self._listener
        del listener.calls[self._id]
        listener.library.fail(self._id, status.code, status.message, status.metadata)
        listener.finished(self.method_id, status.code)

    async def send(self, message: bytes) -> bool:
        """See `Call`."""
        turns = 0
        wait_s = _FULL_WAIT_MIN_S
        while not self.over:
            result = self._listener.try_send(self._id, message)
            if result == STREAM_SENT:
                return True
            if result == STREAM_CLOSED:
                # The event that says so is on its way.
                self._listener.on_cancel(self._id)
                return False
            turns += 1
            if turns <= _FULL_TURNS:
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _FULL_WAIT_MAX_S)
        return False

    def end(self) -> None:
        """See `Call`."""
        if self.over:
            return
        self.over = True
        self.on_cancel = None
        listener = self._listener
        del listener.calls[self._id]
        listener.library.stream_end(self._id)
        listener.finished(self.method_id, OK)


class Listener:
    """One address of the front: the library's server and its calls in flight."""

    def __init__(
        self,
        address: Address,
        methods: Sequence[Method],
        limits: Limits,
        observer: CallObserver,
        listeners: Sequence[Listener],
    ) -> None:
        self._methods = methods
        self._limits = limits
        self._listeners = listeners
        self._stopping = False
        self._started = observer.started
        self.finished = observer.finished
        self.calls: dict[int, NativeCall] = {}
        self._loop = asyncio.get_running_loop()
        try:
            self.library = NativeGrpcFront(
                str(address),
                [(method.path, method.streaming) for method in methods],
                # Without it, the cancellation of a unary call is never told.
                call_details=True,
                delay_stream_headers=True,
                # To know, when stopping, that answers have left.
                metrics=True,
                keepalive_time_ms=base.KEEPALIVE_TIME_MS,
                keepalive_timeout_ms=base.KEEPALIVE_TIMEOUT_MS,
                max_concurrent_streams=limits.max_streams_per_connection,
                max_metadata_size=limits.max_metadata_bytes,
            )
        except OSError as error:
            raise unbound(address, error) from error
        self.address = address if address.path else address._replace(port=self.library.bound_port)
        self.respond = self.library.respond
        self.try_send = self.library.stream_try_send
        self._thread = threading.Thread(
            target=self._dispatch, name=f"mq-front {self.address}", daemon=True
        )

    def start(self) -> None:
        """Accept connections."""
        self.library.start()
        self._thread.start()

    def _dispatch(self) -> None:
        receive, time = self.library.recv_batch_details, self._loop.time
        while (events := receive(_BATCH_EVENTS_MAX)) is not None:
            try:
                self._loop.call_soon_threadsafe(self._on_events, events, time())
            except RuntimeError:
                # The loop was closed without stop().
                self.library.close()
                return

    def _on_events(self, events: list[Any], now: float) -> None:
        calls = self.calls
        methods = self._methods
        max_recv_bytes = self._limits.max_recv_bytes
        elsewhere = sum(len(listener.calls) for listener in self._listeners) - len(calls)
        calls_max = self._limits.max_concurrent_calls - elsewhere
        for kind, call_id, method_id, payload, _, details in events:
            if kind == EVENT_CANCEL:
                self.on_cancel(call_id)
                continue
            self._started(method_id)
            call = NativeCall(self, call_id, method_id, payload, details, now)
            calls[call_id] = call
            if len(payload) > max_recv_bytes:
                call.fail_with(too_large(len(payload), max_recv_bytes))
                continue
            path, streaming, handler = methods[method_id]
            if self._stopping or (len(calls) > calls_max and path != base.UNLIMITED_PATH):
                self._refuse(call)
                continue
            if streaming:
                call.task = self._loop.create_task(run_stream(call, methods[method_id]))
                continue
            try:
                handler(call)
            except MQError as error:
                call.fail(error)
            except Exception:  # noqa: BLE001 a handler's bug is its caller's alone
                base.log_bug(path)
                call.fail(internal())

    def on_cancel(self, call_id: int) -> None:
        """A client is gone or out of time; nothing if its call is over."""
        call = self.calls.pop(call_id, None)
        if call is None:
            return
        call.cancel()
        self.finished(call.method_id, base.cancel_code(call.deadline, self._loop.time()))

    def _refuse(self, call: NativeCall) -> None:
        busy = overloaded(self._limits.max_concurrent_calls)
        call.fail(stopping() if self._stopping else busy)

    def refuse_new(self) -> None:
        """Fail each call that comes from now on."""
        self._stopping = True

    def drained(self) -> bool:
        """Whether no call is in flight and all answers have left."""
        if self.calls:
            return False
        counts = self.library.metrics()
        assert counts is not None
        return all(
            method["started"] == sum(status["count"] for status in method["status"].values())
            for method in counts["methods"].values()
        )

    def end_calls(self) -> None:
        """Fail what is still in flight."""
        for call in list(self.calls.values()):
            call.fail(stopping())
            if call.task is not None:
                call.task.cancel()

    def close(self) -> None:
        """Close all connections; blocks until the library's threads are gone."""
        self.library.close()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_TIMEOUT_S)


class NativeFront:
    """A `Front` on pygrpc-native: one server of the library an address.

    Args:
        methods: The method table.
        listen: ``HOST:PORT`` or ``unix:/path``, at least one.
        limits: What it takes on.
        observer: Told of each call's start and end.
        extra: grpcio's handlers of other services (reflection), served behind it.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        listen: Sequence[str],
        limits: Limits,
        observer: CallObserver,
        extra: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._methods = methods
        self._listen = listen
        self._limits = limits
        self._observer = observer
        self._fallback = Fallback(extra, limits) if extra else None
        self._listeners: list[Listener] = []
        self.bound: list[str] = []

    async def start(self) -> None:
        """See `Front`."""
        try:
            for address in claim(self._listen):
                self._listeners.append(self._listener(address))
            if self._fallback is not None:
                path = await self._fallback.start()
                for listener in self._listeners:
                    listener.library.set_fallback(path)
        except BaseException:
            await self.stop(0)
            raise
        for listener in self._listeners:
            listener.start()
        self.bound = [str(listener.address) for listener in self._listeners]

    def _listener(self, address: Address) -> Listener:
        return Listener(address, self._methods, self._limits, self._observer, self._listeners)

    async def stop(self, grace_s: float) -> None:
        """See `Front`."""
        for listener in self._listeners:
            listener.refuse_new()
        ending: list[Coroutine[Any, Any, None]] = [self._end(grace_s)]
        if self._fallback is not None:
            ending.append(self._fallback.stop(grace_s))
        await asyncio.gather(*ending)
        await self._close()

    async def _end(self, grace_s: float) -> None:
        await self._drain(grace_s)
        for listener in self._listeners:
            listener.end_calls()
        await self._drain(_FLUSH_S)

    async def _drain(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while not all(listener.drained() for listener in self._listeners):
            if loop.time() >= end:
                return
            await asyncio.sleep(_STOP_POLL_S)

    async def _close(self) -> None:
        for listener in self._listeners:
            await asyncio.to_thread(listener.close)
        self._listeners.clear()
