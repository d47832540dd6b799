"""``peers``: the comparison in both modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.context import Context
from bench.peers.base import RELAXED, SYNCED
from bench.peers.compare import Options, compare


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
