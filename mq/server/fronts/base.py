"""What both fronts share: limits, the interface, and how a handler is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from mq.errors import Cancelled, MQError
from mq.server.call import Call, Method
from mq.server.status import CANCELLED, DEADLINE_EXCEEDED, internal

_log = structlog.get_logger("mq.server")

KEEPALIVE_TIME_MS = 60_000
"""A connection that has been silent for so long is pinged ..."""
KEEPALIVE_TIMEOUT_MS = 20_000
"""... and closed if it has not answered after this: half-open ones are reaped."""

# A deadline within this of a cancellation was its cause: two clocks are compared.
_DEADLINE_SLACK_S = 0.005

UNLIMITED_PATH = "/grpc.health.v1.Health/Check"
"""Answered even by a broker with no room for calls: being busy is not being ill."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one broker takes on, over all its addresses unless said otherwise."""

    max_recv_bytes: int
    max_concurrent_calls: int
    max_metadata_bytes: int = 16384
    max_streams_per_connection: int = 1024


class CallObserver(Protocol):
    """Told of each call, in the event loop's thread; has to be cheap."""

    def started(self, method_id: int) -> None:
        """A call of the method at this place of the table has begun."""

    def finished(self, method_id: int, code: int) -> None:
        """It has ended with this gRPC status code."""


class NullObserver:
    """For those who don't count."""

    def started(self, method_id: int) -> None:
        """Ignore it."""

    def finished(self, method_id: int, code: int) -> None:
        """Ignore it."""


class Front(Protocol):
    """A server of the method table on some addresses."""

    @property
    def bound(self) -> list[str]:
        """The addresses in use, with the port that 0 became; empty before start."""

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: If an address is not one.
            FailedPrecondition: If an address is in use or not to be had.
        """

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls at once, and end those in flight.

        They have ``grace_s`` seconds to end by themselves; those that are left
        fail with `Unavailable`. Then the connections are closed.
        """


class CallBase:
    """The state that a call has on either front."""

    __slots__ = ("cancelled", "on_cancel", "over", "request", "task")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """The client is gone: tell the handler, once."""
        if self.over:
            return
        self.over = True
        self.cancelled = True
        callback, self.on_cancel = self.on_cancel, None
        if callback is not None:
            try:
                callback()
            except Exception:  # noqa: BLE001 a bug there must not end the front
                _log.exception("on_cancel failed")
        if self.task is not None:
            self.task.cancel()


def cancel_code(deadline: float | None, now: float) -> int:
    """The status code of a call cancelled now: out of time, or given up."""
    late = deadline is not None and now + _DEADLINE_SLACK_S >= deadline
    return DEADLINE_EXCEEDED if late else CANCELLED


def log_bug(path: str) -> None:
    """Log the exception being handled, which a handler should not have raised."""
    _log.exception("handler failed", method=path)


async def run_stream(call: Call, method: Method) -> None:
    """Run a streaming handler to its end, however it ends."""
    try:
        coroutine = method.handler(call)
        assert coroutine is not None, f"{method.path} streams, so it needs a coroutine function"
        await coroutine
    except MQError as error:
        call.fail(error)
    except asyncio.CancelledError:
        call.fail(Cancelled("the broker ended this call"))
        raise
    except Exception:  # noqa: BLE001 a handler's bug is its caller's alone
        log_bug(method.path)
        call.fail(internal())
    else:
        call.end()
