"""``append``: the log engine by itself, without a server, by batch size."""

from __future__ import annotations

import os
from typing import Any

from bench.context import Context
from bench.environment import fresh_directory
from bench.rounds import interleaved
from bench.worker import Worker

_SIZE = 100
_ROUNDS = 3


def measure(context: Context) -> dict[str, Any]:
    """Appends batches of growing size, synced each or not at all.

    Returns:
        ``synced`` and ``written``: batch size to a list of rounds.
    """
    results: dict[str, dict[str, list[Any]]] = {"synced": {}, "written": {}}
    sizes = [str(size) for size in context.profile.batch_sizes]
    rounds = min(_ROUNDS, context.profile.rounds)
    with fresh_directory(context.root, "append") as root, Worker(root, "append") as worker:
        for turn in interleaved(sizes, ("synced", "written"), rounds):
            context.progress(f"append: {turn.workload} a batch, {turn.contender}")
            os.sync()
            with fresh_directory(root, "log") as directory:
                figures = worker.call(
                    "append_log", directory=str(directory / "log"), records=int(turn.workload),
                    size=_SIZE, synced=turn.contender == "synced",
                    seconds=context.profile.seconds / 2,
                )  # fmt: skip
            results[turn.contender].setdefault(turn.workload, []).append(figures)
    return results
