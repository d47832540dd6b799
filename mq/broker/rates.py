"""Records and bytes a second over the last minute, without a timer. Pure."""

from __future__ import annotations

WINDOW_S = 60


class Rate:
    """Counts by second in a ring; an idle one costs nothing."""

    __slots__ = ("_bytes", "_records", "_second")

    def __init__(self) -> None:
        self._second = -WINDOW_S
        self._records = [0] * WINDOW_S
        self._bytes = [0] * WINDOW_S

    def add(self, now_s: float, records: int, size_bytes: int) -> None:
        """Count records at a time of a clock that doesn't go back."""
        second = int(now_s)
        self._advance(second)
        self._records[second % WINDOW_S] += records
        self._bytes[second % WINDOW_S] += size_bytes

    def per_second(self, now_s: float) -> tuple[float, float]:
        """Records and bytes a second over the last ``WINDOW_S`` seconds."""
        self._advance(int(now_s))
        return sum(self._records) / WINDOW_S, sum(self._bytes) / WINDOW_S

    def _advance(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._records[passed % WINDOW_S] = 0
            self._bytes[passed % WINDOW_S] = 0
        self._second = max(self._second, second)
