"""Calls over gRPC's synchronous API: bytes in, bytes or an `MQError` out."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc

from mq.client.flows import Flow, Invoke, Step, T
from mq.client.methods import CHANNEL_OPTIONS, METHODS, check_target
from mq.client.status import closed_error, error_from_rpc
from mq.errors import Cancelled, MQError

PendingCall = Any  # gRPC's call object: a future of the response, and can be cancelled


class SyncTransport:
    """One connection, made on first use; safe to use from several threads."""

    def __init__(self, target: str) -> None:
        self.target = check_target(target)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._closed = False

    def _method(self, method: str) -> Any:
        if self._closed:
            raise closed_error()
        try:
            return self._methods[method]
        except KeyError:
            self._connect()
            return self._methods[method]

    def _connect(self) -> None:
        with self._lock:
            if self._channel is None and not self._closed:
                channel = grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
                self._methods = {method: channel.unary_unary(method) for method in METHODS}
                self._channel = channel

    def begin(self, step: Invoke) -> PendingCall:
        """Start a call, to be given to `finish`, or cancelled.

        Raises:
            FailedPrecondition: The client is closed.
        """
        try:
            return self._method(step.method).future(step.request, timeout=step.timeout_s)
        except ValueError:  # gRPC's word for a channel that was closed meanwhile
            raise closed_error() from None

    def finish(self, call: PendingCall) -> bytes:
        """Wait for a call's response.

        Raises:
            MQError: As the broker answered, or the connection failed.
        """
        try:
            response: bytes = call.result()
        except grpc.FutureCancelledError:
            raise Cancelled("the call was cancelled by this client") from None
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.target) from None
        return response

    def invoke(self, step: Invoke) -> bytes:
        """Make a call, without the detour over another thread that `begin` takes.

        Raises:
            MQError: As the broker answered, or the connection failed.
        """
        try:
            response: bytes = self._method(step.method)(step.request, timeout=step.timeout_s)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.target) from None
        except ValueError:
            raise closed_error() from None
        return response

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end.

        Raises:
            MQError: What the flow ended with.
        """
        try:
            step = next(flow)
            while True:
                try:
                    response = self._perform(step)
                except MQError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, step: Step) -> bytes:
        if isinstance(step, Invoke):
            return self.invoke(step)
        time.sleep(step.seconds)
        return b""

    def close(self) -> None:
        """Cancel what is under way and close the connection."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
