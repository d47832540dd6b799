"""``peers``: the comparison in both modes; ``fronts``: the same for mq's two fronts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.context import Context
from bench.peers.base import RELAXED, SYNCED
from bench.peers.compare import Options, compare

_FRONT_WORKLOADS = (
    "one", "one_unary", "in_flight_64", "in_flight_64_unary", "batch_x4", "read_best",
)  # fmt: skip


def measure(context: Context, names: Sequence[str]) -> dict[str, Any]:
    """Compares, mode by mode: equal durability with equal durability.

    Returns:
        Mode to what ``compare`` returns.
    """
    profile = context.profile
    found = {
        SYNCED: compare(
            context.root, SYNCED,
            Options(
                peers=names, rounds=profile.rounds, seconds=profile.seconds,
                batch_sizes=profile.batch_sizes, to_read=profile.to_read,
            ),
            context.progress,
        )
    }  # fmt: skip
    if profile.relaxed_rounds:
        found[RELAXED] = compare(
            context.root, RELAXED,
            Options(
                peers=names, rounds=profile.relaxed_rounds, seconds=profile.relaxed_seconds,
                to_read=profile.to_read,
            ),
            context.progress,
        )  # fmt: skip
    return found


def fronts(context: Context) -> dict[str, Any]:
    """mq with one front and with the other, as ``compare`` returns it."""
    profile = context.profile
    return compare(
        context.root, SYNCED,
        Options(
            peers=("mq-native", "mq-grpcio"), workloads=_FRONT_WORKLOADS,
            rounds=min(3, profile.rounds), seconds=profile.seconds / 2, to_read=profile.to_read,
        ),
        context.progress,
    )  # fmt: skip
