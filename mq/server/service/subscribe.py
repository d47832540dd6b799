"""Subscribe, of the first contract: messages pushed, a batch at most each interval."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.waiters import Pull
from mq.errors import ChannelMissing, ChannelNotFound, InvalidArgument, MQError, Unavailable
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.publish import known_channel
from mq.server.service.pull import encode_response
from mq.server.service.requests import parse

_INTERVAL_DEFAULT_MS = 100
_READ_BYTES = 1 << 20
# How long one wait for messages takes before it looks around again.
_WAIT_S = 60.0


class SubscribeHandler:
    """The handler that streams.

    Args:
        broker: Whose channels.
        batch_size: Most messages in one batch.
        stopping: Set when the broker stops.
    """

    def __init__(self, broker: Broker, batch_size: int, stopping: asyncio.Event) -> None:
        self._broker = broker
        self._batch_size = batch_size
        self._stopping = stopping

    async def subscribe(self, call: Call) -> None:
        """Send what is there and what comes, until the client goes."""
        request = parse(pb.SubscribeRequest, call.request)
        channel = known_channel(self._broker, request.channel)
        if request.offset not in (pb.OFFSET_BEGINNING, pb.OFFSET_LATEST):
            raise InvalidArgument("offset is unknown; use OFFSET_BEGINNING or OFFSET_LATEST")
        interval_s = (request.pull_interval or _INTERVAL_DEFAULT_MS) / 1000
        await channel.life.resolve()
        latest = request.offset == pb.OFFSET_LATEST
        offset = channel.durable_offset if latest else channel.log_start_offset
        loop = self._broker.loop
        while True:
            page = await self._page(channel, offset, self._batch_size, _WAIT_S)
            due_s = loop.time() + interval_s
            sent = 0
            while page.messages:
                for message in page.messages:
                    if not await call.send(message):
                        return
                sent += len(page.messages)
                if sent == self._batch_size or page.next_offset == channel.durable_offset:
                    break
                # Large messages: one read of the log holds less than a batch.
                page = await self._page(channel, page.next_offset, self._batch_size - sent, 0.0)
            offset = page.next_offset
            if sent:
                await self._sleep(due_s - loop.time())
            if self._stopping.is_set():
                raise Unavailable("the broker is stopping; subscribe again in a moment")

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through the broker's stop."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _page(self, channel: Channel, offset: int, count_max: int, wait_s: float) -> Page:
        """The next messages, or none if nothing came for so long."""
        answered: asyncio.Future[bytes | MQError] = self._broker.loop.create_future()

        def answer(outcome: bytes | MQError) -> None:
            if not answered.done():
                answered.set_result(outcome)

        pull = Pull(
            offset,
            _READ_BYTES,
            count_max,
            wait_s,
            lambda result: encode_response(channel.life, result),
            answer,
        )
        try:
            channel.pull(pull)
            outcome = await answered
        except ChannelNotFound as error:
            raise ChannelMissing(error.message) from None
        finally:
            channel.pulls.abandon(pull)
        if isinstance(outcome, ChannelNotFound):
            raise ChannelMissing(outcome.message)
        if isinstance(outcome, MQError):
            raise outcome
        return decode_page(outcome, offset, count_max, channel.meta.id.hex())


class Page(NamedTuple):
    """Serialized ``Message``s, and where the next page begins."""

    messages: list[bytes]
    next_offset: int


def decode_page(response: bytes, offset: int, count_max: int, channel_id: str) -> Page:
    """At most ``count_max`` messages from ``offset`` on, of a serialized ``PullResponse``."""
    parsed = pb.PullResponse.FromString(response)
    messages: list[bytes] = []
    for at, message in _messages(parsed, channel_id):
        if at < offset:
            continue
        if len(messages) == count_max:
            return Page(messages, at)
        messages.append(message.SerializeToString())
    return Page(messages, parsed.next_offset)


def _messages(parsed: pb.PullResponse, channel_id: str) -> Iterator[tuple[int, pb.Message]]:
    for batch in parsed.batches:
        records = pb.Records.FromString(batch.records)
        base, created_at = batch.base_offset, batch.append_time_ns // 1_000_000_000
        deltas = records.offset_deltas or range(len(records.contents))
        for delta, content in zip(deltas, records.contents, strict=True):
            at = base + delta
            # The channel's id makes it unique over all channels, and over a
            # channel of the same name that was deleted.
            name = f"msg-{channel_id}-{at}"
            yield at, pb.Message(id=name, content=content, created_at=created_at)
