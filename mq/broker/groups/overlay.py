"""The half of a group that a restart forgets: leases, and what can be handed out.

It is brought up to date after each entry that the ledger applied, by looking
at the marks; it never decides about them.
"""

from __future__ import annotations

from collections.abc import Iterable

from mq.broker.groups.config import Mode
from mq.broker.groups.key_order import KeyPool
from mq.broker.groups.leases import LOCKED, Consumer, Leases
from mq.broker.groups.ledger import DONE, Ledger, failures_of, not_before_of
from mq.broker.groups.plan import Outcome, Refusal
from mq.broker.groups.pool import Pool
from mq.broker.groups.ranges import Range, Run


class Overlay:
    """Leases and pool of a group, and the locks of its plans.

    Args:
        ledger: What it is derived from.
        leases: Whose consumers are remembered; what they held is not.
    """

    def __init__(self, ledger: Ledger, leases: Leases | None = None) -> None:
        self._ledger = ledger
        self.leases = leases.without_leases() if leases else Leases()
        make = KeyPool if ledger.config.mode is Mode.KEY_ORDERED else Pool
        self.pool = make(ledger, self.leases.held)

    # ---- Whose is what -------------------------------------------------------

    def sort_out(
        self, caller: Consumer, ranges: Iterable[Range], now_ms: int, lease_id: int = 0
    ) -> tuple[list[Run], list[Outcome]]:
        """Tell what the caller holds, unlocked, from what it does not.

        Args:
            caller: Who.
            ranges: What is asked about.
            now_ms: The time.
            lease_id: Only what it holds by this lease counts; 0: by any.

        Returns:
            Its pieces, as (first, next, lease code), and the answer for every range.
        """
        mine: list[Run] = []
        outcomes: list[Outcome] = []
        for first, following in ranges:
            for piece in self.leases.held.runs(first, following):
                start, end, code = piece
                lease = self.leases.lease_of(code)
                if lease is None:
                    self._explain(outcomes, start, end, now_ms)
                elif lease.consumer is not caller:
                    _tell(outcomes, start, end, Refusal.OTHER)
                elif lease_id and lease.id != lease_id:
                    _tell(outcomes, start, end, Refusal.EXPIRED)
                elif code & LOCKED:
                    _tell(outcomes, start, end, Refusal.PENDING)
                else:
                    mine.append(piece)
                    _tell(outcomes, start, end, None)
        return mine, outcomes

    def _explain(self, outcomes: list[Outcome], first: int, following: int, now_ms: int) -> None:
        """Answer for messages that nobody has leased."""
        floor, cursor = self._ledger.floor, self.pool.cursor
        if first < floor:
            _tell(outcomes, first, min(following, floor), Refusal.ALREADY)
            if following <= floor:
                return
        for start, end, mark in self._ledger.marks.runs(max(first, floor), following):
            if mark == DONE:
                _tell(outcomes, start, end, Refusal.ALREADY)
            elif mark:
                delayed = not failures_of(mark) and not_before_of(mark) > now_ms
                _tell(outcomes, start, end, Refusal.NEVER if delayed else Refusal.EXPIRED)
            else:
                if start < cursor:
                    _tell(outcomes, start, min(end, cursor), Refusal.EXPIRED)
                if cursor < end:
                    _tell(outcomes, max(start, cursor), end, Refusal.NEVER)

    # ---- Locks ---------------------------------------------------------------

    def lock(self, pieces: Iterable[Run]) -> None:
        """Keep these as they are until their plan is settled."""
        for first, following, code in pieces:
            self.leases.held.set(first, following, code | LOCKED)

    def settle(self, pieces: Iterable[Run], now_ms: int) -> None:
        """The plan is durable: put the pieces where the ledger says by now."""
        for start, following, _ in pieces:
            self.leases.end(start, following)
            first = max(start, self._ledger.floor)
            if start < first:
                self.pool.settled(start, min(first, following))
            if first < following:
                for f, n, mark in self._ledger.marks.runs(first, following):
                    if mark == DONE:
                        self.pool.settled(f, n)
                    else:
                        self.pool.put_back(f, n, now_ms)

    def settle_acked(self, pieces: Iterable[Run], caller: Consumer, now_ms: int) -> None:
        """The same, where all of them are done."""
        for first, following, _ in pieces:
            self.leases.end(first, following)
            self.pool.settled(first, following)
            caller.acked += following - first

    def unlock(self, pieces: Iterable[Run], now_ms: int) -> None:
        """The plan was abandoned: leases go on; what had none is in the pool again."""
        for start, following, code in pieces:
            # The floor may have passed a part of it since.
            for f, n, _ in self.leases.held.set_runs(start, following):
                lease = self.leases.lease_of(code)
                if lease is None or lease.given_back:
                    self.leases.end(f, n)
                    self.pool.put_back(f, n, now_ms)
                else:
                    self.leases.held.set(f, n, code)
                    self.leases.watch(lease)

    # ---- Without locks -------------------------------------------------------

    def put_back(self, pieces: Iterable[Run], now_ms: int) -> None:
        """Nobody holds these any more; they may go out again."""
        for first, following, _ in pieces:
            self.leases.end(first, following)
            self.pool.put_back(first, following, now_ms)

    def give_back(self, caller: Consumer, now_ms: int) -> None:
        """End all leases of a consumer; what is locked comes back if its plan fails."""
        for lease in list(caller.leases.values()):
            lease.given_back = True
            self.put_back(self.leases.unlocked(lease), now_ms)
        self.leases.leave(caller)

    def floor_moved(self) -> None:
        """The ledger's floor was raised over whatever was below."""
        floor = self._ledger.floor
        if floor:
            self.leases.end(0, floor)
            self.pool.forget_below(floor)


def _tell(outcomes: list[Outcome], first: int, following: int, refusal: Refusal | None) -> None:
    """Add an answer, to the last one where it goes on."""
    if outcomes and outcomes[-1].next == first and outcomes[-1].refusal is refusal:
        outcomes[-1] = Outcome(outcomes[-1].first, following, refusal)
    else:
        outcomes.append(Outcome(first, following, refusal))
