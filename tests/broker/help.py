"""Publishing to and pulling from a broker in the test's own process."""

from __future__ import annotations

import asyncio
from typing import Any

from crc32c import crc32c

from mq.broker.channel import Channel
from mq.broker.model import Durability
from mq.broker.waiters import Pull
from mq.errors import MQError
from mq.log.log import Append, Log
from mq.pb import mq_pb2 as pb

LIMIT_S = 20


def raised(outcome: Any) -> Any:
    """The outcome, or the error that it is, raised."""
    if isinstance(outcome, MQError):
        raise outcome
    return outcome


def log_of(channel: Channel) -> Log:
    """The open log of a channel."""
    assert channel.log is not None, f"{channel.name} is not open"
    return channel.log


async def publish(channel: Channel, content: bytes, durability: int = 0) -> int:
    """Publish one message and return its offset."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.publish(content, Durability(durability), lambda outcome, _: future.set_result(outcome))
    return int(raised(await asyncio.wait_for(future, LIMIT_S)).base_offset)


async def publish_batch(channel: Channel, *contents: bytes, **fields: int) -> Any:
    """Publish a batch and return its receipt."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    data = pb.Records(contents=contents).SerializeToString()
    append = Append(data, len(contents), crc32c(data), **fields)
    channel.publish_batch(append, Durability.DEFAULT, lambda outcome, _: future.set_result(outcome))
    return raised(await asyncio.wait_for(future, LIMIT_S))


class Waiting:
    """A pull under way."""

    def __init__(
        self, channel: Channel, offset: int, wait_s: float = 0.0, max_records: int = 0
    ) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pull = Pull(
            offset, 1 << 20, max_records, wait_s, lambda r: r.join(), self.future.set_result
        )
        channel.pull(self.pull)

    async def contents(self) -> list[bytes]:
        """The contents of what it was answered with."""
        response = raised(await asyncio.wait_for(self.future, LIMIT_S))
        return [
            content
            for batch in pb.PullResponse.FromString(response).batches
            for content in pb.Records.FromString(batch.records).contents
        ]


async def read(channel: Channel, offset: int) -> list[bytes]:
    """The contents from ``offset`` on."""
    return await Waiting(channel, offset).contents()
