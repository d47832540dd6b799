"""The front for networks: grpc.aio, one generic handler, bytes in and out.

gRPC's core enforces the limits while it receives. Only a generic handler is
added: each *registered* method slows grpcio's accept loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc import aio

from mq.errors import MQError
from mq.server.call import Metadata, Method
from mq.server.fronts import base
from mq.server.fronts.base import CallBase, CallObserver, Limits, run_stream
from mq.server.fronts.supervised import SupervisedServer
from mq.server.status import (
    CODE_NAMES,
    OK,
    Status,
    internal,
    overloaded,
    stopping,
    to_status,
)

_GRPC_CODES = tuple(grpc.StatusCode[name] for name in CODE_NAMES)
# How long answers may take to leave after the grace is over.
_FLUSH_S = 1.0
_PENDING_CALLS_MIN = 10_000

Context = aio.ServicerContext[bytes, bytes]
Behaviour = Callable[[bytes, Context], Awaitable[Any]]


def _options(limits: Limits) -> list[tuple[str, int]]:
    pending_max = max(_PENDING_CALLS_MIN, 2 * limits.max_concurrent_calls)
    return [
        # A second server on the same port has to fail, not to share it.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.max_recv_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", limits.max_streams_per_connection),
        # Calls that the event loop has not got to. Above this (1000 by default) grpc-core
        # cancels some without a word; the loop has words for those that are too many.
        ("grpc.server.max_pending_requests", pending_max),
        ("grpc.server.max_pending_requests_hard_limit", pending_max),
        # Between the two, grpc-core would refuse some calls at random.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        # Clients may ping as they like, with and without calls.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", base.KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", base.KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
    ]


class GrpcioCall(CallBase):
    """A call of the grpcio front; ``status`` is None after a success."""

    __slots__ = ("_context", "_loop", "_waiter", "peer", "response", "status")

    def __init__(self, request: bytes, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(request)
        self._context = context
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        # Now: asked for once the call is over, it crashes the interpreter.
        self.peer = context.peer()
        self.response = b""
        self.status: Status | None = None

    @property
    def metadata(self) -> Metadata:
        """See `Call`."""
        return tuple((key, value) for key, value in self._context.invocation_metadata() or ())

    @property
    def deadline(self) -> float | None:
        """See `Call`."""
        remaining_s: float | None = self._context.time_remaining()
        return None if remaining_s is None else self._loop.time() + remaining_s

    def reply(self, response: bytes) -> None:
        """See `Call`."""
        if not self.over:
            self.response = response
            self._finish()

    def fail(self, error: MQError) -> None:
        """See `Call`."""
        if not self.over:
            self.status = to_status(error)
            self._finish()

    def end(self) -> None:
        """See `Call`."""
        if not self.over:
            self._finish()

    def _finish(self) -> None:
        self.over = True
        self.on_cancel = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def send(self, message: bytes) -> bool:
        """See `Call`."""
        if self.over:
            return False
        try:
            await self._context.write(message)
        except aio.BaseError:
            # The client is gone. grpcio will say so too, which ends the call.
            self.cancel()
        return not self.over

    async def wait(self) -> None:
        """Return once the call is over.

        Raises:
            asyncio.CancelledError: If the client is gone.
        """
        if not self.over:
            self._waiter = self._loop.create_future()
            await self._waiter

    async def abort_if_failed(self) -> None:
        """Give grpcio the status; a non-OK one it takes by raising through the caller."""
        if self.status is not None:
            code, message, metadata = self.status
            await self._context.abort(_GRPC_CODES[code], message, metadata)

    def code(self) -> int:
        """The status code it ended with."""
        if self.cancelled:
            return base.cancel_code(self.deadline, self._loop.time())
        return OK if self.status is None else self.status.code


class _GenericHandler(grpc.GenericRpcHandler):
    """Finds a method's behaviour by its path; serializers are None: bytes stay bytes."""

    def __init__(self, table: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._table = table

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._table.get(handler_call_details.method)


class GrpcioFront:
    """A `Front` on grpc.aio.

    Args:
        methods: The method table.
        listen: ``HOST:PORT`` or ``unix:/path``, at least one.
        limits: What it takes on.
        observer: Told of each call's start and end.
        extra: grpcio's handlers of other services (reflection).
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
        self._extra = extra
        self._calls: set[GrpcioCall] = set()
        self._stopping = False
        self._idle = asyncio.Event()
        self._server: SupervisedServer | None = None
        self.bound: list[str] = []

    async def start(self) -> None:
        """See `Front`."""
        handlers = (_GenericHandler(self._table()), *self._extra)
        server = SupervisedServer(_options(self._limits), handlers)
        self.bound = [str(address) for address in await server.start(self._listen)]
        self._server = server

    def _table(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        return {
            method.path: (
                grpc.unary_stream_rpc_method_handler(self._streaming(method, method_id))
                if method.streaming
                else grpc.unary_unary_rpc_method_handler(self._unary(method, method_id))
            )
            for method_id, method in enumerate(self._methods)
        }

    def _unary(self, method: Method, method_id: int) -> Behaviour:
        loop = asyncio.get_running_loop()

        async def behaviour(request: bytes, context: Context) -> bytes:
            call = GrpcioCall(request, context, loop)
            if self._admit(call, method, method_id):
                try:
                    method.handler(call)
                except MQError as error:
                    call.fail(error)
                except Exception:  # noqa: BLE001 a handler's bug is its caller's alone
                    base.log_bug(method.path)
                    call.fail(internal())
            await self._conclude(call, method_id)
            return call.response

        return behaviour

    def _streaming(self, method: Method, method_id: int) -> Behaviour:
        loop = asyncio.get_running_loop()

        async def behaviour(request: bytes, context: Context) -> None:
            call = GrpcioCall(request, context, loop)
            if self._admit(call, method, method_id):
                call.task = loop.create_task(run_stream(call, method))
            await self._conclude(call, method_id)

        return behaviour

    def _admit(self, call: GrpcioCall, method: Method, method_id: int) -> bool:
        """Count a call in; fails it and answers False if there is no room."""
        self._observer.started(method_id)
        if self._stopping:
            call.fail(stopping())
        elif (
            len(self._calls) >= self._limits.max_concurrent_calls
            and method.path != base.UNLIMITED_PATH
        ):
            call.fail(overloaded(self._limits.max_concurrent_calls))
        self._calls.add(call)
        return not call.over

    async def _conclude(self, call: GrpcioCall, method_id: int) -> None:
        """Wait until a call is over, and give grpcio its status."""
        try:
            await call.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            self._calls.discard(call)
            if self._stopping and not self._calls:
                self._idle.set()
            self._observer.finished(method_id, call.code())
        await call.abort_if_failed()

    async def stop(self, grace_s: float) -> None:
        """See `Front`."""
        server, self._server = self._server, None
        if server is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        # grpcio's own stop comes last: calls that arrive while it begins can be
        # lost, or cancelled without a word.
        self._stopping = True
        if self._calls:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace_s)
        for call in list(self._calls):
            call.fail(stopping())
            if call.task is not None:
                call.task.cancel()
        await server.stop(max(_FLUSH_S, end - loop.time()))
