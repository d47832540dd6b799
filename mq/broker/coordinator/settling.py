"""A group's plans on their way through its journal: each takes effect once it is durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mq.broker.coordinator.journal import ENTRY, Journal
from mq.broker.futures import settle
from mq.broker.groups.group import Group
from mq.broker.groups.plan import Plan
from mq.broker.model import Durability
from mq.broker.pending import Outcome
from mq.broker.shared import Shared
from mq.errors import ChannelFailed, MQError, ResourceExhausted, Unavailable


class Settler:
    """Confirms or abandons one group's plans in the order they were made.

    Args:
        shared: The broker's.
        journal: Where the plans go.
        group: Whose plans.
        group_id: The group, in the journal.
        name: The group, for people.
        after: Called when something has changed.

    Attributes:
        failure: Why the group can't go on, or None.
    """

    def __init__(
        self,
        shared: Shared,
        journal: Journal,
        group: Group,
        group_id: int,
        name: str,
        after: Callable[[], None],
    ) -> None:
        self.failure: MQError | None = None
        self._shared = shared
        self._journal = journal
        self._group = group
        self._group_id = group_id
        self._name = name
        self._after = after
        # In the journal's order, with what the journal said of them.
        self._unsettled: deque[_Settling] = deque()

    async def settle(self, plan: Plan) -> None:
        """Make a plan durable; it has taken effect when this returns.

        Whoever waits may be cancelled: the plan is settled all the same.

        Raises:
            MQError: The journal refused it, and nothing happened; or it can't
                tell, and the group takes no calls until it is recovered.
        """
        if not plan.events:
            self._after()
            return
        settling = _Settling(plan, self._shared.loop.create_future())
        self._unsettled.append(settling)

        def told(outcome: Outcome, _: Durability) -> None:
            settling.said = outcome
            self._settle_ready()

        try:
            self._journal.append(ENTRY, self._group_id, plan.to_bytes(), told)
        except MQError as error:
            settling.said = error
            self._settle_ready()
        refusal = await settling.done
        if refusal is not None:
            raise refusal

    def _settle_ready(self) -> None:
        """Settle, in their order, the plans that the journal has spoken of."""
        now_ms = self._shared.now_ms()
        while self._unsettled and (said := self._unsettled[0].said) is not None:
            settling = self._unsettled.popleft()
            settle(settling.done, self._settled(settling.plan, said, now_ms))
        self._after()

    def _settled(self, plan: Plan, said: Outcome, now_ms: int) -> MQError | None:
        """Let the group know of one plan; what whoever waits for it is told."""
        if self.failure is not None:
            return self.failure
        if not isinstance(said, MQError):
            self._group.confirm(plan, now_ms)
            return None
        if isinstance(said, (ResourceExhausted, Unavailable)):
            self._group.abandon(plan, now_ms)
            return said
        # Whether the entry is there, only opening the journal again can tell.
        self.failure = ChannelFailed(
            f"group {self._name} takes no calls until the broker is restarted: {said}"
        )
        return self.failure


class _Settling:
    """A plan on its way."""

    __slots__ = ("done", "plan", "said")

    def __init__(self, plan: Plan, done: asyncio.Future[MQError | None]) -> None:
        self.plan = plan
        self.done = done
        self.said: Outcome | None = None
