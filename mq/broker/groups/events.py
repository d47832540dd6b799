"""The events that make a group's durable state. Plain data, absolute, in journal order.

docs/groups_design.md has the table of who decides them and what they do.
"""

from __future__ import annotations

from typing import NamedTuple

from mq.broker.groups.config import GroupConfig
from mq.broker.groups.ranges import Range


class Acked(NamedTuple):
    """These messages were acknowledged."""

    ranges: tuple[Range, ...]


class FailedRun(NamedTuple):
    """Messages whose delivery failed for the n-th time, and when they may go out again."""

    first: int
    next: int
    failures: int
    not_before_ms: int


class Failed(NamedTuple):
    """These deliveries failed; the messages will be delivered again."""

    runs: tuple[FailedRun, ...]


class DeadRun(NamedTuple):
    """Messages that will not be delivered again, how often they were, and why not."""

    first: int
    next: int
    delivery_count: int
    reason: str


class Dead(NamedTuple):
    """These messages are done, and owed to the dead-letter channel."""

    runs: tuple[DeadRun, ...]


class DeadPublished(NamedTuple):
    """The dead letters with lower sequence numbers are in the dead-letter channel."""

    next_sequence: int


class Expired(NamedTuple):
    """These messages are done because their time was over."""

    ranges: tuple[Range, ...]


class Gone(NamedTuple):
    """These messages are done because the channel no longer has them: later ones replaced them."""

    ranges: tuple[Range, ...]


class ScheduledRun(NamedTuple):
    """Messages that their publisher delays, or lets expire; 0: not."""

    first: int
    next: int
    not_before_ms: int
    expires_at_ms: int


class Scheduled(NamedTuple):
    """The group's end is here; below it only these messages carry a delay or an expiry."""

    next_offset: int
    runs: tuple[ScheduledRun, ...]


class Committed(NamedTuple):
    """All messages below this offset are acknowledged."""

    offset: int


class Trimmed(NamedTuple):
    """The channel begins here; messages below are gone."""

    offset: int


class Sought(NamedTuple):
    """The group begins here, anew."""

    offset: int


class Configured(NamedTuple):
    """These are the settings."""

    config: GroupConfig


class Activated(NamedTuple):
    """The active consumer of an exclusive group; empty: none."""

    epoch: int
    consumer: str


Event = (
    Acked
    | Failed
    | Dead
    | DeadPublished
    | Expired
    | Scheduled
    | Committed
    | Trimmed
    | Sought
    | Configured
    | Activated
    | Gone
)


class Entry(NamedTuple):
    """One entry of the journal: the events of one plan, applied wholly or not at all."""

    number: int
    events: tuple[Event, ...]
