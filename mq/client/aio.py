"""The asynchronous client."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from mq.client import flows
from mq.client.accumulator import BatchLimits
from mq.client.aio_group import AsyncGroupConsumer
from mq.client.aio_group_calls import AsyncGroupCalls
from mq.client.aio_producer import AsyncProducer
from mq.client.aio_subscription import AsyncSubscription
from mq.client.aio_transport import AioTransport
from mq.client.arguments import BytesLike, HeadersLike, Start
from mq.client.flows import CallPolicy
from mq.client.follower import FollowOptions, OnDamage
from mq.client.lanes import LanePool
from mq.client.producer_core import ProducerOptions, random_producer_id
from mq.client.pulled import PullResult
from mq.client.schedule import Milliseconds, Schedule
from mq.client.types import BatchReceipt, ChannelInfo, Durability, Receipt, config_message
from mq.errors import MQError
from mq.units import KIB, MIB

# Publishes that come while a call is out travel together in the next. More calls at
# a time were measured slower, for 8 publishers and for 64: each costs far more than
# what it carries.
_PUBLISH_CALLS_MAX = 1


class AsyncClient(AsyncGroupCalls):
    """A connection to a broker, for one event loop.

    Every call is tried again while the broker is away or overloaded, up to
    `timeout_s`, and a publish that is tried again is stored once. Use it as an
    async context manager, or `close` it.

    Args:
        target: ``host:port`` or ``unix:/path``.
        timeout_s: How long a call may take, its repetitions included.
        retry_timeout_s: For how long a call is repeated; 0 is not at all, None
            as long as `timeout_s` lets it.

    Raises:
        InvalidArgument: The target or a time can't be used.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        timeout_s: float = 30.0,
        retry_timeout_s: float | None = None,
    ) -> None:
        self._policy = CallPolicy(
            timeout_s, timeout_s if retry_timeout_s is None else retry_timeout_s
        )
        self._transport = AioTransport(target)
        self._lanes = LanePool(random_producer_id)
        self._publishers: dict[tuple[str, Durability | None], AsyncProducer] = {}
        self._producers: weakref.WeakSet[AsyncProducer] = weakref.WeakSet()
        self._subscriptions: weakref.WeakSet[AsyncSubscription] = weakref.WeakSet()
        self._consumers: weakref.WeakSet[AsyncGroupConsumer] = weakref.WeakSet()

    @property
    def target(self) -> str:
        """The broker's address."""
        return self._transport.target

    # ---- Publishing -------------------------------------------------------

    async def publish(
        self,
        channel: str,
        content: BytesLike,
        *,
        key: BytesLike | None = None,
        headers: HeadersLike | None = None,
        durability: Durability | None = None,
        deliver_after_ms: int | None = None,
        expires_after_ms: int | None = None,
    ) -> Receipt:
        """Publish one message and wait until it is stored.

        Publishes to a channel that run at the same time share calls; each
        succeeds or fails by itself. They are stored in the order they were
        called, but for those with a delay or an expiry, which travel alone. A
        publish whose task is cancelled may be stored all the same.

        Args:
            channel: An existing channel.
            content: The message.
            key: Kept with it.
            headers: Names and values kept with it.
            durability: ``"synced"`` or ``"written"``; None is as the channel is
                configured.
            deliver_after_ms: Groups hand it out no earlier; other readers see it at once.
            expires_after_ms: Groups hand it out no later.

        Raises:
            MQError: It was not acknowledged.
            TypeError: Something is not bytes.
        """
        if deliver_after_ms is not None or expires_after_ms is not None:
            schedule = Schedule(deliver_after_ms, expires_after_ms)
            return await self._transport.run(
                flows.publish(
                    self._policy, self._lanes, channel, content, key, headers, durability, schedule
                )
            )
        publisher = self._publishers.get((channel, durability))
        if publisher is None:
            publisher = self._publishers[channel, durability] = self._publisher(channel, durability)
        return await publisher.publish(content, key, headers)

    def _publisher(self, channel: str, durability: Durability | None) -> AsyncProducer:
        options = ProducerOptions(
            BatchLimits(linger_s=0.0),
            max_in_flight=_PUBLISH_CALLS_MAX,
            durability=durability,
            delivery_timeout_s=self._policy.timeout_s,
            retry_timeout_s=self._policy.retry_timeout_s,
            call_timeout_s=self._policy.timeout_s,
        )
        return self._new_producer(channel, options)

    async def publish_many(
        self,
        channel: str,
        contents: Iterable[BytesLike],
        *,
        keys: Sequence[BytesLike | None] | None = None,
        headers: Sequence[HeadersLike | None] | None = None,
        durability: Durability | None = None,
        deliver_after_ms: Milliseconds = None,
        expires_after_ms: Milliseconds = None,
    ) -> BatchReceipt:
        """Publish several messages as one batch: all of it becomes visible, or none.

        Args:
            channel: An existing channel.
            contents: The messages, at least one.
            keys: None, or one a message.
            headers: None, or one mapping (or None) a message.
            durability: ``"synced"`` or ``"written"``; None is as the channel is
                configured.
            deliver_after_ms: Groups hand them out no earlier; other readers see them at
                once. None, one number, or one (or None) a message.
            expires_after_ms: Groups hand them out no later; given in the same way.

        Raises:
            MQError: It was not acknowledged.
            TypeError: Something is not bytes.
        """
        return await self._transport.run(
            flows.publish_batch(
                self._policy,
                self._lanes,
                channel,
                contents,
                keys,
                headers,
                durability,
                Schedule(deliver_after_ms, expires_after_ms),
            )
        )

    def producer(
        self,
        channel: str,
        *,
        linger_ms: float = 5,
        batch_bytes: int = 256 * KIB,
        batch_records: int = 10_000,
        buffer_bytes: int = 32 * MIB,
        max_in_flight: int = 5,
        durability: Durability | None = None,
        deliver_after_ms: int | None = None,
        expires_after_ms: int | None = None,
        delivery_timeout_s: float = 120,
    ) -> AsyncProducer:
        """A batching producer, to be used as an async context manager or closed.

        Args:
            channel: An existing channel.
            linger_ms: How long a batch that isn't full waits for more messages.
            batch_bytes: A batch is full before it is larger than this; a single
                larger message is a batch of its own.
            batch_records: A batch is full with so many messages.
            buffer_bytes: What may be held unacknowledged; `send` waits beyond it.
            max_in_flight: How many batches may be on their way, from 1 to 16.
            durability: ``"synced"`` or ``"written"``; None is as the channel is
                configured.
            deliver_after_ms: Groups hand out each message no earlier than so long after
                it was stored; other readers see it at once.
            expires_after_ms: Groups hand it out no later.
            delivery_timeout_s: When to give up on a message.

        Raises:
            InvalidArgument: An option that can't be used.
        """
        options = ProducerOptions(
            BatchLimits(linger_ms / 1000, batch_bytes, batch_records, buffer_bytes),
            max_in_flight=max_in_flight,
            durability=durability,
            delivery_timeout_s=delivery_timeout_s,
            call_timeout_s=self._policy.timeout_s,
            schedule=Schedule(deliver_after_ms, expires_after_ms).check(0),
        )
        return self._new_producer(channel, options)

    def _new_producer(self, channel: str, options: ProducerOptions) -> AsyncProducer:
        producer = AsyncProducer(self._transport, channel, options)
        self._producers.add(producer)
        return producer

    # ---- Reading ----------------------------------------------------------

    async def pull(
        self,
        channel: str,
        start: Start = "beginning",
        *,
        max_records: int = 0,
        max_bytes: int = 0,
        max_wait_ms: int = 0,
    ) -> PullResult:
        """Read messages from a start on. Nothing there is an empty result, not an error.

        Args:
            channel: An existing channel.
            start: An offset, a time with a time zone (the first message stored
                then or later), ``"beginning"`` or ``"latest"``.
            max_records: How many at most; 0 is no limit.
            max_bytes: After how many bytes to stop; a batch is never cut for it.
                0 is the server's default, 1 MiB.
            max_wait_ms: How long to wait for a first message.

        Raises:
            DataLoss: The first messages are damaged; it says which.
            OffsetOutOfRange: The start is outside the log; it says what is there.
            MQError: Another refusal.
        """
        return await self._transport.run(
            flows.pull(self._policy, channel, start, max_records, max_bytes, max_wait_ms)
        )

    def subscribe(
        self,
        channel: str,
        start: Start = "latest",
        *,
        prefetch: bool = True,
        max_bytes: int = MIB,
        max_wait_ms: int = 30_000,
        on_damage: OnDamage = "raise",
        reconnect_timeout_s: float | None = None,
    ) -> AsyncSubscription:
        """Follow a channel: an endless asynchronous iterator over its messages.

        ``"latest"`` means from when the iteration begins, or from when the
        subscription is entered as an async context manager. A broker that goes
        away is waited for, and reading goes on with the next offset.

        Args:
            channel: An existing channel.
            start: As for `pull`.
            prefetch: Whether to pull the next batches while these are worked on.
            max_bytes: How much one pull brings, about.
            max_wait_ms: How long one pull waits; there is no need to change it.
            on_damage: ``"raise"`` damage as `DataLoss`, or ``"skip"`` and count it.
            reconnect_timeout_s: How long to wait for a broker that is away before
                raising; None is for ever.

        Raises:
            InvalidArgument: An option that can't be used.
        """
        subscription = AsyncSubscription(
            self._transport,
            channel,
            start,
            FollowOptions(
                max_bytes=max_bytes,
                max_wait_ms=max_wait_ms,
                on_damage=on_damage,
                reconnect_timeout_s=reconnect_timeout_s,
                prefetch=prefetch,
                call_timeout_s=self._policy.timeout_s,
            ),
        )
        self._subscriptions.add(subscription)
        return subscription

    # ---- Channels ---------------------------------------------------------

    async def create_channel(
        self,
        channel: str,
        *,
        segment_bytes: int | None = None,
        durability: Durability | None = None,
        max_message_bytes: int | None = None,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
        retention_records: int | None = None,
        retain_unacknowledged: bool | None = None,
        retain_unacknowledged_bytes: int | None = None,
        segment_ms: int | None = None,
        compact: bool | None = None,
    ) -> None:
        """Create a channel. One that exists stays as it is, its settings too.

        Args:
            channel: Its name.
            segment_bytes: The size its files grow to; None is the server's default,
                as for the others.
            durability: What an acknowledgement means where the publisher doesn't say.
            max_message_bytes: The largest message or batch accepted.
            retention_ms: Remove messages once they are older; 0 is no limit, as for the
                others. What goes, goes by whole segments.
            retention_bytes: Remove the oldest messages beyond so many bytes.
            retention_records: Remove the oldest messages beyond so many.
            retain_unacknowledged: Keep what some group has not acknowledged all the same.
            retain_unacknowledged_bytes: Unless the channel holds more bytes than this.
            segment_ms: How old a segment becomes at most before a new one begins; 0 is a
                quarter of `retention_ms`.
            compact: Keep only the latest message of each key.

        Raises:
            MQError: It was refused.
        """
        config = config_message(
            segment_bytes,
            durability,
            max_message_bytes,
            retention_ms=retention_ms,
            retention_bytes=retention_bytes,
            retention_records=retention_records,
            retain_unacknowledged=retain_unacknowledged,
            retain_unacknowledged_bytes=retain_unacknowledged_bytes,
            segment_ms=segment_ms,
            compact=compact,
        )
        await self._transport.run(flows.create_channel(self._policy, channel, config))

    async def list_channels(self, prefix: str = "") -> list[ChannelInfo]:
        """All channels whose names begin so, in order, with name, id and creation time only.

        Raises:
            MQError: It was refused.
        """
        return await self._transport.run(flows.list_channels(self._policy, prefix))

    async def describe_channel(self, channel: str) -> ChannelInfo:
        """A channel's offsets, sizes, settings, rates and state.

        Raises:
            ChannelNotFound: There is none of that name.
            MQError: It was refused.
        """
        return await self._transport.run(flows.describe_channel(self._policy, channel))

    async def configure_channel(
        self,
        channel: str,
        *,
        segment_bytes: int | None = None,
        durability: Durability | None = None,
        max_message_bytes: int | None = None,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
        retention_records: int | None = None,
        retain_unacknowledged: bool | None = None,
        retain_unacknowledged_bytes: int | None = None,
        segment_ms: int | None = None,
        compact: bool | None = None,
    ) -> ChannelInfo:
        """Change a channel's settings, those of `create_channel`; what is None stays.

        Returns:
            The channel as it is now.

        Raises:
            ChannelNotFound: There is none of that name.
            MQError: It was refused.
        """
        config = config_message(
            segment_bytes,
            durability,
            max_message_bytes,
            retention_ms=retention_ms,
            retention_bytes=retention_bytes,
            retention_records=retention_records,
            retain_unacknowledged=retain_unacknowledged,
            retain_unacknowledged_bytes=retain_unacknowledged_bytes,
            segment_ms=segment_ms,
            compact=compact,
        )
        return await self._transport.run(flows.configure_channel(self._policy, channel, config))

    async def delete_channel(self, channel: str) -> None:
        """Delete a channel and all it holds.

        Raises:
            ChannelNotFound: There is none of that name.
            MQError: It was refused.
        """
        await self._transport.run(flows.delete_channel(self._policy, channel))

    # ---- Ending -----------------------------------------------------------

    async def close(self) -> None:
        """Flush producers and consumers, for `timeout_s` each at most, end all, disconnect.

        Raises:
            MQError: The first message that could not be delivered, or settled.
        """
        for subscription in list(self._subscriptions):
            await subscription.close()
        first_error: MQError | None = None
        try:
            for each in self._unfinished():
                try:
                    await each.close(self._policy.timeout_s)
                except MQError as error:
                    first_error = first_error or error
        finally:
            await self._abort()
        if first_error is not None:
            raise first_error

    def _unfinished(self) -> list[AsyncGroupConsumer | AsyncProducer]:
        return [*self._consumers, *self._producers]

    async def _abort(self) -> None:
        for each in self._unfinished():
            each.abort()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; without flushing where the block was cancelled or interrupted."""
        if exc is None:
            await self.close()
        elif isinstance(exc, Exception):
            try:
                await self.close()
            except MQError as error:
                exc.add_note(f"and a producer could not deliver everything: {error}")
        else:
            await self._abort()
