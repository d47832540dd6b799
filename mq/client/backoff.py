"""How long to wait before trying again: exponential, with full jitter, bounded."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `first_s` up to `limit_s`, each shortened at random.

    The jitter keeps the clients of a broker that restarts from coming back all
    at once. At least half of each delay remains, so that a retry never spins.
    """

    first_s: float = 0.05
    limit_s: float = 2.0
    random: Callable[[], float] = random.random

    def delay_s(self, failures: int) -> float:
        """The wait after that many failures in a row, the first being 1."""
        whole = min(self.limit_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return whole * (0.5 + 0.5 * self.random())
