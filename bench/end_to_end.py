"""``end_to_end``: from when a message is due to when a waiting pull has it.

Publisher and subscriber are two processes; both read the machine's monotonic
clock. The rate is fixed and latencies count from the due time, so that a stall
shows in every message it delays. The device alone is measured beside it.
"""

from __future__ import annotations

import os
from typing import Any

from bench import latency
from bench.context import Context
from bench.device import paced_syncs
from bench.environment import fresh_directory
from bench.mq_bench import Rig, rig

_SIZE = 100


def measure(context: Context) -> dict[str, Any]:
    """One run a rate.

    Returns:
        ``rates``: for each rate the quantiles, in microseconds, of ``receipt``,
        ``acknowledged`` and ``lag`` (the generator's own), and the histogram of
        the receipts; and ``device``, for each rate what `paced_syncs` returns,
        measured just after.
    """
    rates, device = [], []
    seconds = context.profile.end_to_end_seconds
    with (
        rig(context, workers=2) as one,
        fresh_directory(context.root, "device") as directory,
    ):
        paced(one, "warm-up", 500, 1.0)
        for rate in context.profile.rates_per_s:
            context.progress(f"end to end: {rate} messages a second")
            rates.append(paced(one, f"rate-{rate}", rate, seconds))
            context.progress(f"end to end: the device alone, {rate} syncs a second")
            device.append(paced_syncs(directory, rate, seconds / 3))
    return {"rates": rates, "device": device}


def paced(
    one: Rig, channel: str, rate_per_s: float, seconds: float, subscribers: int = 1
) -> dict[str, Any]:
    """Publishes at a rate from one worker, receives in pulls that wait in another."""
    publisher, subscriber = one.workers
    address = one.server.address
    one.call("create", channels=[channel])
    os.sync()
    before = one.server.process.cpu_s
    subscriber.begin(
        "receive_paced", address=address, channel=channel,
        count=max(1, round(rate_per_s * seconds)), subscribers=subscribers,
    )  # fmt: skip
    sent = publisher.call(
        "publish_paced", address=address, channel=channel, rate_per_s=rate_per_s,
        seconds=seconds, size=_SIZE, waiting=subscribers,
    )  # fmt: skip
    received = subscriber.finish()
    return {
        "rate_per_s": rate_per_s,
        "subscribers": subscribers,
        "sent": sent["sent"],
        "receipt": latency.quantiles_us(received["receipt"]),
        "acknowledged": latency.quantiles_us(sent["acknowledged"]),
        "lag": latency.quantiles_us(sent["lag"]),
        "histogram": received["receipt"],
        "server_cpu": (one.server.process.cpu_s - before) / seconds,
    }
