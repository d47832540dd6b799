"""Calls as plans: generators that say what to do next and are told how it went.

A flow yields an `Invoke` or a `Sleep`; its driver, asynchronous or not, does it
and sends back the response's bytes, or throws the call's `MQError` into it. What
is retried, with which bytes and for how long is thus written once, and tested
without a socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from mq.client.arguments import (
    BytesLike,
    HeadersLike,
    Start,
    check_channel,
    pull_request,
    to_columns,
    to_limit,
)
from mq.client.backoff import Backoff
from mq.client.lanes import LanePool
from mq.client.methods import (
    CONFIGURE_CHANNEL,
    CREATE_CHANNEL,
    DELETE_CHANNEL,
    DESCRIBE_CHANNEL,
    LIST_CHANNELS,
    PUBLISH_BATCH,
    PULL,
)
from mq.client.outgoing import OutgoingBatch
from mq.client.pulled import PullResult, read_pull
from mq.client.schedule import NO_SCHEDULE, Schedule
from mq.client.types import (
    BatchReceipt,
    ChannelInfo,
    Durability,
    Receipt,
    channel_info,
    durability_number,
    parse_receipt,
)
from mq.errors import Internal, InvalidArgument, MQError, SequenceGap
from mq.pb import mq_pb2 as pb

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_CALL_TIMEOUT_MIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Invoke:
    """Make a unary call; the flow goes on with its response."""

    method: str
    request: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; the flow goes on with no bytes."""

    seconds: float


Step = Invoke | Sleep
Flow = Generator[Step, bytes, T]


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How long calls may take, and how long they are tried again.

    Raises:
        InvalidArgument: A time that is none.
    """

    timeout_s: float = 30.0
    retry_timeout_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise InvalidArgument(f"timeout_s is more than 0: {self.timeout_s:g}")
        if self.retry_timeout_s < 0:
            raise InvalidArgument(f"retry_timeout_s is 0 or more: {self.retry_timeout_s:g}")


def call(policy: CallPolicy, method: str, request: bytes, wait_s: float = 0.0) -> Flow[bytes]:
    """A unary call that is tried again, with the same bytes, while that can help.

    Args:
        policy: The limits.
        method: The method's path.
        request: The serialized request.
        wait_s: How long the broker may hold the answer back, beside the timeout.

    Raises:
        MQError: The last attempt's error.
    """
    begun = policy.clock()
    failures = 0
    while True:
        remaining = begun + policy.timeout_s + wait_s - policy.clock()
        try:
            return (yield Invoke(method, request, max(remaining, _CALL_TIMEOUT_MIN_S)))
        except MQError as error:
            failures += 1
            delay = policy.backoff.delay_s(failures)
            spent = policy.clock() + delay - begun
            if not error.retriable or spent >= min(policy.retry_timeout_s, policy.timeout_s):
                raise
        yield Sleep(delay)


def ask(policy: CallPolicy, method: str, request: Message, answer: type[M]) -> Flow[M]:
    """A unary call, tried again while that can help, and its answer parsed.

    Raises:
        Internal: The answer is no such message.
        MQError: The last attempt's error.
    """
    response = yield from call(policy, method, request.SerializeToString())
    try:
        return answer.FromString(response)
    except DecodeError as error:
        raise Internal(f"the answer of {method} is no {answer.__name__}: {error}") from None


# ---- Messages ---------------------------------------------------------------


def publish_batch(
    policy: CallPolicy,
    lanes: LanePool,
    channel: str,
    contents: Iterable[BytesLike],
    keys: Sequence[BytesLike | None] | None,
    headers: Sequence[HeadersLike | None] | None,
    durability: Durability | None,
    schedule: Schedule = NO_SCHEDULE,
) -> Flow[BatchReceipt]:
    """Append one atomic batch; a repeat of the call can't store it twice."""
    batch = OutgoingBatch(0.0, 0, schedule=schedule)
    batch.contents, batch.keys, batch.headers = to_columns(contents, keys, headers)
    schedule.check(len(batch.contents))
    batch.seal()
    request = pb.PublishBatchRequest(
        channel=check_channel(channel),
        records=batch.records,
        records_crc=batch.crc,
        durability=durability_number(durability),  # type: ignore[arg-type]
    )
    while True:
        lane = lanes.take(channel)
        request.producer_id = lane.producer_id
        request.sequence = lane.next_sequence
        try:
            response = yield from call(policy, PUBLISH_BATCH, request.SerializeToString())
        except SequenceGap:
            if lane.next_sequence == 1:
                raise
            # The broker has lost what this lane had stored; nothing of the lane is ever
            # taken again, so the batch can't be doubled by another lane.
            continue
        receipt = parse_receipt(response)
        lanes.give_back(channel, lane)
        return receipt


