"""The records that the broker keeps and hands out. No behaviour."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from pathlib import Path

from mq.errors import InvalidArgument
from mq.log.format import SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN
from mq.log.retention import Policy

MIB = 1 << 20


class Durability(enum.IntEnum):
    """What an acknowledgement means. Values are those of the wire contract."""

    DEFAULT = 0
    SYNCED = 1
    WRITTEN = 2


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """A channel's own settings; None: the server's default."""

    segment_bytes: int | None = None
    durability: Durability | None = None
    max_message_bytes: int | None = None
    # Limits of retention; 0: none.
    retention_ms: int | None = None
    retention_bytes: int | None = None
    retention_records: int | None = None
    retain_unacknowledged: bool | None = None
    retain_unacknowledged_bytes: int | None = None
    segment_ms: int | None = None
    compact: bool | None = None

    def check(self) -> ChannelConfig:
        """Return self if every value can be used.

        Raises:
            InvalidArgument: Names the setting, its value and what is accepted.
        """
        size = self.segment_bytes
        if size is not None and not SEGMENT_BYTES_MIN <= size <= SEGMENT_BYTES_MAX:
            raise InvalidArgument(
                f"segment_bytes is {size}; use {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            )
        if self.max_message_bytes is not None and self.max_message_bytes < 1:
            raise InvalidArgument(f"max_message_bytes is {self.max_message_bytes}; use 1 or more")
        return self

    @property
    def roll_age_ns(self) -> int:
        """The age at which an active segment is sealed; 0: never.

        A quarter of ``retention_ms`` where it is not set: so a quiet channel's
        records expire at most that much late.
        """
        age_ms = self.segment_ms or -(-(self.retention_ms or 0) // 4)
        return age_ms * 1_000_000

    def retention(self, held_from: int | None) -> Policy:
        """The retention policy, given what the groups have not acknowledged."""
        return Policy(
            retention_ms=self.retention_ms or 0,
            retention_bytes=self.retention_bytes or 0,
            retention_records=self.retention_records or 0,
            held_from=held_from if self.retain_unacknowledged else None,
            held_bytes_max=self.retain_unacknowledged_bytes or 0,
        )

    def merged(self, other: ChannelConfig) -> ChannelConfig:
        """These settings with the ones that ``other`` gives in their place."""
        given = {f: v for f in self.__slots__ if (v := getattr(other, f)) is not None}
        return replace(self, **given)


@dataclass(frozen=True, slots=True)
class ChannelMeta:
    """What ``channel.json`` holds."""

    name: str
    id: bytes
    created_ns: int
    config: ChannelConfig


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """What the broker needs of the server's settings."""

    data_dir: Path
    segment_bytes: int = SEGMENT_BYTES_DEFAULT
    durability: Durability = Durability.SYNCED
    # With WRITTEN: how much may be written and not yet synced, per channel.
    unsynced_bytes_max: int = 4 * MIB
    max_message_bytes: int = 4 * MIB
    pending_bytes_max: int = 64 * MIB
    waiting_pulls_max: int = 10_000
    open_channels_max: int = 1024
    open_segments_max: int = 256
    free_bytes_min: int = 64 * MIB
    # How often retention looks at channels where nothing happens.
    retention_interval_s: float = 10.0
    # Of a compacted channel: how much of it a pass must not have seen to be worth it,
    # and how long a tombstone is kept.
    compact_dirty_ratio_min: float = 0.5
    tombstone_retention_s: float = 86_400.0
    recover_on_start: bool = False


@dataclass(frozen=True, slots=True)
class GroupGauges:
    """One consumer group, as the metrics endpoint shows it. Numbers are messages.

    ``seconds_behind`` is the age of the oldest unacknowledged record; None: not
    known without reading the disk.
    """

    channel: str
    group: str
    messages_behind: int
    seconds_behind: float | None
    in_flight: int
    waiting: int
    acked: int
    redelivered: int
    dead: int
    expired: int


@dataclass(slots=True)
class Stats:
    """Counters of one broker, read by the metrics endpoint at each scrape."""

    published_messages: int = 0
    published_bytes: int = 0
    pulls: int = 0
    pulled_bytes: int = 0
    commits: int = 0
    fsync_failures: int = 0
    waiting_pulls: int = 0
    pending_publish_bytes: int = 0
    unsynced_messages: int = 0
    channels: int = 0
    open_channels: int = 0
    open_segments: int = 0
    read_only_channels: int = 0
    disk_free_bytes: int = 0
    # Brought up to date at each scrape.
    groups: list[GroupGauges] = field(default_factory=list)
