"""How a group is doing."""

from __future__ import annotations

from typing import NamedTuple

from mq.broker.groups.ledger import Ledger
from mq.broker.groups.overlay import Overlay


class ConsumerStats(NamedTuple):
    """One consumer, since it was first seen by this broker."""

    name: str
    in_flight: int
    acked: int
    last_seen_ms: int


class GroupStats(NamedTuple):
    """Numbers are messages.

    Attributes:
        behind: Not done, up to the channel's end.
        in_flight: Of these, leased.
        waiting: Of these, delayed or backing off.
        redelivered: Total put back by a nack or a lapsed lease.
        acked: Total acknowledged.
        dead: Total dead.
        dead_unpublished: Of these, not yet in the dead-letter channel.
        expired: Total that expired, and are not counted as dead.
        trimmed: Total that retention removed before they were done.
        oldest_offset: The first that is not done; None if all are.
        consumers: By name.
    """

    behind: int
    in_flight: int
    waiting: int
    redelivered: int
    acked: int
    dead: int
    dead_unpublished: int
    expired: int
    trimmed: int
    oldest_offset: int | None
    consumers: tuple[ConsumerStats, ...]


def collect(ledger: Ledger, overlay: Overlay, end_offset: int) -> GroupStats:
    """The numbers of a group whose channel ends at this offset."""
    letters = ledger.letters
    consumers = overlay.leases.consumers.values()
    return GroupStats(
        behind=max(0, end_offset - ledger.floor - ledger.done_above_floor),
        in_flight=overlay.leases.in_flight,
        waiting=overlay.pool.waiting_count,
        redelivered=ledger.totals.redelivered,
        acked=ledger.totals.acked,
        dead=ledger.totals.dead,
        dead_unpublished=ledger.next_sequence - letters[0].sequence if letters else 0,
        expired=ledger.totals.expired,
        trimmed=ledger.totals.trimmed,
        oldest_offset=ledger.floor if ledger.floor < end_offset else None,
        consumers=tuple(
            ConsumerStats(c.name, c.in_flight, c.acked, c.last_seen_ms)
            for c in sorted(consumers, key=lambda consumer: consumer.name)
        ),
    )
