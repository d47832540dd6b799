"""What the group hands to the shell: plans, outcomes, deliveries."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from mq.broker.groups.codec import encode_entry
from mq.broker.groups.events import Event


class Refusal(enum.Enum):
    """Why nothing was done about a range."""

    EXPIRED = "its lease has expired or was given back; it will be delivered again"
    OTHER = "it is leased to another consumer"
    ALREADY = "it is done already"
    NEVER = "it has not been delivered, or not since the broker started"
    PENDING = "an earlier call about it is not durable yet; ask again"
    FENCED = "this consumer's epoch is over; join again"


class Outcome(NamedTuple):
    """What became of a part of what was asked: done if ``refusal`` is None."""

    first: int
    next: int
    refusal: Refusal | None


class Delivery(NamedTuple):
    """Messages handed out, and which delivery of theirs it is (1: the first)."""

    first: int
    next: int
    delivery_count: int


def _nothing(now_ms: int) -> None:
    """No effect."""


class Plan:
    """Something decided, whose events have to become durable before it is told.

    Journal `to_bytes` if there are ``events``, then hand the plan to
    ``Group.confirm`` or ``Group.abandon``, in the order plans were made.

    Attributes:
        number: The journal entry's; 0 if there are no events.
        events: What has to become durable; nothing if empty.
        outcomes: What to tell the caller once it is, range by range.
        epoch: Of a join: the consumer's epoch; 0: it stands by, or needs none.
    """

    __slots__ = ("_abandoned", "_confirmed", "barrier", "epoch", "events", "number", "outcomes")

    def __init__(
        self,
        events: tuple[Event, ...] = (),
        outcomes: tuple[Outcome, ...] = (),
        epoch: int = 0,
        barrier: bool = False,
        confirmed: Callable[[int], None] = _nothing,
        abandoned: Callable[[int], None] = _nothing,
    ) -> None:
        self.number = 0
        self.events = events
        self.outcomes = outcomes
        self.epoch = epoch
        self.barrier = barrier
        self._confirmed = confirmed
        self._abandoned = abandoned

    def to_bytes(self) -> bytes:
        """The journal entry. A plan is durable wholly or not at all."""
        return encode_entry(self.number, self.events)

    def follow_up(self, durable: bool, now_ms: int) -> None:
        """Bring the overlay up to date; the group's business."""
        (self._confirmed if durable else self._abandoned)(now_ms)
