"""The fake broker on a real socket, with a network that can be told to fail.

It is served by the synchronous gRPC library, whose threads get along with any
number of event loops in the tests.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from mq.errors import MQError
from mq.pb import mq_pb2 as pb
from tests.client.fake_broker import FakeBroker

PULL = "/mq.MQService/Pull"
PUBLISH_BATCH = "/mq.MQService/PublishBatch"


@dataclass(frozen=True)
class Fault:
    """What happens to one call instead of an answer."""

    carry_out: bool
    """Whether the broker does what it was asked before the call fails."""
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    metadata: tuple[tuple[str, str], ...] = ()


LOST_REQUEST = Fault(carry_out=False)
LOST_ANSWER = Fault(carry_out=True)


class FakeServer:
    """A broker of one test: what it stores, what it was asked, and its faults."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.calls: list[tuple[str, bytes]] = []
        self.faults: dict[str, deque[Fault]] = {}
        self.alter_pull: Callable[[pb.PullResponse], None] | None = None
        self.port = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._gates: dict[str, threading.Event] = {}
        self._server: Any = None

    # ---- Told by the test -------------------------------------------------

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def fail(self, method: str, *faults: Fault) -> None:
        """The next calls of this method meet these faults, one each."""
        self.faults.setdefault(method, deque()).extend(faults)

    def hold(self, method: str) -> threading.Event:
        """Calls of this method wait, before they are carried out, until this is set."""
        return self._gates.setdefault(method, threading.Event())

    def requests(self, method: str) -> list[bytes]:
        """What calls of this method asked."""
        with self._changed:
            return [request for name, request in self.calls if name == method]

    def wait_for_calls(self, method: str, count: int, limit_s: float = 20.0) -> list[bytes]:
        """Wait until this method was called so many times."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(self.requests(method)) >= count, timeout=limit_s
            )
        assert arrived, f"{method} was not called {count} times"
        return self.requests(method)

    def publish(self, channel: str, *contents: bytes) -> None:
        """Store a batch, past the client."""
        import crc32c

        records = pb.Records(contents=contents).SerializeToString()
        with self._changed:
            self.broker.create(channel).publish(
                pb.PublishBatchRequest(
                    channel=channel, records=records, records_crc=crc32c.crc32c(records)
                )
            )
            self._changed.notify_all()

    def stored(self, channel: str) -> list[bytes]:
        """All contents of a channel."""
        with self._changed:
            return self.broker.channel(channel).contents()

    # ---- Its life ---------------------------------------------------------

    def start(self) -> None:
        """Serve; after a `stop`, on the same port and with what was stored."""
        self._stopping = False
        self._server = grpc.server(
            futures.ThreadPoolExecutor(32), options=(("grpc.so_reuseport", 0),)
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Break all connections; waiting calls end without an answer."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()
        self._server.stop(None).wait()

    # ---- Calls ------------------------------------------------------------

    def handle(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer one call."""
        with self._changed:
            self.calls.append((method, request))
            self._changed.notify_all()
            faults = self.faults.get(method)
            fault = faults.popleft() if faults else None
        gate = self._gates.get(method)
        if gate is not None:
            gate.wait()
        if fault is not None and not fault.carry_out:
            _abort(context, fault)
        try:
            answer = self._wait_and_pull(request, context) if method == PULL else None
            if answer is None:
                with self._changed:
                    answer = self.broker.call(method, request)
                    self._changed.notify_all()
        except MQError as error:
            context.set_trailing_metadata(error.metadata())
            context.abort(grpc.StatusCode[error.code], error.message)
        if fault is not None:
            _abort(context, fault)
        assert answer is not None
        return answer

    def _wait_and_pull(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = pb.PullRequest.FromString(data)
        context.add_callback(self._wake)

        def pulled() -> pb.PullResponse | None:
            response = self.broker.channel(request.channel).pull(request)
            over = self._stopping or not context.is_active()
            return response if response.batches or over else None

        with self._changed:
            response = self._changed.wait_for(pulled, timeout=request.max_wait_ms / 1000)
            response = response or self.broker.channel(request.channel).pull(request)
        if self.alter_pull is not None:
            self.alter_pull(response)
        return response.SerializeToString()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _abort(context: grpc.ServicerContext, fault: Fault) -> None:
    context.set_trailing_metadata(fault.metadata)
    context.abort(fault.code, "a fault of the test")


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._server.handle(method, request, context)
        )


@contextmanager
def serving() -> Iterator[FakeServer]:
    """A fake broker that is started, with one channel, ``"orders"``."""
    server = FakeServer()
    server.broker.create("orders")
    server.start()
    try:
        yield server
    finally:
        server.stop()
