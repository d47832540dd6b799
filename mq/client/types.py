"""What the client gives back: receipts, and descriptions of channels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from google.protobuf.message import DecodeError

from mq.errors import Internal, InvalidArgument
from mq.pb import mq_pb2 as pb

Durability = Literal["synced", "written"]
ChannelState = Literal["unknown", "ok", "read-only", "failed"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_DURABILITY_NAMES: dict[int, Durability] = {
    pb.DURABILITY_SYNCED: "synced",
    pb.DURABILITY_WRITTEN: "written",
}
_DURABILITY_NUMBERS = {name: number for number, name in _DURABILITY_NAMES.items()}
_STATE_NAMES: dict[int, ChannelState] = {
    pb.CHANNEL_STATE_OK: "ok",
    pb.CHANNEL_STATE_READ_ONLY: "read-only",
    pb.CHANNEL_STATE_FAILED: "failed",
}


def time_from_ns(time_ns: int) -> datetime:
    """Unix nanoseconds as a time in UTC, to the microsecond below."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def time_to_ns(time: datetime) -> int:
    """An aware time as Unix nanoseconds, exactly."""
    return (time - EPOCH) // _MICROSECOND * 1000


def durability_number(durability: Durability | None) -> int:
    """The wire's number of a durability; None is what the channel is configured to.

    Raises:
        InvalidArgument: There is no such durability.
    """
    if durability is None:
        return pb.DURABILITY_DEFAULT
    if durability not in _DURABILITY_NUMBERS:
        wanted = " or ".join(map(repr, _DURABILITY_NUMBERS))
        raise InvalidArgument(f"durability is {wanted}, or None for the channel's: {durability!r}")
    return _DURABILITY_NUMBERS[durability]


def durability_name(number: int) -> Durability | None:
    """The durability with this number on the wire; None where it is left open."""
    return _DURABILITY_NAMES.get(number)


class Receipt(NamedTuple):
    """A message is stored: where, since when, and how safely."""

    offset: int
    append_time_ns: int
    """Unix nanoseconds, by the broker's clock."""
    durability: Durability | None
    """``"synced"`` survives a power cut, ``"written"`` a kill of the broker."""
    duplicate: bool
    """Stored by an earlier attempt of the same call, whose answer was lost."""

    @property
    def append_time(self) -> datetime:
        """When the broker stored it, in UTC."""
        return time_from_ns(self.append_time_ns)


class BatchReceipt(NamedTuple):
    """A batch is stored, as a whole, at ``[base_offset, next_offset)``."""

    base_offset: int
    record_count: int
    append_time_ns: int
    """Unix nanoseconds, by the broker's clock."""
    durability: Durability | None
    """``"synced"`` survives a power cut, ``"written"`` a kill of the broker."""
    duplicate: bool
    """Stored by an earlier attempt of the same call, whose answer was lost."""

    @property
    def next_offset(self) -> int:
        """One past the batch's last offset."""
        return self.base_offset + self.record_count

    @property
    def append_time(self) -> datetime:
        """When the broker stored it, in UTC."""
        return time_from_ns(self.append_time_ns)

    def record(self, index: int) -> Receipt:
        """The receipt of one of the batch's records, counted from 0."""
        return Receipt(
            self.base_offset + index, self.append_time_ns, self.durability, self.duplicate
        )


