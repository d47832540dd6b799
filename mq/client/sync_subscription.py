"""The synchronous shell of a subscription: one pull ahead of the consumer, no thread of its own.

As in `aio_subscription`, the next pull is begun as soon as an answer is in; it
travels, on gRPC's thread, while the batches are worked on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from mq.client.arguments import Start
from mq.client.batch import Batch, Message
from mq.client.follower import Follower, FollowOptions
from mq.client.sync_transport import PendingCall, SyncTransport
from mq.errors import FailedPrecondition, MQError


class Subscription:
    """Follows a channel from a start on, without end; made by `Client.subscribe`.

    Iterate over its messages, or over `batches()`, in one thread. After an error
    or a ``break``, iterating again goes on where it was left. Any thread may
    `close` it.
    """

    def __init__(
        self, transport: SyncTransport, channel: str, start: Start, options: FollowOptions
    ) -> None:
        self._call: PendingCall | None = None
        self._transport = transport
        self._follower = Follower(channel, start, options)
        self._messages: Iterator[Message] = iter(())
        self._closed = threading.Event()

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

    def __iter__(self) -> Iterator[Message]:
        while not self._closed.is_set():
            yield from self._messages
            batch = self._next_batch()
            if batch is not None:
                self._messages = batch.messages()

    def batches(self) -> Iterator[Batch]:
        """Batches instead of messages.

        Raises:
            DataLoss: The next records are damaged, and `on_damage` is ``"raise"``.
            OffsetOutOfRange: The next offset is no longer there.
            MQError: Any other refusal; a broker that is away is waited for.
        """
        while not self._closed.is_set():
            batch = self._next_batch()
            if batch is not None:
                yield batch

    def _next_batch(self) -> Batch | None:
        """The next batch; None once closed."""
        while not self._closed.is_set():
            batch = self._follower.pop()
            if batch is not None:
                return batch
            self._fetch()
        return None

    def _fetch(self) -> None:
        """Take in one answer, or wait out one failure."""
        call = self._call or self._transport.begin(self._follower.next_call())
        self._call = call
        try:
            response = self._transport.finish(call)
        except MQError as error:
            if self._closed.is_set():
                return
            self._call = None
            self._closed.wait(self._follower.failed(error, time.monotonic()))
            return
        self._call = None
        self._follower.answered(response)
        if self._follower.options.prefetch and not self._closed.is_set():
            self._call = self._transport.begin(self._follower.next_call())

    # ---- Moving and ending ------------------------------------------------

    def seek(self, start: Start) -> None:
        """Go on from elsewhere: an offset, a time, ``"beginning"`` or ``"latest"``.

        Raises:
            InvalidArgument: It is no start.
            FailedPrecondition: The subscription is closed.
        """
        if self._closed.is_set():
            raise FailedPrecondition("the subscription is closed: make a new one")
        self._follower.seek(start)
        self._messages = iter(())
        self._cancel_call()

    def close(self) -> None:
        """End it; an iteration that is waiting stops."""
        self._closed.set()
        self._cancel_call()

    def _cancel_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def __del__(self) -> None:
        self._cancel_call()

    def __enter__(self) -> Self:
        """Find out where the start is: ``"latest"`` then means from here on."""
        while not (self._follower.located or self._closed.is_set()):
            self._fetch()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
