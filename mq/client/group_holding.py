"""All that a consumer has and has not settled, and until when."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

from mq.client.group_parcel import HELD, LET_GO, LOST, Lease, Parcel
from mq.client.group_types import Refusal

# Of one call to prolong leases; the others follow at once.
_RANGES_MAX = 10_000


class Holding:
    """Parcels that hold something, with leases that end in the order they began.

    Attributes:
        buffered: Messages that were not handed out to the caller yet.
        out: Messages that were handed out.
        lost: Messages that were handed out and lost before they were settled, in total.
    """

    def __init__(self) -> None:
        self.buffered = 0
        self.out = 0
        self.lost = 0
        self._parcels: dict[Parcel, None] = {}
        self._leases: deque[Lease] = deque()
        self._highest = 0

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self._parcels)

    # ---- In and out -------------------------------------------------------

    def receive(self, parcels: Iterable[Parcel], until_s: float) -> None:
        """Take in what a fetch brought."""
        lease = Lease(until_s)
        for parcel in parcels:
            if parcel.first < self._highest:
                # Delivered again: what was here of it had been lost without a word.
                self.lose(parcel.first, parcel.next, "expired")
            self._highest = max(self._highest, parcel.next)
            parcel.lease = lease
            lease.held += parcel.left
            self.buffered += parcel.left
            self._parcels[parcel] = None
        self._leases.append(lease)

    def hand_out(self, parcel: Parcel, low: int, high: int, now: float) -> None:
        """The caller gets these positions, which are held, and none before them any more."""
        parcel.cursor = high
        parcel.handed_s = now
        self.buffered -= high - low
        self.out += high - low

    def settle(self, parcel: Parcel, low: int, high: int, state: int) -> None:
        """These positions are no longer held."""
        out_end = max(low, min(high, parcel.cursor))
        if low < out_end:
            self.out -= parcel.mark(low, out_end, state)
        if out_end < high:
            self.buffered -= parcel.mark(out_end, high, state)
        if not parcel.left:
            self._parcels.pop(parcel, None)

    def lose(
        self, first: int, following: int, refusal: Refusal, among: Iterable[Parcel] | None = None
    ) -> None:
        """Somebody else may have these offsets.

        Args:
            first: The first.
            following: One past the last.
            refusal: Why.
            among: The parcels that this is known of; None is all that are held.
        """
        for parcel in list(self._parcels if among is None else among):
            if not (parcel.left and parcel.first < following and first < parcel.next):
                continue
            low, high = parcel.positions(first, following)
            parcel.refusal = refusal
            for start, end, state in list(parcel.runs(low, high)):
                if state == HELD:
                    self.lost += max(0, min(end, parcel.cursor) - start)
                    self.settle(parcel, start, end, LOST)

    def lose_all(self, refusal: Refusal) -> None:
        """Nothing of what is held is this consumer's any more."""
        for parcel in list(self._parcels):
            self.lose(parcel.first, parcel.next, refusal, (parcel,))

    # ---- Leases -----------------------------------------------------------

    @property
    def first_end_s(self) -> float | None:
        """When the first lease ends; None while nothing is held."""
        while self._leases and not self._leases[0].held:
            self._leases.popleft()
        return self._leases[0].until_s if self._leases else None

    def let_go(self, handed_before_s: float) -> bool:
        """Prolong no more what was handed out before then, and is still worked on.

        Returns:
            Whether there was something.
        """
        out_before = self.out
        for parcel in list(self._parcels):
            if parcel.cursor and parcel.handed_s < handed_before_s:
                for start, end, state in list(parcel.runs(0, parcel.cursor)):
                    if state == HELD:
                        self.settle(parcel, start, end, LET_GO)
        return self.out < out_before

    def to_extend(self) -> tuple[list[Parcel], list[tuple[int, int]]]:
        """What to prolong next: parcels, and all the offsets of them that are held.

        Those whose leases end first come first; all of them in several calls.
        """
        parcels: list[Parcel] = []
        ranges: list[tuple[int, int]] = []
        for parcel in sorted(self._parcels, key=lambda parcel: parcel.lease.until_s):
            if len(ranges) >= _RANGES_MAX:
                break
            parcels.append(parcel)
            ranges += parcel.held_ranges()
        return parcels, ranges

    def extended(self, parcels: Iterable[Parcel], until_s: float) -> None:
        """The leases of what is held of these parcels end then."""
        lease = Lease(until_s)
        for parcel in parcels:
            parcel.lease.held -= parcel.left
            lease.held += parcel.left
            parcel.lease = lease
        # Fetches that were answered meanwhile may have later ends.
        ends = [each.until_s for each in self._leases]
        self._leases.insert(bisect_right(ends, until_s), lease)
