"""The settings in force for a channel: its own, or else the broker's. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mq.broker.model import BrokerConfig, ChannelConfig, Durability
from mq.log.format import LENGTH_MAX, SEGMENT_BYTES_MIN


class InForce(NamedTuple):
    """What holds for a channel now.

    Attributes:
        durability: What an acknowledgement means where the publisher does not say.
        max_message_bytes: The largest message or batch accepted.
        segment_bytes: What a segment grows to.
    """

    durability: Durability
    max_message_bytes: int
    segment_bytes: int


def in_force(config: ChannelConfig, broker: BrokerConfig, *, hidden: bool) -> InForce:
    """The settings in force; a hidden channel, the broker's own, takes entries of any size."""
    limit = broker.max_message_bytes
    segment_bytes = config.segment_bytes or broker.segment_bytes
    if config.retention_bytes:
        # Well below what retention keeps, which goes by segments.
        segment_bytes = max(min(segment_bytes, config.retention_bytes // 4), SEGMENT_BYTES_MIN)
    return InForce(
        durability=config.durability or broker.durability,
        max_message_bytes=LENGTH_MAX if hidden else min(config.max_message_bytes or limit, limit),
        segment_bytes=segment_bytes,
    )
