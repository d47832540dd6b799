"""What was fetched and not handed out yet, in the order in which it will be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mq.client.group_parcel import HELD, Damage, Parcel, Piece


class Portion(NamedTuple):
    """Records ``[low, high)`` of a parcel."""

    parcel: Parcel
    low: int
    high: int


class Supply:
    """Pieces of the fetches that were answered; and, in order of keys, what must not go out.

    In a key-ordered group a key is in one fetch at a time. So once a message
    fails or is handed back, what follows it in the same fetch under its key has
    to be handed back, too: the broker gives them anew, in order.
    """

    def __init__(self) -> None:
        self.key_ordered = False
        self._pieces: deque[Piece] = deque()
        # The fetch in which a key was handed back.
        self._turned_back: dict[bytes, int] = {}

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take in what a fetch brought."""
        self._pieces.extend(pieces)

    def peek(self, *, whole: bool) -> Portion | Damage | None:
        """What is next: a record, or as many as are together; it stays the next one."""
        while self._pieces:
            piece = self._pieces[0]
            if isinstance(piece, Damage):
                return piece
            low = piece.next_held()
            if low >= 0:
                return Portion(piece, low, piece.held_run(low) if whole else low + 1)
            self._pieces.popleft()
        return None

    def drop(self, damage: Damage) -> None:
        """Go on after damage, which is next."""
        dropped = self._pieces.popleft()
        assert dropped is damage, "only what is next can be dropped"

    def take_all(self) -> list[Portion]:
        """Take out all that is left."""
        pieces, self._pieces = self._pieces, deque()
        return [
            Portion(piece, low, high)
            for piece in pieces
            if isinstance(piece, Parcel)
            for low, high, state in piece.runs(piece.cursor, piece.record_count)
            if state == HELD
        ]

    # ---- Order by key -----------------------------------------------------

    def turn_back(self, portion: Portion) -> None:
        """These were handed back, and so must be what follows them."""
        if not self.key_ordered:
            return
        parcel, low, high = portion
        oldest = self._pieces[0].generation if self._pieces else parcel.generation
        self._turned_back = {key: g for key, g in self._turned_back.items() if g >= oldest}
        keys = filter(None, parcel.keys(low, high))
        self._turned_back |= dict.fromkeys(keys, parcel.generation)

    def follows_one_turned_back(self, portion: Portion) -> bool:
        """Whether a message of these has to wait for one that was handed back."""
        if not self._turned_back:
            return False
        parcel, low, high = portion
        get = self._turned_back.get
        return any(get(key) == parcel.generation for key in parcel.keys(low, high) if key)
