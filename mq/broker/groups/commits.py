"""Plans between their decision and the word of the journal."""

from __future__ import annotations

from collections import deque

from mq.broker.groups.events import Entry
from mq.broker.groups.ledger import Ledger
from mq.broker.groups.plan import Plan
from mq.errors import Unavailable


class Commits:
    """Numbers plans, and settles them in the order in which they were made."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._in_flight: deque[Plan] = deque()
        self._next_number = ledger.number + 1
        self._barriers = 0

    @property
    def oldest_number(self) -> int | None:
        """The number of the oldest plan in flight, None if there is none."""
        return self._in_flight[0].number if self._in_flight else None

    @property
    def moving(self) -> bool:
        """Whether a barrier is in flight: until then nothing else is decided."""
        return self._barriers > 0

    def check_still(self) -> None:
        """Refuse to decide anything while a barrier is in flight.

        Raises:
            Unavailable: One is.
        """
        if self._barriers:
            raise Unavailable("the group is being moved or taken over; try again")

    def put(self, plan: Plan) -> Plan:
        """Put a plan in flight; one without events is done already."""
        if plan.events:
            plan.number = self._next_number
            self._next_number += 1
            self._in_flight.append(plan)
            self._barriers += plan.barrier
        return plan

    def settle(self, plan: Plan, durable: bool, now_ms: int) -> None:
        """Apply a plan's events, or not, and let it bring the overlay up to date."""
        if not plan.events:
            return
        assert self._in_flight[0] is plan, "plans are settled once, in the order they were made"
        self._in_flight.popleft()
        self._barriers -= plan.barrier
        if durable:
            self._ledger.apply(Entry(plan.number, plan.events))
        plan.follow_up(durable, now_ms)
