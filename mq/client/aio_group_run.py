"""Handlers at work on a group's messages: a task each, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mq.client.group_keys import KeyLines, check_concurrency, reason_of
from mq.client.group_settlement import Verb

if TYPE_CHECKING:
    from mq.client.aio_group import AsyncGroupConsumer, AsyncGroupMessage


class Runner:
    """One run of a handler.

    Args:
        consumer: Where the messages come from.
        handler: What is done with each.
        concurrency: How many at the same time.
        waiting_max: How many may wait for another of their key.
    """

    def __init__(
        self,
        consumer: AsyncGroupConsumer,
        handler: Callable[[AsyncGroupMessage], Awaitable[None]],
        concurrency: int,
        waiting_max: int,
    ) -> None:
        self._consumer = consumer
        self._handler = handler
        self._concurrency = check_concurrency(concurrency)
        self._waiting_max = waiting_max
        self._lines: KeyLines[AsyncGroupMessage] = KeyLines(ordered=consumer.key_ordered)
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._cancelling = False

    async def run(self) -> None:
        """Work until there is no more."""
        try:
            try:
                await self._take_messages()
            except Exception:
                await self._finish()
                raise
            await self._finish()
        except asyncio.CancelledError:
            await self._cancel()
            raise
        await self._consumer.flush()

    async def _take_messages(self) -> None:
        while True:
            while self._is_full():
                self._freed.clear()
                await self._freed.wait()
            try:
                message = await anext(self._consumer)
            except StopAsyncIteration:
                return
            if self._lines.enter(message):
                self._begin(message)

    def _is_full(self) -> bool:
        many = self._lines.waiting >= self._waiting_max
        return len(self._tasks) >= self._concurrency or many

    async def _finish(self) -> None:
        """Wait for all handlers, and for those of the messages that wait behind them."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _cancel(self) -> None:
        self._cancelling = True
        for message in self._lines.leave_all():
            message.release()
        for task in self._tasks:
            task.cancel()
        await self._finish()

    def _begin(self, message: AsyncGroupMessage) -> None:
        task = asyncio.get_running_loop().create_task(self._handle(message))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()

    async def _handle(self, message: AsyncGroupMessage) -> None:
        try:
            await self._handler(message)
        except asyncio.CancelledError as error:
            self._settle_failed(message, error)
            if self._cancelling:
                raise
        except BaseException as error:
            self._settle_failed(message, error)
            if not isinstance(error, Exception):
                raise
        else:
            if not message.settled:
                message.ack_nowait()
        finally:
            self._leave(message)

    def _settle_failed(self, message: AsyncGroupMessage, error: BaseException) -> None:
        if message.settled:
            return
        if self._cancelling:
            message.release()
        else:
            message.nack_nowait(reason=reason_of(error))

    def _leave(self, message: AsyncGroupMessage) -> None:
        following, back = self._lines.leave(message, processed=message.said is Verb.ACK)
        for each in back:
            each.release()
        if following is not None:
            self._begin(following)
