"""``pull``: reading what is stored, by the size of an answer, and by that of what was appended."""

from __future__ import annotations

from typing import Any

from bench.context import Context
from bench.mq_bench import rig
from bench.rounds import interleaved

_CHANNEL = "pull"
_MESSAGES = 1_000_000
_APPENDED = (100, 500, 5_000)
_MAX_BYTES = (64 << 10, 256 << 10, 1 << 20, 4 << 20)


def measure(context: Context) -> dict[str, Any]:
    """Pulls everything, again and again, touching each message.

    Returns:
        ``by_max_bytes`` (with 500 a batch) and ``by_batch`` (with 1 MiB an
        answer): size to a list of rounds.
    """
    profile = context.profile
    count = max(20_000, int(_MESSAGES * min(1.0, profile.seconds)))
    by_bytes: dict[str, list[Any]] = {}
    by_batch: dict[str, list[Any]] = {}
    with rig(context) as one:
        for records in _APPENDED:
            context.progress(f"pull: filling with batches of {records}")
            one.fill(f"{_CHANNEL}-{records}", count, records=records)
        plans = [f"bytes {size}" for size in _MAX_BYTES] + [f"batch {size}" for size in _APPENDED]
        for turn in interleaved(plans, ("mq",), min(3, profile.rounds)):
            context.progress(f"pull: {turn.workload}")
            kind, _, number = turn.workload.partition(" ")
            records, max_bytes = (500, int(number)) if kind == "bytes" else (int(number), 1 << 20)
            figures = one.workload(
                "pull", channel=f"{_CHANNEL}-{records}", max_bytes=max_bytes,
                seconds=profile.seconds / 2,
            )  # fmt: skip
            (by_bytes if kind == "bytes" else by_batch).setdefault(number, []).append(figures)
    return {"by_max_bytes": by_bytes, "by_batch": by_batch}
