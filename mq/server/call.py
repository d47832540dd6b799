"""What a handler sees of a gRPC call, whichever library carries it.

A *front* (`mq.server.fronts`) makes a `Call` of each request and gives it to
the handler that the method table names. Everything here happens in the event
loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from mq.errors import MQError

Metadata = Sequence[tuple[str, str | bytes]]


class Call(Protocol):
    """One call in flight.

    `reply`, `fail` and `end` never block, and do nothing on a call that is
    over. A call is over once it has been answered or is cancelled.
    """

    on_cancel: Callable[[], None] | None
    """Set by the handler; called once, when the client is gone or out of time."""

    @property
    def request(self) -> bytes:
        """The serialized request."""

    @property
    def peer(self) -> str:
        """Who is calling, such as ``ipv4:127.0.0.1:40312`` or ``unix:``."""

    @property
    def metadata(self) -> Metadata:
        """Request metadata; values of ``-bin`` keys are bytes."""

    @property
    def deadline(self) -> float | None:
        """When the client stops waiting, seconds on the event loop's clock."""

    @property
    def cancelled(self) -> bool:
        """The client is gone, or out of time: nothing more can reach it."""

    def reply(self, response: bytes) -> None:
        """End a unary call with its response."""

    def fail(self, error: MQError) -> None:
        """End any call with an error."""

    async def send(self, message: bytes) -> bool:
        """Send one message of a stream, waiting while the client is behind.

        Returns:
            False once the call is over; the message was not sent.
        """

    def end(self) -> None:
        """End a stream; a handler that returns ends it too."""


Handler = Callable[[Call], Coroutine[Any, Any, None] | None]
"""A plain function for a unary method, which answers now or later; a coroutine
function for a streaming one, run as a task and cancelled when the client goes.
Raising `MQError` fails the call with it."""


class Method(NamedTuple):
    """An entry of the method table; ``path`` is ``/package.Service/Method``."""

    path: str
    streaming: bool
    handler: Handler
