"""What a worker can be asked to do with mq alone. Each function answers with a dict for JSON."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import crc32c
import grpc
import numpy as np

from bench import latency
from bench.environment import Unavailable
from bench.jobs import report
from mq import AsyncClient
from mq.client import loadgen, workloads
from mq.client.loadgen import Load
from mq.client.pacing import Schedule
from mq.client.records import encode_records
from mq.log.log import Append, Log
from mq.pb import mq_pb2 as pb

# Time for a publisher to be ready before its first message is due.
_LEAD_NS = 50_000_000
_IN_FLIGHT = 32


def append_log(
    directory: str, records: int, size: int, synced: bool, seconds: float
) -> dict[str, Any]:
    """The log engine by itself: batches appended, and each synced or none."""
    pool = [
        Append(encoded, records, crc32c.crc32c(encoded))
        for encoded in map(encode_records, loadgen.batches_of(size, records))
    ]
    Path(directory).mkdir(parents=True)
    log = Log(Path(directory), os.urandom(16))
    latencies: list[int] = []
    clock = time.perf_counter_ns
    with ThreadPoolExecutor(1) as aside:
        upkeep = aside.submit(lambda: None)
        began = now = clock()
        for batch in itertools.cycle(pool):
            before = now
            log.append([batch])
            if synced:
                log.sync()
            if upkeep.done():
                upkeep = _begin_upkeep(log, aside) or upkeep
            now = clock()
            latencies.append(now - before)
            if now - began > seconds * 1e9:
                break
    log.close()
    count = len(latencies) * records
    load = Load(count, count * size, (now - began) / 1e9, np.asarray(latencies, np.int64))
    return report(load)


def _begin_upkeep(log: Log, aside: ThreadPoolExecutor) -> Future[None] | None:
    """What the broker does beside appending, in another thread too."""
    if log.wants_prepare:
        return aside.submit(log.prepare)
    if log.checkpoint_due:
        return aside.submit(log.plan_checkpoint())
    return None


async def workload(address: str, name: str, **arguments: Any) -> dict[str, Any]:
    """One of ``mq.client.workloads`` that returns a ``Load``."""
    async with AsyncClient(address) as client:
        load: Load = await getattr(workloads, name)(client, **arguments)
        return report(load)


async def create(address: str, channels: Sequence[str]) -> dict[str, Any]:
    """Creates channels."""
    async with AsyncClient(address) as client:
        return await _for_each(channels, client.create_channel)


async def touch(address: str, channels: Sequence[str], size: int) -> dict[str, Any]:
    """Publishes one message to each channel."""
    (content,) = loadgen.contents(size, 1)
    async with AsyncClient(address) as client:
        return await _for_each(channels, lambda channel: client.publish(channel, content))


async def read_each(address: str, channels: Sequence[str]) -> dict[str, Any]:
    """Pulls the first message of each channel."""
    async with AsyncClient(address) as client:

        async def read(channel: str) -> None:
            if not len(await client.pull(channel, "beginning")):
                raise Unavailable(f"{channel} is empty, and should have a message")

        return await _for_each(channels, read)


async def _for_each(
    channels: Sequence[str], act: Callable[[str], Awaitable[object]]
) -> dict[str, Any]:
    left = iter(channels)

    async def some() -> None:
        for channel in left:
            await act(channel)

    began = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(_IN_FLIGHT)))
    return {"seconds": time.perf_counter() - began}


async def fill(address: str, channel: str, count: int, size: int, records: int) -> dict[str, Any]:
    """Appends messages to a channel, made if need be, and checks that they are there."""
    async with AsyncClient(address) as client:
        await client.create_channel(channel)
        before = (await client.describe_channel(channel)).record_count
        began = time.perf_counter()
        await workloads.fill(client, channel, count=count, size=size, records=records)
        seconds = time.perf_counter() - began
        info = await client.describe_channel(channel)
        if info.record_count - before != count:
            raise Unavailable(f"filled {count}, but {info.record_count - before} are stored")
        return {"seconds": seconds, "stored_bytes": info.stored_bytes}


async def publish_paced(
    address: str, channel: str, rate_per_s: float, seconds: float, size: int, waiting: int
) -> dict[str, Any]:
    """Publishes at a fixed rate, once as many pulls wait on the channel as should."""
    async with AsyncClient(address) as client:
        await _wait_for_pulls(client, channel, waiting)
        for _ in range(20):
            await client.describe_channel(channel)
        count = max(1, round(rate_per_s * seconds))
        schedule = Schedule(rate_per_s, count, time.monotonic_ns() + _LEAD_NS)
        paced = await workloads.publish_paced(client, channel, schedule, size=size)
        return {
            "sent": paced.sent,
            "acknowledged": latency.histogram(paced.acknowledged_ns),
            "lag": latency.histogram(np.maximum(paced.lag_ns, 0)),
        }


async def receive_paced(address: str, channel: str, count: int, subscribers: int) -> dict[str, Any]:
    """Waits for paced messages in as many pulls as there are subscribers."""
    async with AsyncClient(address) as client:
        start = (await client.describe_channel(channel)).durable_offset
        received = await asyncio.gather(*(
            workloads.receive_paced(client, channel, start, count) for _ in range(subscribers)
        ))  # fmt: skip
        return {"receipt": latency.histogram(np.concatenate(received))}


async def _wait_for_pulls(client: AsyncClient, channel: str, waiting: int) -> None:
    until = time.monotonic() + 30
    while (await client.describe_channel(channel)).waiting_pulls < waiting:
        if time.monotonic() > until:
            raise Unavailable(f"{waiting} pulls should wait on {channel}, but they don't")
        await asyncio.sleep(0.01)


async def wait_idle(address: str, channels: Sequence[str], seconds: float) -> dict[str, Any]:
    """Holds one waiting pull on each channel; nothing is published."""
    async with AsyncClient(address) as client:
        limit_ms = round((seconds + 30) * 1e3)
        pulls = [
            asyncio.create_task(client.pull(channel, "latest", max_wait_ms=limit_ms))
            for channel in channels
        ]
        await asyncio.sleep(seconds)
        ended = sum(pull.done() for pull in pulls)
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
        if ended:
            raise Unavailable(f"{ended} of {len(pulls)} pulls did not wait")
        return {"waiting": len(pulls)}


async def replay(
    address: str, channel: str, max_bytes: int, seconds: float, stop_at: int = 0
) -> dict[str, Any]:
    """Reads a channel from the beginning as fast as answers come; looks at none.

    With ``stop_at`` it begins again at that offset, until the time is up;
    otherwise it ends with the channel.
    """
    async with AsyncClient(address) as client:
        began = time.perf_counter()
        position = messages = 0
        while time.perf_counter() - began < seconds:
            pulled = await client.pull(channel, position, max_bytes=max_bytes)
            messages += pulled.next_offset - position
            position = pulled.next_offset
            if stop_at and position >= stop_at:
                position = 0
            elif position >= pulled.durable_offset:
                break
        return {"messages": messages, "seconds": time.perf_counter() - began}


async def publish_until_gone(address: str, channel: str, size: int) -> dict[str, Any]:
    """Publishes in eight tasks until the broker goes; the offset that must be durable."""
    durable_offset = 0
    (content,) = loadgen.contents(size, 1)
    async with AsyncClient(address, retry_timeout_s=0) as client:

        async def some() -> None:
            nonlocal durable_offset
            while True:
                receipt = await client.publish(channel, content)
                durable_offset = max(durable_offset, receipt.offset + 1)

        # Each ends with an error, which is how this ends.
        await asyncio.gather(*(some() for _ in range(8)), return_exceptions=True)
    return {"durable_offset": durable_offset}


async def lease_all(address: str, channel: str, group: str, count: int) -> dict[str, Any]:
    """Leases so many messages of a group, and keeps them."""
    async with connected(address) as stub:
        fetch = stub.unary_unary(
            "/mq.MQService/Fetch", pb.FetchRequest.SerializeToString, pb.FetchResponse.FromString
        )
        request = pb.FetchRequest(
            channel=channel, group=group, consumer="bench", max_records=10_000,
            lease_ms=3_600_000, config=pb.GroupConfig(lease_ms=3_600_000),
        )  # fmt: skip
        began, leased = time.perf_counter(), 0
        while leased < count:
            answer = await fetch(request, timeout=60)
            got = sum(each.next_offset - each.first_offset for each in answer.deliveries)
            if not got:
                raise Unavailable(f"{leased} messages could be leased, not {count}")
            leased += got
        return {"seconds": time.perf_counter() - began, "leased": leased}


async def ack_every_other(address: str, channel: str, group: str, count: int) -> dict[str, Any]:
    """Acknowledges each second one of leased messages, none beside another."""
    async with connected(address) as stub:
        ack = stub.unary_unary(
            "/mq.MQService/Ack", pb.AckRequest.SerializeToString, pb.AckResponse.FromString
        )
        began = time.perf_counter()
        for first in range(0, count, 2_000):
            ranges = [
                pb.OffsetRange(first_offset=offset, next_offset=offset + 1)
                for offset in range(first + 1, min(first + 2_000, count), 2)
            ]
            answer = await ack(
                pb.AckRequest(channel=channel, group=group, consumer="bench", ranges=ranges),
                timeout=60,
            )
            if answer.refused:
                raise Unavailable(f"an acknowledgement was refused: {answer.refused[0]}")
        return {"seconds": time.perf_counter() - began}


async def first_fetch(address: str, channel: str, group: str) -> dict[str, Any]:
    """How long a new client takes to its first message of a group that has to be recovered."""
    async with connected(address) as stub:
        fetch = stub.unary_unary(
            "/mq.MQService/Fetch", pb.FetchRequest.SerializeToString, pb.FetchResponse.FromString
        )
        began = time.perf_counter()
        answer = await fetch(
            pb.FetchRequest(channel=channel, group=group, consumer="again", max_records=1),
            timeout=60, wait_for_ready=True,
        )  # fmt: skip
        if not answer.deliveries:
            raise Unavailable("nothing is delivered again after the restart")
        return {"seconds": time.perf_counter() - began}


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    """A connection with room for large answers."""
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


async def first_pull(address: str, channel: str) -> dict[str, Any]:
    """How long a new client takes from connecting to its first answer."""
    async with AsyncClient(address) as client:
        began = time.perf_counter()
        pulled = await client.pull(channel, "beginning", max_bytes=1)
        return {"seconds": time.perf_counter() - began, "durable_offset": pulled.durable_offset}


FUNCTIONS: Mapping[str, Any] = {
    function.__name__: function
    for function in (
        append_log, workload, create, touch, read_each, publish_paced, receive_paced, wait_idle,
        replay, publish_until_gone, first_pull, lease_all, ack_every_other, first_fetch,
    )
} | {"fill_mq": fill}  # fmt: skip
