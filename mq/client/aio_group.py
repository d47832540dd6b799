"""The asynchronous shell of a group's consumer: a task for each call, and one timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self

from mq.client import group_flows
from mq.client.aio_group_run import Runner
from mq.client.aio_transport import AioTransport
from mq.client.arguments import Start
from mq.client.flows import CallPolicy
from mq.client.group_core import GroupCall, GroupCore
from mq.client.group_message import DeliveredBatch, DeliveredMessage
from mq.client.group_options import GroupOptions, GroupStats
from mq.client.group_settlement import Settlement, Verb
from mq.client.group_supply import Portion
from mq.client.group_types import GroupConfig, GroupInfo
from mq.errors import Cancelled, FailedPrecondition, Internal, MQError


class AsyncGroupMessage(DeliveredMessage):
    """A message under a lease: `ack` it, or `nack` it. Made by `AsyncGroupConsumer`."""

    __slots__ = ()
    _owner: AsyncGroupConsumer

    async def ack(self) -> None:
        """Acknowledge, and wait until that is durable. Again it waits for the same.

        Raises:
            LeaseLost: It was no longer this consumer's; others may process it too.
            MQError: The broker refused the call.
        """
        await self._owner.outcome(self._say(Verb.ACK), *self._offsets)

    async def nack(self, delay_ms: int | None = None, reason: str = "") -> None:
        """Hand it back as failed, to be delivered again or to become a dead letter.

        Args:
            delay_ms: How long it waits; None backs off by the number of failures.
            reason: Kept in the dead letter, if it comes to that.

        Raises:
            LeaseLost: It was no longer this consumer's.
            MQError: The broker refused the call.
        """
        await self._owner.outcome(self._say(Verb.NACK, delay_ms, reason), *self._offsets)


class AsyncGroupBatch(DeliveredBatch):
    """Messages under a lease, settled together. Made by `AsyncGroupConsumer.batches`."""

    _owner: AsyncGroupConsumer

    async def ack(self) -> None:
        """Acknowledge all of it, and wait until that is durable.

        Raises:
            LeaseLost: A part of it was no longer this consumer's: it says which.
            MQError: The broker refused the call.
        """
        await self._owner.outcome(self._say(Verb.ACK), *self._offsets)

    async def nack(self, delay_ms: int | None = None, reason: str = "") -> None:
        """Hand all of it back as failed, to be delivered again or to become dead letters.

        Args:
            delay_ms: How long it waits; None backs off by the number of failures.
            reason: Kept in the dead letters, if it comes to that.

        Raises:
            LeaseLost: A part of it was no longer this consumer's.
            MQError: The broker refused the call.
        """
        await self._owner.outcome(self._say(Verb.NACK, delay_ms, reason), *self._offsets)


class AsyncGroupConsumer:
    """One consumer of a group; made by `AsyncClient.group`, used as an async context manager.

    Iterate over its messages, or over `batches`, or let it `run` a handler. What
    is not settled when it closes is handed back at once, and not counted.
    """

    def __init__(
        self,
        transport: AioTransport,
        policy: CallPolicy,
        group: str,
        channel: str,
        start: Start,
        config: GroupConfig,
        options: GroupOptions,
    ) -> None:
        self._core = GroupCore(channel, group, options)
        self._transport = transport
        self._policy = policy
        self._start = start
        self._config = config
        self._tasks: dict[GroupCall, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._entered = False
        self._closed = False

    # ---- What it is -------------------------------------------------------

    @property
    def channel(self) -> str:
        """The channel that is consumed."""
        return self._core.channel

    @property
    def group(self) -> str:
        """The group's name."""
        return self._core.group

    @property
    def consumer(self) -> str:
        """This consumer's name in the group."""
        return self._core.options.consumer

    @property
    def key_ordered(self) -> bool:
        """Whether messages of one key go to one consumer at a time, in order."""
        return self._core.key_ordered

    @property
    def active(self) -> bool:
        """Whether it may be handed messages; False while it stands by in an exclusive group."""
        return self._core.active

    @property
    def epoch(self) -> int:
        """Of an exclusive group: rises with each change of the active consumer; 0: stands by."""
        return self._core.epoch

    @property
    def stats(self) -> GroupStats:
        """What it has done so far."""
        return self._core.stats

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    async def info(self) -> GroupInfo:
        """How the group is doing: lag, what is in flight, its consumers.

        Raises:
            MQError: It was refused.
        """
        return await self._transport.run(
            group_flows.describe_group(self._policy, self.group, self.channel)
        )

    # ---- Iterating --------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncGroupMessage:
        portion = await self._next(whole=False)
        if portion is None:
            raise StopAsyncIteration
        return AsyncGroupMessage(self, portion.parcel, portion.low)

    async def batches(self) -> AsyncGenerator[AsyncGroupBatch, None]:
        """Batches instead of messages, each settled as a whole: the fastest way.

        Raises:
            DataLoss: The next messages are damaged, and `on_damage` is ``"raise"``.
            MQError: The broker refuses; one that is away is waited for.
        """
        while (portion := await self._next(whole=True)) is not None:
            yield AsyncGroupBatch(self, portion)

    async def _next(self, *, whole: bool) -> Portion | None:
        """What is handed out next; None once stopped, or idle for as long as was said."""
        self._check_entered()
        clock = asyncio.get_running_loop().time
        while True:
            portion = self._core.pop(clock(), whole=whole)
            if portion is None or self._core.stirred:
                self._pump()
            if portion is not None:
                return portion
            if self._core.stopped or self._core.take_idle():
                return None
            await self._changed()

    def _check_entered(self) -> None:
        if not self._entered:
            raise FailedPrecondition(
                "a group's consumer is used as a context manager: `async with client.group(...)`"
            )

    async def _changed(self) -> None:
        """Wait until something has happened."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _set(future)

    # ---- Working ----------------------------------------------------------

    async def run(
        self,
        handler: Callable[[AsyncGroupMessage], Awaitable[None]],
        *,
        concurrency: int = 1,
    ) -> None:
        """Give each message to a handler, several at the same time.

        When the handler returns, the message is acknowledged; when it raises, it
        is handed back as failed, with the error as the reason. A handler may
        settle its message itself. In a group that is ordered by key there is one
        message of a key at a time, in order. Returns after `stop`, once the
        handlers have; when it is cancelled it cancels them, and hands back their
        messages uncounted.

        Args:
            handler: Called with each message.
            concurrency: How many messages are worked on at the same time, at most.

        Raises:
            InvalidArgument: The concurrency is none.
            MQError: As iterating does, after the handlers have returned.
        """
        await Runner(self, handler, concurrency, self._core.options.max_records).run()

    async def flush(self) -> None:
        """Wait until all that was acknowledged or handed back is durable.

        A lease that was lost is no error here: `stats` counts them.

        Raises:
            MQError: The first call that failed as a whole, and that nobody was told of.
        """
        await self._drain()
        error = self._core.take_failure()
        if error is not None:
            raise error

    async def _drain(self) -> None:
        pending = self._core.hurry()
        self._pump()
        for settlement in pending:
            await self._until_done(settlement)

    def say(self, portion: Portion, verb: Verb, delay_ms: int | None, reason: str) -> Settlement:
        """Settle what was handed out; for its messages and batches.

        Raises:
            FailedPrecondition: The consumer is closed.
        """
        if self._closed:
            raise FailedPrecondition("the consumer is closed, and has handed everything back")
        now = asyncio.get_running_loop().time()
        settlement = self._core.settle(portion, verb, now, delay_ms, reason)
        if settlement.created_s == now:  # it was opened for this
            self._pump()
        return settlement

    async def outcome(self, settlement: Settlement, first: int, following: int) -> None:
        """Wait for what became of messages; for them.

        Raises:
            LeaseLost: Some were no longer this consumer's.
            MQError: The call failed.
        """
        if not settlement.done:
            self._core.hurry_if_alone()
            self._pump()
            await self._until_done(settlement)
        settlement.check(first, following)

    async def _until_done(self, settlement: Settlement) -> None:
        if not settlement.done:
            future = asyncio.get_running_loop().create_future()
            settlement.when_done(partial(_set, future))
            await future

    # ---- Calls ------------------------------------------------------------

    def _pump(self) -> None:
        """Start all calls that may go now, and see to it that the next one isn't missed."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while (call := self._core.next_call(now)) is not None:
            self._tasks[call] = loop.create_task(self._perform(call))
        self._set_timer(loop)

    async def _perform(self, call: GroupCall) -> None:
        clock = asyncio.get_running_loop().time
        try:
            response = await self._transport.invoke(call.invoke)
        except MQError as error:
            self._core.failed(call, error, clock())
        except Exception as error:  # noqa: BLE001 - nothing is left without an outcome
            self._core.failed(call, Internal(f"the call failed in the client: {error!r}"), clock())
        else:
            self._core.answered(call, response, clock())
        finally:
            del self._tasks[call]
        self._pump()
        self._wake()

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        wake_at_s = self._core.wake_at_s
        if self._timer is not None:
            if wake_at_s is not None and self._timer.when() <= wake_at_s:
                return  # it sets itself again
            self._timer.cancel()
            self._timer = None
        if wake_at_s is not None:
            self._timer = loop.call_at(wake_at_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    # ---- Ending -----------------------------------------------------------

    def stop(self) -> None:
        """Hand out no more: iterations end, and `run` returns once its handlers have.

        What was handed out can still be settled, until the consumer is closed.
        """
        if self._entered and not self._core.stopped:
            fetch = self._core.stop(asyncio.get_running_loop().time())
            if fetch is not None:
                self._tasks[fetch].cancel()
            self._pump()
            self._wake()

    async def close(self, timeout_s: float | None = None) -> None:
        """Flush, hand back what is not settled, and end. Closing again does nothing.

        Args:
            timeout_s: How long that may take; None is the client's timeout. Leases
                that could not be handed back run out by themselves.

        Raises:
            MQError: As `flush` does.
        """
        if self._closed or not self._entered:
            self._closed = True
            return
        self.stop()
        limit_s = self._policy.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._drain()
                await self._transport.invoke(self._core.goodbye())
        except (TimeoutError, MQError):
            pass
        finally:
            self.abort()
        error = self._core.take_failure()
        if error is not None:
            raise error

    def abort(self) -> None:
        """End without flushing or handing back: what is held lapses by itself."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks.values():
            task.cancel()
        self._core.abandon(Cancelled("the consumer was closed before this was acknowledged"))
        self._wake()

    async def __aenter__(self) -> Self:
        """Find the group, or make it.

        Raises:
            FailedPrecondition: It exists in another mode, or this is closed.
            MQError: The broker refused.
        """
        if self._entered or self._closed:
            raise FailedPrecondition("a group's consumer is entered once: make a new one")
        flow = group_flows.join_group(
            self._policy, self.group, self.channel, self._start, self._config
        )
        self._core.started(await self._transport.run(flow))
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close, also where the block was cancelled: others get the messages at once."""
        try:
            await self.close()
        except MQError as error:
            if exc is None:
                raise
            exc.add_note(f"and the consumer could not settle everything: {error}")


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
