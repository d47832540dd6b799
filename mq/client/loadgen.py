"""Loops that load a broker and time it, whatever the broker.

A loop is given a function that sends (or receives) and awaits it, so that
every system is driven by the same code. What a loop returns is a ``Load``: how
much was acknowledged in which time, and how long each operation took. Nothing
here prints, and nothing here knows how a system is started.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Send = Callable[[bytes], Awaitable[object]]
SendBatch = Callable[[Sequence[bytes]], Awaitable[object]]
ReadBatch = Callable[[], Awaitable[Sequence[bytes]]]

# Contents and batches are made before the clock starts, and used in turn.
_DISTINCT_CONTENTS = 1_000
_DISTINCT_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Load:
    """What one measurement did.

    Attributes:
        messages: Messages acknowledged, or received.
        content_bytes: Their contents, added up.
        seconds: From the first operation to the last acknowledgement.
        latencies_ns: One entry an operation; empty where none was timed.
    """

    messages: int
    content_bytes: int
    seconds: float
    latencies_ns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def messages_per_s(self) -> float:
        """Messages a second; 0 for an empty measurement."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0

    def quantile_us(self, quantile: float) -> float:
        """A quantile of the latencies, in microseconds; NaN without latencies."""
        if not self.latencies_ns.size:
            return float("nan")
        return float(np.quantile(self.latencies_ns, quantile)) / 1e3


def contents(size: int, count: int = _DISTINCT_CONTENTS, seed: int = 1) -> list[bytes]:
    """Distinct contents of ``size`` random bytes, the same at each call."""
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(count)]


def batches_of(size: int, records: int, count: int = _DISTINCT_BATCHES) -> list[list[bytes]]:
    """Lists of ``records`` contents of ``size`` bytes each."""
    # Few distinct contents are enough for a large batch, and fit in memory.
    distinct = contents(size, min(records * count, max(8, (8 << 20) // max(size, 1))))
    endless = itertools.cycle(distinct)
    return [list(itertools.islice(endless, records)) for _ in range(count)]


async def one_at_a_time(send: Send, *, size: int, seconds: float, warmup: int = 50) -> Load:
    """Sends one message after the other, each once the last was acknowledged."""
    endless = itertools.cycle(contents(size))
    for _ in range(warmup):
        await send(next(endless))
    latencies: list[int] = []
    clock = time.perf_counter_ns
    began = now = clock()
    until = began + int(seconds * 1e9)
    while now < until:
        before = now
        await send(next(endless))
        now = clock()
        latencies.append(now - before)
    return _load(latencies, size, began, now)


async def in_flight(sends: Sequence[Send], *, size: int, seconds: float, warmup: int = 4) -> Load:
    """Keeps one message in flight on each of ``sends``.

    Args:
        sends: One function a message in flight; the same one many times where
            a client multiplexes, one a connection where it doesn't.
        size: Bytes a message.
        seconds: How long to go on.
        warmup: Messages to send on each before the clock starts.
    """
    pool = contents(size)

    async def some(send: Send, count: int) -> None:
        for index in range(count):
            await send(pool[index])

    await asyncio.gather(*(some(send, warmup) for send in sends))
    latencies: list[int] = []
    clock = time.perf_counter_ns
    began = clock()
    until = began + int(seconds * 1e9)

    async def until_time_is_up(send: Send, endless: Iterator[bytes]) -> None:
        now = clock()
        while now < until:
            before = now
            await send(next(endless))
            now = clock()
            latencies.append(now - before)

    await asyncio.gather(*(until_time_is_up(send, itertools.cycle(pool)) for send in sends))
    return _load(latencies, size, began, clock())


async def batches(
    sends: Sequence[SendBatch], *, size: int, records: int, seconds: float, warmup: int = 3
) -> Load:
    """Keeps one batch in flight on each of ``sends``; a latency is a batch's."""
    pool = batches_of(size, records)

    async def some(send: SendBatch) -> None:
        for index in range(warmup):
            await send(pool[index % len(pool)])

    await asyncio.gather(*(some(send) for send in sends))
    latencies: list[int] = []
    clock = time.perf_counter_ns
    began = clock()
    until = began + int(seconds * 1e9)

    async def until_time_is_up(send: SendBatch) -> None:
        endless = itertools.cycle(pool)
        now = clock()
        while now < until:
            before = now
            await send(next(endless))
            now = clock()
            latencies.append(now - before)

    await asyncio.gather(*(until_time_is_up(send) for send in sends))
    return _load(latencies, size, began, clock(), records)


async def reads(read: ReadBatch, *, seconds: float, warmup: int = 2) -> Load:
    """Reads batch after batch and touches each message once."""
    for _ in range(warmup):
        await read()
    latencies: list[int] = []
    messages = content_bytes = 0
    clock = time.perf_counter_ns
    began = now = clock()
    until = began + int(seconds * 1e9)
    while now < until:
        before = now
        batch = await read()
        messages += len(batch)
        content_bytes += touch(batch)
        now = clock()
        latencies.append(now - before)
    return Load(messages, content_bytes, (now - began) / 1e9, np.asarray(latencies, np.int64))


def touch(batch: Sequence[bytes]) -> int:
    """Looks at every message of a batch, as a consumer would: adds up their sizes."""
    return sum(map(len, batch))


def _load(latencies: list[int], size: int, began: int, ended: int, records: int = 1) -> Load:
    messages = len(latencies) * records
    return Load(messages, messages * size, (ended - began) / 1e9, np.asarray(latencies, np.int64))