def publish(
    policy: CallPolicy,
    lanes: LanePool,
    channel: str,
    content: BytesLike,
    key: BytesLike | None,
    headers: HeadersLike | None,
    durability: Durability | None,
    schedule: Schedule = NO_SCHEDULE,
) -> Flow[Receipt]:
    """Append one message; a repeat of the call can't store it twice."""
    keys = [key] if key else None
    columns = [headers] if headers else None
    batch = publish_batch(policy, lanes, channel, [content], keys, columns, durability, schedule)
    return (yield from batch).record(0)


def pull(
    policy: CallPolicy,
    channel: str,
    start: Start,
    max_records: int,
    max_bytes: int,
    max_wait_ms: int,
) -> Flow[PullResult]:
    """Read batches from a start on."""
    request = pull_request(check_channel(channel), start)
    request.max_records = to_limit(max_records, "max_records")
    request.max_bytes = to_limit(max_bytes, "max_bytes")
    request.max_wait_ms = to_limit(max_wait_ms, "max_wait_ms")
    wait_s = max_wait_ms / 1000
    response = yield from call(policy, PULL, request.SerializeToString(), wait_s)
    return read_pull(channel, response, max_records)


# ---- Channels ---------------------------------------------------------------


def create_channel(
    policy: CallPolicy,
    channel: str,
    config: pb.ChannelConfig,
) -> Flow[None]:
    """Create a channel; settings are ignored if it exists."""
    request = pb.CreateChannelRequest(channel=check_channel(channel), config=config)
    yield from call(policy, CREATE_CHANNEL, request.SerializeToString())


def list_channels(policy: CallPolicy, prefix: str) -> Flow[list[ChannelInfo]]:
    """All channels whose names begin so, page by page."""
    channels: list[ChannelInfo] = []
    token = ""
    while True:
        request = pb.ListChannelsRequest(prefix=prefix, page_token=token)
        page = yield from ask(policy, LIST_CHANNELS, request, pb.ListChannelsResponse)
        channels += map(channel_info, page.channels)
        token = page.next_page_token
        if not token:
            return channels


def describe_channel(policy: CallPolicy, channel: str) -> Flow[ChannelInfo]:
    """A channel's offsets, sizes, settings, rates and state."""
    request = pb.DescribeChannelRequest(channel=check_channel(channel))
    return channel_info((yield from ask(policy, DESCRIBE_CHANNEL, request, pb.ChannelInfo)))


def configure_channel(
    policy: CallPolicy,
    channel: str,
    config: pb.ChannelConfig,
) -> Flow[ChannelInfo]:
    """Change those settings that are given."""
    request = pb.ConfigureChannelRequest(channel=check_channel(channel), config=config)
    return channel_info((yield from ask(policy, CONFIGURE_CHANNEL, request, pb.ChannelInfo)))


def delete_channel(policy: CallPolicy, channel: str) -> Flow[None]:
    """Delete a channel and all it holds."""
    request = pb.DeleteChannelRequest(channel=check_channel(channel))
    yield from call(policy, DELETE_CHANNEL, request.SerializeToString())
