"""What ``mq sub`` reads: the stored part of a channel, or all that comes."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Literal

from mq.cli.output import tell
from mq.cli.types import Start
from mq.errors import DataLoss

if TYPE_CHECKING:
    from mq import Batch, Client

OnDamage = Literal["raise", "skip"]

PULL_BYTES = 4 << 20


def read_stored(
    client: Client, channel: str, start: Start, on_damage: OnDamage
) -> Generator[Batch]:
    """From ``start`` to the end that the channel has now; ends there.

    The last batch may hold records that came later.

    Raises:
        DataLoss: Records are damaged, and ``on_damage`` is ``raise``.
    """
    end: int | None = None
    while end is None or not isinstance(start, int) or start < end:
        try:
            result = client.pull(channel, start, max_bytes=PULL_BYTES, max_wait_ms=0)
        except DataLoss as error:
            if on_damage == "raise" or (isinstance(start, int) and error.next_offset <= start):
                raise
            _tell_skipped(error.next_offset - error.first_offset, error.next_offset)
            start = error.next_offset
            continue
        if end is None:
            end = result.durable_offset
        yield from result.batches
        if not result.batches and result.next_offset == start:
            return
        start = result.next_offset


def follow(client: Client, channel: str, start: Start, on_damage: OnDamage) -> Generator[Batch]:
    """From ``start`` on, for ever.

    Raises:
        DataLoss: Records are damaged, and ``on_damage`` is ``raise``.
    """
    # A subscription waits for a broker that is away; one that was never there is an error.
    client.describe_channel(channel)
    told = 0
    with client.subscribe(channel, start, on_damage=on_damage) as subscription:
        for batch in subscription.batches():
            if subscription.skipped > told:
                _tell_skipped(subscription.skipped - told, batch.base_offset)
                told = subscription.skipped
            yield batch


def _tell_skipped(count: int, next_offset: int) -> None:
    tell(f"mq: warning: {count} damaged messages before offset {next_offset} are left out")
