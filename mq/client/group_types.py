"""What the client tells and takes about consumer groups and purges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mq.client.arguments import Start, pull_request
from mq.client.types import time_from_ns
from mq.errors import InvalidArgument
from mq.pb import mq_pb2 as pb

GroupMode = Literal["shared", "key_ordered", "exclusive"]
Refusal = Literal[
    "unknown",
    "expired",
    "other-consumer",
    "already-acked",
    "never-delivered",
    "fenced",
    "pending",
]

_MODE_NAMES: dict[int, GroupMode] = {
    pb.GROUP_MODE_SHARED: "shared",
    pb.GROUP_MODE_KEY_ORDERED: "key_ordered",
    pb.GROUP_MODE_EXCLUSIVE: "exclusive",
}
_MODE_NUMBERS = {name: number for number, name in _MODE_NAMES.items()}
_REFUSAL_NAMES: dict[int, Refusal] = {
    pb.REFUSAL_EXPIRED: "expired",
    pb.REFUSAL_OTHER_CONSUMER: "other-consumer",
    pb.REFUSAL_ALREADY_ACKED: "already-acked",
    pb.REFUSAL_NEVER_DELIVERED: "never-delivered",
    pb.REFUSAL_FENCED: "fenced",
    pb.REFUSAL_PENDING: "pending",
}


def refusal_name(number: int) -> Refusal:
    """The refusal with this number on the wire."""
    return _REFUSAL_NAMES.get(number, "unknown")


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group's settings. To make or to change one: None is the default, or stays.

    Raises:
        InvalidArgument: There is no such mode.
    """

    mode: GroupMode | None = None
    """``"shared"``; ``"key_ordered"``: messages of one key go to one consumer at a time, in
    order; ``"exclusive"``: one consumer is active, the others stand by."""
    lease_ms: int | None = None
    """How long a consumer may be silent about a message before others get it."""
    max_deliveries: int | None = None
    """A message that failed so often becomes a dead letter; 0: never."""
    backoff_min_ms: int | None = None
    """How long a message waits after its first failure; it doubles with each."""
    backoff_max_ms: int | None = None
    dead_letter_channel: str | None = None
    """Empty for ``<channel>.dead``."""
    dead_letter_expired: bool | None = None
    """Whether messages that expire become dead letters too."""
    session_ms: int | None = None
    """How long the active consumer of an exclusive group may be silent."""

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in _MODE_NUMBERS:
            wanted = ", ".join(map(repr, _MODE_NUMBERS))
            raise InvalidArgument(f"a group's mode is one of {wanted}: {self.mode!r}")

    def to_message(self) -> pb.GroupConfig:
        """The wire's form of what is not None.

        Raises:
            InvalidArgument: A number that the wire can't carry.
        """
        config = pb.GroupConfig()
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            try:
                setattr(config, name, _MODE_NUMBERS[value] if name == "mode" else value)
            except (TypeError, ValueError) as error:
                raise InvalidArgument(f"{name} can't be {value!r}: {error}") from None
        return config


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """One consumer of a group, since the broker first saw it."""

    name: str
    in_flight: int
    """Messages that it has and has not settled."""
    acked: int
    last_seen_ms: int
    """Unix milliseconds of its last call."""
    active: bool
    """False for one that stands by in an exclusive group."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group as the broker describes it. Numbers are messages."""

    channel: str
    name: str
    config: GroupConfig
    next_offset: int
    """The first offset that was not handed out yet."""
    acked_through: int
    """The first offset that is not done: all below are."""
    committed_offset: int | None
    messages_behind: int
    """Not done, those in flight and waiting included."""
    bytes_behind: int
    seconds_behind: float
    """The age of the oldest message that is not done; 0 if there is none."""
    in_flight: int
    waiting: int
    """Delayed, or backing off after a failure."""
    acked: int
    redelivered: int
    dead: int
    expired: int
    consumers: tuple[ConsumerInfo, ...]
    epoch: int
    """Of an exclusive group: rises with each change of the active consumer."""


@dataclass(frozen=True, slots=True)
class PurgedSegment:
    """A segment that a purge removed, or would remove: ``[first_offset, next_offset)``."""

    first_offset: int
    next_offset: int
    size_bytes: int
    last_append_time_ns: int
    reason: str

    @property
    def last_append_time(self) -> datetime:
        """When its last record was stored, in UTC."""
        return time_from_ns(self.last_append_time_ns)


def group_info(answer: pb.GroupInfo) -> GroupInfo:
    """A `GroupInfo` from its wire form."""
    committed = answer.committed_offset if answer.HasField("committed_offset") else None
    return GroupInfo(
        channel=answer.channel,
        name=answer.name,
        config=_group_config(answer.config),
        next_offset=answer.next_offset,
        acked_through=answer.acked_through,
        committed_offset=committed,
        messages_behind=answer.messages_behind,
        bytes_behind=answer.bytes_behind,
        seconds_behind=answer.seconds_behind,
        in_flight=answer.in_flight,
        waiting=answer.waiting,
        acked=answer.acked,
        redelivered=answer.redelivered,
        dead=answer.dead,
        expired=answer.expired,
        consumers=tuple(
            ConsumerInfo(each.name, each.in_flight, each.acked, each.last_seen_ms, each.active)
            for each in answer.consumers
        ),
        epoch=answer.epoch,
    )


def _group_config(config: pb.GroupConfig) -> GroupConfig:
    given = {
        name: getattr(config, name)
        for name in GroupConfig.__slots__
        if name != "mode" and config.HasField(name)
    }
    return GroupConfig(mode=_MODE_NAMES.get(config.mode), **given)


def purged_segment(answer: pb.PurgedSegment) -> PurgedSegment:
    """A `PurgedSegment` from its wire form."""
    return PurgedSegment(
        answer.first_offset,
        answer.next_offset,
        answer.size_bytes,
        answer.last_append_time_ns,
        answer.reason,
    )


def start_position(start: Start) -> pb.StartPosition:
    """Where a group begins, in its wire form.

    Raises:
        TypeError: The start is none of the kinds.
        InvalidArgument: It is one, but means nothing.
    """
    request = pull_request("", start)
    kind = request.WhichOneof("start")
    assert kind is not None, "a start is always one of the kinds"
    return pb.StartPosition(**{kind: getattr(request, kind)})
