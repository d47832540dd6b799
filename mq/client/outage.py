"""Watching a broker go away and come back: for how long, and whether it kept its word."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise

from mq.client.aio import AsyncClient
from mq.errors import ChannelFailed, MQError, Unavailable

_INDEX_BYTES = 8
_PAUSE_S = 0.002
_PULL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outage:
    """What was seen.

    Attributes:
        away_s: From the last acknowledgement before it went to the first after.
        acknowledged: Messages acknowledged in all.
        missing: How many of those could not be read back.
        repeated: Messages read back more than once, or after a later one.
    """

    away_s: float
    acknowledged: int
    missing: int
    repeated: int


async def watch(client: AsyncClient, channel: str, *, size: int, limit_s: float) -> Outage:
    """Publishes numbered messages until the broker has been away once, then reads them back.

    Args:
        client: Connected; another client, without retries, is made for the publishes.
        channel: Empty, and not used by anyone else.
        size: Bytes a message, at least eight.
        limit_s: How long to wait for the outage, and for its end.

    Raises:
        TimeoutError: It did not go, or did not come back.
        MQError: A publish was refused for another reason than that the broker is away.
    """
    padding = bytes(max(0, size - _INDEX_BYTES))
    acknowledged: list[int] = []
    away_s = 0.0
    async with asyncio.timeout(limit_s):
        async with AsyncClient(client.target, timeout_s=1.0, retry_timeout_s=0) as impatient:
            index, last = 0, time.monotonic()
            failed = False
            while not away_s:
                try:
                    await impatient.publish(
                        channel, index.to_bytes(_INDEX_BYTES, "little") + padding
                    )
                except MQError as error:
                    if not (error.retriable or isinstance(error, (Unavailable, ChannelFailed))):
                        raise
                    failed = True
                    await asyncio.sleep(_PAUSE_S)
                else:
                    acknowledged.append(index)
                    now = time.monotonic()
                    away_s = now - last if failed else 0.0
                    last = now
                index += 1
    stored = await _read_all(client, channel)
    # One whose answer was lost may be there too, but each once, and in order.
    repeated = sum(after <= before for before, after in pairwise(stored))
    missing = len(set(acknowledged) - set(stored))
    return Outage(away_s, len(acknowledged), missing, repeated)


async def _read_all(client: AsyncClient, channel: str) -> list[int]:
    indices: list[int] = []
    position = 0
    while True:
        pulled = await client.pull(channel, position, max_bytes=_PULL_BYTES)
        if not pulled.batches:
            return indices
        for batch in pulled.batches:
            indices += [
                int.from_bytes(content[:_INDEX_BYTES], "little") for content in batch.contents
            ]
        position = pulled.next_offset
