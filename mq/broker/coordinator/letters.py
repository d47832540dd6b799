"""Dead letters: messages that no consumer could process, put aside with their story."""

from __future__ import annotations

import hashlib
from typing import Final

from mq.broker.coordinator.records import Record
from mq.broker.groups.ledger import DeadLetter

HEADER_CHANNEL: Final = "mq-dead-channel"
HEADER_GROUP: Final = "mq-dead-group"
HEADER_OFFSET: Final = "mq-dead-offset"
HEADER_DELIVERIES: Final = "mq-dead-deliveries"
HEADER_REASON: Final = "mq-dead-reason"
_PREFIX: Final = "mq-dead-"


def dead_letter(
    record: Record | None, letter: DeadLetter, offset: int, channel: str, group: str
) -> Record:
    """The message to publish: the original, with headers that tell what became of it.

    A record that can't be read any more has no content, and the reason says so.
    """
    reason = letter.reason
    if record is None:
        record = Record(b"", b"", ())
        reason = f"{reason}; its record could no longer be read".lstrip("; ")
    story = (
        (HEADER_CHANNEL, channel.encode()),
        (HEADER_GROUP, group.encode()),
        (HEADER_OFFSET, str(offset).encode()),
        (HEADER_DELIVERIES, str(letter.delivery_count).encode()),
        (HEADER_REASON, reason.encode()),
    )
    return record._replace(headers=(*original_headers(record), *story))


def original_headers(record: Record) -> tuple[tuple[str, bytes], ...]:
    """The headers without the ones of an earlier death."""
    return tuple(pair for pair in record.headers if not pair[0].startswith(_PREFIX))


def is_letter_of(record: Record, channel: str, group: str) -> bool:
    """Whether a message of a dead-letter channel comes from this group."""
    headers = dict(record.headers)
    return (
        headers.get(HEADER_CHANNEL) == channel.encode()
        and headers.get(HEADER_GROUP) == group.encode()
    )


def producer_id(channel_id: bytes, group: str, purpose: str) -> int:
    """The id under which a group publishes: the same after any restart, never 0."""
    digest = hashlib.blake2b(
        b"\0".join((channel_id, group.encode(), purpose.encode())), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little") >> 1 | 1
