"""One consumer process of the group ledger: writes down what it does, before it says so.

    python -m tests.acceptance.group_ledger_consumer ADDRESS CHANNEL GROUP NAME FILE LEASE_MS

Each line of the file is one event, and times are nanoseconds of the monotonic
clock, which all processes share:

    P offset delivery_count fetch_began processed crc32   before it is acknowledged
    A offset time                                         the acknowledgement is confirmed
    L offset time                                         it was refused: the lease is lost
    N offset time                                         handed back as failed, confirmed

Poison is handed back until a file ``healed`` lies beside the ledger. The
process ends when its standard input does, or by SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from mq import AsyncClient, LeaseLost

POISON = b"poison "
MAX_DELIVERIES = 8
BACKOFF_MS = 50
_CHUNK = 500


class Consumer:
    """Processes messages of one group, and keeps a ledger of them."""

    def __init__(self, group: Any, ledger: Path) -> None:
        self._group = group
        self._healed = ledger.parent / "healed"
        self._file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def run(self) -> None:
        """Work until the group is stopped."""
        fetch_began = time.monotonic_ns()
        chunk: list[Any] = []
        async for message in self._group:
            chunk.append(message)
            if not self._group.stats.buffered or len(chunk) == _CHUNK:
                await self._process(chunk, fetch_began)
                chunk = []
                if not self._group.stats.buffered:
                    fetch_began = time.monotonic_ns()

    async def _process(self, chunk: list[Any], fetch_began: int) -> None:
        now = time.monotonic_ns()
        self._write(
            f"P {m.offset} {m.delivery_count} {fetch_began} {now} {zlib.crc32(m.content)}"
            for m in chunk
        )
        healed = self._healed.exists()
        events = await asyncio.gather(*(self._settle(message, healed) for message in chunk))
        self._write(event for event in events if event)

    async def _settle(self, message: Any, healed: bool) -> str:
        word = "A"
        try:
            if message.content.startswith(POISON) and not healed:
                word = "N"
                await message.nack(reason="poison")
            else:
                await message.ack()
        except LeaseLost:
            word = "L"
        return f"{word} {message.offset} {time.monotonic_ns()}"

    def _write(self, lines: Any) -> None:
        """In one call, so that a kill leaves all of them or none."""
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(self._file, data) :]


async def main(
    address: str, channel: str, group: str, name: str, ledger: Path, lease_ms: int
) -> None:
    """Consume until standard input ends."""
    loop = asyncio.get_running_loop()
    async with (
        AsyncClient(address) as client,
        client.group(
            group,
            channel,
            consumer=name,
            lease_ms=lease_ms,
            max_deliveries=MAX_DELIVERIES,
            backoff_min_ms=BACKOFF_MS,
            backoff_max_ms=10 * BACKOFF_MS,
            max_records=_CHUNK,
            prefetch=False,
        ) as consumer,
    ):
        ended = loop.run_in_executor(None, sys.stdin.read)
        ended.add_done_callback(lambda _: consumer.stop())
        await Consumer(consumer, ledger).run()


if __name__ == "__main__":
    address, channel, group, name, ledger, lease_ms = sys.argv[1:]
    asyncio.run(main(address, channel, group, name, Path(ledger), int(lease_ms)))