def parse_receipt(response: bytes) -> BatchReceipt:
    """Read a serialized `PublishBatchResponse`.

    Raises:
        Internal: It is none.
    """
    try:
        answer = pb.PublishBatchResponse.FromString(response)
    except DecodeError as error:
        raise Internal(f"the answer to a publish is no PublishBatchResponse: {error}") from None
    return BatchReceipt(
        answer.base_offset,
        answer.record_count,
        answer.append_time_ns,
        durability_name(answer.durability),
        answer.duplicate,
    )


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """A channel's settings; None is the server's default."""

    segment_bytes: int | None = None
    """The size that a segment file grows to."""
    durability: Durability | None = None
    """What an acknowledgement means where the publisher doesn't say."""
    max_message_bytes: int | None = None
    """The largest message or batch accepted."""
    retention_ms: int | None = None
    """How long messages are kept at least; they go by whole segments. None or 0: no limit."""
    retention_bytes: int | None = None
    retention_records: int | None = None
    retain_unacknowledged: bool | None = None
    """Whether what some group has not acknowledged is kept, whatever the limits say …"""
    retain_unacknowledged_bytes: int | None = None
    """… as long as the channel holds no more bytes than this. None or 0: no limit."""
    segment_ms: int | None = None
    """A new segment begins when one is this old; None or 0: a quarter of `retention_ms`."""
    compact: bool | None = None
    """Whether only the latest message of each key is kept."""


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel as the broker describes it. Lists fill in name, id and created_ns only."""

    name: str
    id: str
    config: ChannelConfig
    log_start_offset: int
    """The first offset that is there."""
    durable_offset: int
    """One past the last durable record: where the next pull of new records begins."""
    stored_bytes: int
    """Bytes of frames."""
    allocated_bytes: int
    """Bytes that the segment files occupy."""
    segment_count: int
    created_ns: int
    last_append_time_ns: int
    state: ChannelState
    state_reason: str
    publish_records_per_second: float
    """Over the last minute, as are the bytes."""
    publish_bytes_per_second: float
    waiting_pulls: int
    damaged: tuple[tuple[int, int], ...]
    """Ranges of offsets known to be damaged: the first, and one past the last."""
    days_to_full: float = 0.0
    """Until the broker's disk is full, at the present rate; 0: it is not filling."""

    @property
    def record_count(self) -> int:
        """How many offsets are in the log."""
        return self.durable_offset - self.log_start_offset

    @property
    def created(self) -> datetime:
        """When the channel was created, in UTC."""
        return time_from_ns(self.created_ns)


# The settings of what a channel keeps.
RETENTION_SETTINGS = (
    "retention_ms",
    "retention_bytes",
    "retention_records",
    "retain_unacknowledged",
    "retain_unacknowledged_bytes",
    "segment_ms",
    "compact",
)


def config_message(
    segment_bytes: int | None,
    durability: Durability | None,
    max_message_bytes: int | None,
    **retention: int | bool | None,
) -> pb.ChannelConfig:
    """The wire's form of those settings that are not None.

    Args:
        segment_bytes: As in `ChannelConfig`, like the others.
        durability: One of the names.
        max_message_bytes: A size.
        **retention: Any of `RETENTION_SETTINGS`.

    Raises:
        InvalidArgument: A setting that no channel can have.
    """
    config = pb.ChannelConfig()
    try:
        if segment_bytes is not None:
            config.segment_bytes = segment_bytes
        if max_message_bytes is not None:
            config.max_message_bytes = max_message_bytes
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"a size is a whole number of bytes, 0 or more: {error}") from None
    for name, value in retention.items():
        try:
            if value is not None:
                setattr(config, name, value)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{name} can't be {value!r}: {error}") from None
    if durability is not None:
        config.durability = durability_number(durability)  # type: ignore[assignment]
    return config


def channel_info(answer: pb.ChannelInfo) -> ChannelInfo:
    """A `ChannelInfo` from its wire form."""
    return ChannelInfo(
        name=answer.name,
        id=answer.id,
        config=_channel_config(answer.config),
        log_start_offset=answer.log_start_offset,
        durable_offset=answer.durable_offset,
        stored_bytes=answer.stored_bytes,
        allocated_bytes=answer.allocated_bytes,
        segment_count=answer.segment_count,
        created_ns=answer.created_ns,
        last_append_time_ns=answer.last_append_time_ns,
        state=_STATE_NAMES.get(answer.state, "unknown"),
        state_reason=answer.state_reason,
        publish_records_per_second=answer.publish_records_per_second,
        publish_bytes_per_second=answer.publish_bytes_per_second,
        waiting_pulls=answer.waiting_pulls,
        damaged=tuple((each.first_offset, each.next_offset) for each in answer.damaged),
        days_to_full=answer.days_to_full,
    )


def _channel_config(config: pb.ChannelConfig) -> ChannelConfig:
    def given(name: str) -> int | None:
        return getattr(config, name) if config.HasField(name) else None

    return ChannelConfig(
        segment_bytes=given("segment_bytes"),
        durability=durability_name(given("durability") or pb.DURABILITY_DEFAULT),
        max_message_bytes=given("max_message_bytes"),
        **{name: given(name) for name in RETENTION_SETTINGS},  # type: ignore[arg-type]
    )
