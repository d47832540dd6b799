"""What the device takes by itself: appends of one message with a sync each, at a fixed rate.

No broker, no client, one thread: what is measured beside it can't be quicker.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import latency

# A message of 100 bytes with its frame, in a file that is allocated and written already.
_APPEND_BYTES = 200
_FILE_BYTES = 16 << 20


def paced_syncs(directory: Path, rate_per_s: float, seconds: float) -> dict[str, Any]:
    """Append and sync at a rate.

    Args:
        directory: On the device.
        rate_per_s: How often; one that is late is done at once.
        seconds: How long.

    Returns:
        The quantiles, in microseconds: ``done`` counts from when an append was due,
        ``sync`` is the ``fdatasync`` alone.
    """
    count = max(1, round(rate_per_s * seconds))
    done, synced = np.empty(count, np.int64), np.empty(count, np.int64)
    fd = os.open(directory / "device", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(fd, bytes(_FILE_BYTES), 0)
        os.fsync(fd)
        first_ns = time.monotonic_ns() + 1_000_000
        for number in range(count):
            due_ns = first_ns + round(number * 1e9 / rate_per_s)
            while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            os.pwrite(fd, bytes(_APPEND_BYTES), number * _APPEND_BYTES % _FILE_BYTES)
            written_ns = time.monotonic_ns()
            os.fdatasync(fd)
            now_ns = time.monotonic_ns()
            done[number], synced[number] = now_ns - due_ns, now_ns - written_ns
    finally:
        os.close(fd)
    return {
        "rate_per_s": rate_per_s,
        "done": latency.quantiles_us(latency.histogram(done)),
        "sync": latency.quantiles_us(latency.histogram(synced)),
    }
