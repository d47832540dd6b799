"""What a worker process can be asked to do. Each function answers with a dict for JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from bench import latency
from bench.environment import Unavailable
from bench.peers import registry
from bench.peers.base import CONSUME, Driver, Plan
from mq.client.loadgen import Load

# How long a sync that was put off may take to come.
_SYNC_LIMIT_S = 5.0


def report(load: Load) -> dict[str, Any]:
    """A measurement as it is stored."""
    figures: dict[str, Any] = {
        "messages": load.messages,
        "content_bytes": load.content_bytes,
        "seconds": load.seconds,
        "messages_per_s": load.messages_per_s,
        "mb_per_s": load.content_bytes / load.seconds / 1e6,
    }
    if load.latencies_ns.size:
        figures["p50_us"] = load.quantile_us(0.5)
        figures["p99_us"] = load.quantile_us(0.99)
        figures["histogram"] = latency.histogram(load.latencies_ns)
    return figures


async def measure(
    peer: str, address: str, mode: str, workload: str, stream: str, seconds: float, size: int,
    records: int = 500, group: str = "",
) -> dict[str, Any]:  # fmt: skip
    """One workload of the comparison; an empty answer where the broker has no such thing."""
    driver = registry.driver(peer, address, mode)
    await driver.open()
    try:
        publishes = workload not in CONSUME
        if publishes:
            await driver.create(stream)
        load = await driver.run(workload, Plan(stream, seconds, size, records, group))
        if load is None:
            return {}
        figures = report(load)
        if publishes:
            # With the warm-up, which is not among the load's messages.
            stored = figures["stored"] = await _count(driver, stream, load.messages)
            if stored < load.messages:
                raise Unavailable(f"{peer} acknowledged {load.messages}, but stored {stored}")
            await driver.drop(stream)
        elif load.content_bytes != load.messages * size:
            raise Unavailable(f"{peer} did not give back what was stored")
        return figures
    finally:
        await driver.close()


async def _count(driver: Driver, stream: str, expected: int) -> int:
    """How many messages are stored, once those that were not yet synced are."""
    deadline = time.monotonic() + _SYNC_LIMIT_S
    stored = await driver.count(stream)
    while stored < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        stored = await driver.count(stream)
    return stored


async def fill(
    peer: str, address: str, mode: str, stream: str, count: int, size: int
) -> dict[str, Any]:
    """Makes a stream with messages to read."""
    driver = registry.driver(peer, address, mode)
    await driver.open()
    try:
        await driver.create(stream)
        await driver.fill(stream, count, size)
        return {"stored": await driver.count(stream)}
    finally:
        await driver.close()


FUNCTIONS: Mapping[str, Any] = {"measure": measure, "fill": fill}
