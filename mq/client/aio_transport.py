"""Calls over `grpc.aio`: bytes in, bytes or an `MQError` out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from mq.client.flows import Flow, Invoke, Step, T
from mq.client.methods import CHANNEL_OPTIONS, METHODS, check_target
from mq.client.status import closed_error, error_from_rpc
from mq.errors import MQError

PendingCall = Any  # grpc.aio's call object: awaitable, and can be cancelled


class AioTransport:
    """One connection. It is made on first use, in the event loop that uses it."""

    def __init__(self, target: str) -> None:
        self.target = check_target(target)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._closed = False

    def begin(self, step: Invoke) -> PendingCall:
        """Start a call, to be given to `finish`, or cancelled.

        Raises:
            FailedPrecondition: The client is closed.
        """
        if self._channel is None:
            self._connect()
        return self._methods[step.method](step.request, timeout=step.timeout_s)

    def _connect(self) -> None:
        if self._closed:
            raise closed_error()
        self._channel = grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        self._methods = {method: self._channel.unary_unary(method) for method in METHODS}

    async def finish(self, call: PendingCall) -> bytes:
        """Wait for a call's response; being cancelled cancels the call.

        Raises:
            MQError: As the broker answered, or the connection failed.
        """
        try:
            response: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, self.target) from None
        except grpc.aio.UsageError:
            raise closed_error() from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        return response

    async def invoke(self, step: Invoke) -> bytes:
        """Make a call.

        Raises:
            MQError: As the broker answered, or the connection failed.
        """
        return await self.finish(self.begin(step))

    async def run(self, flow: Flow[T]) -> T:
        """Drive a flow to its end.

        Raises:
            MQError: What the flow ended with.
        """
        try:
            step = next(flow)
            while True:
                try:
                    response = await self._perform(step)
                except MQError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    async def _perform(self, step: Step) -> bytes:
        if isinstance(step, Invoke):
            return await self.invoke(step)
        await asyncio.sleep(step.seconds)
        return b""

    async def close(self) -> None:
        """Cancel what is under way and close the connection."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
