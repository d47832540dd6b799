"""Parsing requests, with an error that a caller can act on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from mq.broker.model import Durability
from mq.errors import InvalidArgument, MQError
from mq.server.call import Call
from mq.server.status import internal

_log = structlog.get_logger("mq.server")
_M = TypeVar("_M", bound=Message)


def parse(kind: type[_M], request: bytes) -> _M:
    """The request as a message.

    Raises:
        InvalidArgument: It is not one.
    """
    try:
        return kind.FromString(request)
    except DecodeError:
        raise InvalidArgument(
            f"the request is not a {kind.DESCRIPTOR.full_name} message; "
            "use stubs generated from proto/mq.proto"
        ) from None


def durability(value: int) -> Durability:
    """The durability that a request asks for.

    Raises:
        InvalidArgument: There is no such durability.
    """
    try:
        return Durability(value)
    except ValueError:
        raise InvalidArgument(
            f"durability {value} is unknown; use 0 (default), 1 (synced) or 2 (written)"
        ) from None


def guarded(call: Call, step: Callable[..., None]) -> Callable[..., None]:
    """A later step of a handler: what it raises fails the call, as in the handler itself."""

    def run(*args: Any) -> None:
        try:
            step(*args)
        except MQError as error:
            call.fail(error)
        except Exception:  # noqa: BLE001
            _log.exception("handler failed")
            call.fail(internal())

    return run


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class Tasks:
    """Unary handlers that have to wait: each a task, whose failure fails its call."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, call: Call, work: Coroutine[Any, Any, bytes], *, cancellable: bool = False
    ) -> None:
        """Reply to ``call`` with what ``work`` returns.

        A client that goes away stops it only if it is ``cancellable``: half-made
        changes help nobody.
        """
        task = asyncio.get_running_loop().create_task(self._run(call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if cancellable:
            call.on_cancel = partial(_cancel, task)

    async def _run(self, call: Call, work: Coroutine[Any, Any, bytes]) -> None:
        try:
            call.reply(await work)
        except MQError as error:
            call.fail(error)
        except Exception:  # noqa: BLE001
            _log.exception("handler failed")
            call.fail(internal())
