"""Workloads against a running broker: what ``mq bench`` and ``bench/`` measure.

Each makes its requests through the public client, as a program would, and
returns a ``Load``. None of them creates or deletes a channel.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from mq.client import loadgen
from mq.client.aio import AsyncClient
from mq.client.loadgen import Load
from mq.client.pacing import Schedule, ticks
from mq.client.pulled import PullResult
from mq.errors import MQError
from mq.pb import mq_pb2 as pb

# The due time of a paced message is the beginning of its content.
STAMP_BYTES = 8
PUBLISH = "/mq.MQService/Publish"
_PUBLISHES_IN_FLIGHT_MAX = 10_000


async def publish_one(client: AsyncClient, channel: str, *, size: int, seconds: float) -> Load:
    """One ``publish`` after the other."""

    async def send(content: bytes) -> None:
        await client.publish(channel, content)

    return await loadgen.one_at_a_time(send, size=size, seconds=seconds)


async def publish_in_flight(
    client: AsyncClient, channel: str, *, width: int, size: int, seconds: float
) -> Load:
    """``publish`` in ``width`` tasks at once."""

    async def send(content: bytes) -> None:
        await client.publish(channel, content)

    return await loadgen.in_flight([send] * width, size=size, seconds=seconds)


async def publish_unary(
    target: str, channel: str, *, width: int, size: int, seconds: float
) -> Load:
    """The first contract's ``Publish``: one gRPC call a message, ``width`` in flight.

    ``AsyncClient.publish`` lets messages that meet share a call; this is what a
    client of generated stubs does.
    """
    async with grpc.aio.insecure_channel(target) as connection:
        call = connection.unary_unary(
            PUBLISH,
            request_serializer=pb.PublishRequest.SerializeToString,
            response_deserializer=pb.PublishResponse.FromString,
        )

        async def send(content: bytes) -> None:
            await call(pb.PublishRequest(channel=channel, content=content))

        if width == 1:
            return await loadgen.one_at_a_time(send, size=size, seconds=seconds)
        return await loadgen.in_flight([send] * width, size=size, seconds=seconds)


async def publish_spread(
    client: AsyncClient, channels: Sequence[str], *, width: int, size: int, seconds: float
) -> Load:
    """``publish`` in ``width`` tasks, each going round all the channels."""

    def sender(first: int) -> loadgen.Send:
        at = first * len(channels) // width

        async def send(content: bytes) -> None:
            nonlocal at
            at = (at + 1) % len(channels)
            await client.publish(channels[at], content)

        return send

    sends = [sender(index) for index in range(width)]
    return await loadgen.in_flight(sends, size=size, seconds=seconds)


async def publish_batches(
    client: AsyncClient, channel: str, *, records: int, width: int, size: int, seconds: float
) -> Load:
    """``publish_many`` of ``records`` messages, ``width`` calls in flight."""

    async def send(batch: Sequence[bytes]) -> None:
        await client.publish_many(channel, batch)

    return await loadgen.batches([send] * width, size=size, records=records, seconds=seconds)


async def produce(client: AsyncClient, channel: str, *, size: int, seconds: float) -> Load:
    """The batching producer: one ``send`` a message, as fast as it takes them."""
    pool = loadgen.contents(size)
    sent = 0
    async with client.producer(channel) as producer:
        began = time.perf_counter_ns()
        until = began + int(seconds * 1e9)
        while time.perf_counter_ns() < until:
            for content in pool:
                await producer.send(content)
            sent += len(pool)
        await producer.flush()
        ended = time.perf_counter_ns()
    return Load(sent, sent * size, (ended - began) / 1e9)


async def fill(client: AsyncClient, channel: str, *, count: int, size: int, records: int) -> None:
    """Appends ``count`` messages in batches, four in flight."""
    pool = loadgen.batches_of(size, records)
    whole, rest = divmod(count, records)
    left = iter(range(whole))

    async def some() -> None:
        for index in left:
            await client.publish_many(channel, pool[index % len(pool)])

    await asyncio.gather(*(some() for _ in range(4)))
    if rest:
        await client.publish_many(channel, pool[0][:rest])


async def pull(
    client: AsyncClient, channel: str, *, max_bytes: int = 0, max_records: int = 0,
    seconds: float, ahead: bool = True,
) -> Load:  # fmt: skip
    """Reads from the beginning, again and again, and touches each message.

    Args:
        client: Connected.
        channel: Has messages.
        max_bytes: Of one pull; 0 is the server's default.
        max_records: Of one pull; 0 is no limit.
        seconds: How long to go on.
        ahead: Whether the next pull is under way while an answer is looked at.
    """
    position = 0
    following: asyncio.Task[PullResult] | None = None

    def ask(start: int) -> asyncio.Task[PullResult]:
        return asyncio.ensure_future(
            client.pull(channel, start, max_bytes=max_bytes, max_records=max_records)
        )

    async def read() -> list[bytes]:
        nonlocal position, following
        pulled = await (following or ask(position))
        ended = pulled.next_offset >= pulled.durable_offset
        position = 0 if ended else pulled.next_offset
        following = ask(position) if ahead else None
        return [content for batch in pulled.batches for content in batch.contents]

    try:
        return await loadgen.reads(read, seconds=seconds)
    finally:
        if following is not None:
            await following


async def follow(client: AsyncClient, channel: str, *, seconds: float) -> Load:
    """The prefetching consumer, batch by batch from the beginning, again and again."""
    end = (await client.describe_channel(channel)).durable_offset
    subscription = client.subscribe(channel, "beginning")
    batches = subscription.batches()

    async def read() -> list[bytes]:
        nonlocal subscription, batches
        batch = await anext(batches)
        if batch.next_offset >= end:
            await subscription.close()
            subscription = client.subscribe(channel, "beginning")
            batches = subscription.batches()
        return batch.contents

    try:
        return await loadgen.reads(read, seconds=seconds)
    finally:
        await subscription.close()


async def pull_anywhere(client: AsyncClient, channel: str, *, seconds: float) -> Load:
    """Pulls one record at random offsets, one pull after the other."""
    info = await client.describe_channel(channel)
    rng = random.Random(1)

    async def read() -> list[bytes]:
        offset = rng.randrange(info.log_start_offset, info.durable_offset)
        pulled = await client.pull(channel, offset, max_records=1)
        return [content for batch in pulled.batches for content in batch.contents]

    return await loadgen.reads(read, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Paced:
    """What a paced publisher did: the latencies count from when a message was due."""

    sent: int
    acknowledged_ns: NDArray[np.int64]
    # How late messages were sent: the load generator's own share.
    lag_ns: NDArray[np.int64]


async def publish_paced(
    client: AsyncClient, channel: str, schedule: Schedule, *, size: int
) -> Paced:
    """Publishes one message a call at the schedule's rate, whatever the answers do.

    Raises:
        MQError: A publish failed.
        RuntimeError: The broker is so slow that too many calls are in flight.
    """
    padding = bytes(max(0, size - STAMP_BYTES))
    latencies: list[int] = []
    lags: list[int] = []
    in_flight: set[asyncio.Task[None]] = set()
    failures: list[MQError] = []
    clock = time.monotonic_ns

    async def publish(due_ns: int) -> None:
        try:
            await client.publish(channel, due_ns.to_bytes(STAMP_BYTES, "little") + padding)
        except MQError as error:
            failures.append(error)
        else:
            latencies.append(clock() - due_ns)

    async with aclosing(ticks(schedule)) as due:
        async for indices in due:
            now = clock()
            for index in indices:
                due_ns = schedule.due_ns(index)
                lags.append(now - due_ns)
                task = asyncio.create_task(publish(due_ns))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            if failures:
                raise failures[0]
            if len(in_flight) > _PUBLISHES_IN_FLIGHT_MAX:
                raise RuntimeError(
                    f"the broker can't keep up with {schedule.rate_per_s:g} a second"
                )
    await asyncio.gather(*in_flight)
    if failures:
        raise failures[0]
    return Paced(len(lags), np.asarray(latencies, np.int64), np.asarray(lags, np.int64))


async def receive_paced(
    client: AsyncClient, channel: str, start: int, count: int, *,
    limit_s: float = 60,
) -> NDArray[np.int64]:  # fmt: skip
    """Waits in pulls for ``count`` paced messages; nanoseconds from due to received, each.

    Args:
        client: Connected; may be of another process than the publisher's, on the same machine.
        channel: Where the messages come.
        start: The offset of the first.
        count: How many.
        limit_s: When to give up.

    Raises:
        TimeoutError: They did not come.
    """
    latencies = np.empty(count, np.int64)
    received = 0
    clock = time.monotonic_ns
    async with asyncio.timeout(limit_s):
        while received < count:
            pulled = await client.pull(channel, start, max_wait_ms=5_000)
            now = clock()
            start = pulled.next_offset
            for batch in pulled.batches:
                for content in batch.contents:
                    latencies[received] = now - int.from_bytes(content[:STAMP_BYTES], "little")
                    received += 1
    return latencies
