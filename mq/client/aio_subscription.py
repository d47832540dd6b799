"""The asynchronous shell of a subscription: one pull ahead of the consumer, no task.

The next pull is begun as soon as an answer is in, before its batches are handed
out: it travels while they are worked on. One is enough, since where a pull
begins is known only from the one before it. As there is no task, a subscription
that is simply forgotten leaves nothing running but that one call, which is
cancelled with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import TracebackType
from typing import Self

from mq.client.aio_transport import AioTransport, PendingCall
from mq.client.arguments import Start
from mq.client.batch import Batch, Message
from mq.client.follower import Follower, FollowOptions
from mq.errors import FailedPrecondition, MQError


class AsyncSubscription:
    """Follows a channel from a start on, without end; made by `AsyncClient.subscribe`.

    Iterate over its messages, or over `batches()`. After an error or a
    ``break``, iterating again goes on where it was left.
    """

    def __init__(
        self, transport: AioTransport, channel: str, start: Start, options: FollowOptions
    ) -> None:
        self._call: PendingCall | None = None
        self._transport = transport
        self._follower = Follower(channel, start, options)
        self._messages: Iterator[Message] = iter(())
        self._closed = False

    @property
    def channel(self) -> str:
        """The channel that is followed."""
        return self._follower.channel

    @property
    def position(self) -> int | None:
        """The offset after the last batch handed out; None until the broker has answered."""
        return self._follower.position

    @property
    def skipped(self) -> int:
        """How many offsets were skipped because they are damaged."""
        return self._follower.skipped

    # ---- Iterating --------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[Message, None]:
        while not self._closed:
            for message in self._messages:
                yield message
            batch = await self._next_batch()
            if batch is not None:
                self._messages = batch.messages()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Batches instead of messages.

        Raises:
            DataLoss: The next records are damaged, and `on_damage` is ``"raise"``.
            OffsetOutOfRange: The next offset is no longer there.
            MQError: Any other refusal; a broker that is away is waited for.
        """
        while not self._closed:
            batch = await self._next_batch()
            if batch is not None:
                yield batch

    async def _next_batch(self) -> Batch | None:
        """The next batch; None once closed."""
        while not self._closed:
            batch = self._follower.pop()
            if batch is not None:
                return batch
            await self._fetch()
        return None

    async def _fetch(self) -> None:
        """Take in one answer, or wait out one failure."""
        loop = asyncio.get_running_loop()
        call = self._call or self._transport.begin(self._follower.next_call())
        self._call = call
        try:
            response = await self._transport.finish(call)
        except MQError as error:
            if self._call is not call:
                return  # sought, or closed, meanwhile
            self._call = None
            await asyncio.sleep(self._follower.failed(error, loop.time()))
            return
        except asyncio.CancelledError:
            if self._call is call:
                self._call = None
            elif not _is_being_cancelled():
                return
            raise
        if self._call is call:
            self._call = None
            self._follower.answered(response)
            if self._follower.options.prefetch:
                self._call = self._transport.begin(self._follower.next_call())

    # ---- Moving and ending ------------------------------------------------

    def seek(self, start: Start) -> None:
        """Go on from elsewhere: an offset, a time, ``"beginning"`` or ``"latest"``.

        Raises:
            InvalidArgument: It is no start.
            FailedPrecondition: The subscription is closed.
        """
        if self._closed:
            raise FailedPrecondition("the subscription is closed: make a new one")
        self._follower.seek(start)
        self._messages = iter(())
        self._cancel_call()

    async def close(self) -> None:
        """End it; an iteration that is waiting stops."""
        self._closed = True
        self._cancel_call()

    def _cancel_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: so is the call
            self._cancel_call()

    async def __aenter__(self) -> Self:
        """Find out where the start is: ``"latest"`` then means from here on."""
        while not self._follower.located:
            await self._fetch()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _is_being_cancelled() -> bool:
    """Whether the task itself is cancelled, and not just the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
