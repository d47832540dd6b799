"""Futures between callbacks and coroutines, where either side may be gone first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mq.errors import MQError

T = TypeVar("T")


def settle(future: asyncio.Future[T], outcome: T) -> None:
    """Set a result, unless whoever waited was cancelled.

    A callback that raised instead would take the ones after it along.
    """
    if not future.done():
        future.set_result(outcome)


async def outcome_of(
    begin: Callable[[Callable[[T | MQError], None]], None],
) -> T:
    """Call ``begin`` with a callback, and wait for what that is called with.

    Raises:
        MQError: What it was called with, or what ``begin`` raised.
    """
    future: asyncio.Future[T | MQError] = asyncio.get_running_loop().create_future()
    begin(partial(settle, future))
    outcome = await future
    if isinstance(outcome, MQError):
        raise outcome
    return outcome
