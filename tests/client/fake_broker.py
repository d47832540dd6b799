"""An in-memory broker: the contract that the client relies on, in as few lines as it takes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import crc32c

from mq.errors import (
    BadChecksum,
    ChannelNotFound,
    DataLoss,
    InvalidArgument,
    MessageTooLarge,
    MQError,
    OffsetOutOfRange,
    SequenceGap,
    SequenceTooOld,
)
from mq.pb import mq_pb2 as pb

RECEIPTS_KEPT = 16
PRODUCERS_KEPT = 1024
BAD_CONTENT = b"bad"


@dataclass
class FakeChannel:
    """Frames in a list, and what is remembered of producers."""

    name: str
    max_message_bytes: int = 4 << 20
    frames: list[pb.RecordBatch] = field(default_factory=list)
    next_offset: int = 0
    log_start_offset: int = 0
    config: pb.ChannelConfig = field(default_factory=pb.ChannelConfig)
    damaged: list[tuple[int, int]] = field(default_factory=list)
    checks_content_first: bool = False
    now_ns: Callable[[], int] = lambda: 1_700_000_000_000_000_000
    _producers: OrderedDict[int, deque[tuple[int, pb.PublishBatchResponse]]] = field(
        default_factory=OrderedDict
    )

    def publish(self, request: pb.PublishBatchRequest) -> pb.PublishBatchResponse:
        """The rule of PublishBatch."""
        if self.checks_content_first:
            self._check_content(request)
        known = self._known(request)
        if known is not None:
            return known
        if not self.checks_content_first:
            self._check_content(request)
        receipt = self._append(request)
        if request.producer_id:
            kept = self._producers.setdefault(request.producer_id, deque(maxlen=RECEIPTS_KEPT))
            kept.append((request.sequence, receipt))
            self._producers.move_to_end(request.producer_id)
            if len(self._producers) > PRODUCERS_KEPT:
                self._producers.popitem(last=False)
        return receipt

    def forget_last(self, producer_id: int) -> None:
        """Lose the last batch of a producer, as a power cut before its sync would."""
        self._producers[producer_id].pop()
        lost = self.frames.pop()
        self.next_offset = lost.base_offset

    def _check_content(self, request: pb.PublishBatchRequest) -> None:
        if crc32c.crc32c(request.records) != request.records_crc:
            raise BadChecksum("the records arrived damaged: send them again")
        if len(request.records) > self.max_message_bytes:
            raise MessageTooLarge(f"at most {self.max_message_bytes} bytes")
        if any(each.startswith(BAD_CONTENT) for each in _contents(request.records)):
            raise InvalidArgument("a bad message")

    def _known(self, request: pb.PublishBatchRequest) -> pb.PublishBatchResponse | None:
        kept = self._producers.get(request.producer_id)
        if not kept:
            return None
        for sequence, receipt in kept:
            if sequence == request.sequence:
                repeated = pb.PublishBatchResponse()
                repeated.CopyFrom(receipt)
                repeated.duplicate = True
                return repeated
        last = kept[-1][0]
        if request.sequence <= last:
            raise SequenceTooOld("the receipt is no longer known")
        if request.sequence > last + 1:
            raise SequenceGap("an earlier batch is missing", expected_sequence=last + 1)
        return None

    def _append(self, request: pb.PublishBatchRequest) -> pb.PublishBatchResponse:
        count = len(_contents(request.records))
        frame = pb.RecordBatch(
            base_offset=self.next_offset,
            last_offset_delta=count - 1,
            record_count=count,
            append_time_ns=self.now_ns(),
            producer_id=request.producer_id,
            sequence=request.sequence,
            records_crc=request.records_crc,
            records=request.records,
        )
        self.frames.append(frame)
        self.next_offset += count
        return pb.PublishBatchResponse(
            base_offset=frame.base_offset,
            record_count=count,
            append_time_ns=frame.append_time_ns,
            durability=request.durability or pb.DURABILITY_SYNCED,
        )

    def contents(self) -> list[bytes]:
        """All that is stored, in order."""
        return [each for frame in self.frames for each in _contents(frame.records)]

    def pull(self, request: pb.PullRequest) -> pb.PullResponse:
        """Whole frames from the start on."""
        start = self._start(request)
        if not self.log_start_offset <= start <= self.next_offset:
            raise OffsetOutOfRange("not here", self.log_start_offset, self.next_offset)
        for first, following in self.damaged:
            if first <= start < following:
                raise DataLoss("damaged", start, following)
        response = pb.PullResponse(
            start_offset=start,
            next_offset=start,
            log_start_offset=self.log_start_offset,
            durable_offset=self.next_offset,
        )
        size = records = 0
        for frame in self.frames:
            following = frame.base_offset + frame.last_offset_delta + 1
            if following <= start:
                continue
            if any(first < following and frame.base_offset < end for first, end in self.damaged):
                break
            response.batches.append(frame)
            response.next_offset = following
            size += len(frame.records)
            records += frame.record_count
            if size >= (request.max_bytes or 1 << 20) or 0 < request.max_records <= records:
                break
        return response

    def _start(self, request: pb.PullRequest) -> int:
        kind = request.WhichOneof("start")
        if kind == "offset":
            return request.offset
        if kind == "time_ns":
            later = (f.base_offset for f in self.frames if f.append_time_ns >= request.time_ns)
            return next(later, self.next_offset)
        latest = kind == "position" and request.position == pb.OFFSET_LATEST
        return self.next_offset if latest else self.log_start_offset

    def info(self) -> pb.ChannelInfo:
        """As DescribeChannel answers."""
        return pb.ChannelInfo(
            name=self.name,
            id=f"id-{self.name}",
            config=self.config,
            log_start_offset=self.log_start_offset,
            durable_offset=self.next_offset,
            created_ns=1_700_000_000_000_000_000,
            state=pb.CHANNEL_STATE_OK,
            damaged=[pb.OffsetRange(first_offset=a, next_offset=b) for a, b in self.damaged],
        )


def _contents(records: bytes) -> list[bytes]:
    return list(pb.Records.FromString(records).contents)


class FakeBroker:
    """Channels by name, and the calls that don't wait."""

    def __init__(self) -> None:
        self.channels: dict[str, FakeChannel] = {}
        self.page_size = 2

    def create(self, name: str) -> FakeChannel:
        """The channel of that name, made if need be."""
        return self.channels.setdefault(name, FakeChannel(name))

    def channel(self, name: str) -> FakeChannel:
        """An existing channel."""
        if name not in self.channels:
            raise ChannelNotFound(f"no channel {name!r}: create it first")
        return self.channels[name]

    def call(self, method: str, request: bytes) -> bytes:
        """Answer a call, or raise its error."""
        return _HANDLERS[method](self, request)

    def _create_channel(self, data: bytes) -> bytes:
        request = pb.CreateChannelRequest.FromString(data)
        known = request.channel in self.channels
        channel = self.create(request.channel)
        if not known:
            channel.config.CopyFrom(request.config)
        return b""

    def _publish_batch(self, data: bytes) -> bytes:
        request = pb.PublishBatchRequest.FromString(data)
        return self.channel(request.channel).publish(request).SerializeToString()

    def _pull(self, data: bytes) -> bytes:
        request = pb.PullRequest.FromString(data)
        return self.channel(request.channel).pull(request).SerializeToString()

    def _list_channels(self, data: bytes) -> bytes:
        request = pb.ListChannelsRequest.FromString(data)
        names = sorted(name for name in self.channels if name.startswith(request.prefix))
        rest = [name for name in names if name > request.page_token]
        page = rest[: self.page_size]
        return pb.ListChannelsResponse(
            channels=[pb.ChannelInfo(name=name) for name in page],
            next_page_token=page[-1] if len(rest) > len(page) else "",
        ).SerializeToString()

    def _describe_channel(self, data: bytes) -> bytes:
        request = pb.DescribeChannelRequest.FromString(data)
        return self.channel(request.channel).info().SerializeToString()

    def _configure_channel(self, data: bytes) -> bytes:
        request = pb.ConfigureChannelRequest.FromString(data)
        channel = self.channel(request.channel)
        channel.config.MergeFrom(request.config)
        return channel.info().SerializeToString()

    def _delete_channel(self, data: bytes) -> bytes:
        request = pb.DeleteChannelRequest.FromString(data)
        self.channel(request.channel)
        del self.channels[request.channel]
        return b""


_HANDLERS: dict[str, Callable[[FakeBroker, bytes], bytes]] = {
    "/mq.MQService/CreateChannel": FakeBroker._create_channel,
    "/mq.MQService/PublishBatch": FakeBroker._publish_batch,
    "/mq.MQService/Pull": FakeBroker._pull,
    "/mq.MQService/ListChannels": FakeBroker._list_channels,
    "/mq.MQService/DescribeChannel": FakeBroker._describe_channel,
    "/mq.MQService/ConfigureChannel": FakeBroker._configure_channel,
    "/mq.MQService/DeleteChannel": FakeBroker._delete_channel,
}

Outcome = bytes | MQError
