"""Publish and PublishBatch: bytes in, one append, an answer when it is durable."""

from __future__ import annotations

from functools import partial

from crc32c import crc32c
from google.protobuf.message import DecodeError

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.coordinator.records import attributes_of
from mq.broker.model import Durability
from mq.broker.pending import Outcome
from mq.broker.store import Append
from mq.errors import BadChecksum, ChannelMissing, ChannelNotFound, InvalidArgument, MQError
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.requests import durability, parse

WIRE_DURABILITY = {
    Durability.DEFAULT: pb.DURABILITY_DEFAULT,
    Durability.SYNCED: pb.DURABILITY_SYNCED,
    Durability.WRITTEN: pb.DURABILITY_WRITTEN,
}


def known_channel(broker: Broker, name: str) -> Channel:
    """The channel, for the calls of the first contract.

    Raises:
        InvalidArgument: No name was given.
        ChannelMissing: There is no such channel.
    """
    channel = broker.channels.find(name)
    if channel is None:
        if not name:
            raise InvalidArgument("channel is empty; name the channel")
        raise ChannelMissing(f"there is no channel {name[:64]!r}; call CreateChannel first")
    return channel


class PublishHandlers:
    """The handlers that append."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def publish(self, call: Call) -> None:
        """Append one message."""
        request = parse(pb.PublishRequest, call.request)
        channel = known_channel(self._broker, request.channel)
        content = request.content
        if not content:
            raise InvalidArgument("content is empty; a message has at least one byte")
        try:
            channel.publish(content, Durability.DEFAULT, partial(_published, call))
        except ChannelNotFound as error:
            raise ChannelMissing(error.message) from None

    def publish_batch(self, call: Call) -> None:
        """Append a batch, all or nothing."""
        request = parse(pb.PublishBatchRequest, call.request)
        channel = self._broker.channels.get(request.channel)
        wanted = durability(request.durability)
        records = request.records
        crc = crc32c(records)
        if request.HasField("records_crc") and request.records_crc != crc:
            raise BadChecksum(
                f"records arrived with CRC32C {crc:#010x}, and the producer computed "
                f"{request.records_crc:#010x}; send them again"
            )
        columns = check_records(records)
        append = Append(
            records,
            len(columns.contents),
            crc,
            request.producer_id,
            request.sequence,
            attributes_of(columns),
        )
        channel.publish_batch(append, wanted, partial(_batch_published, call))


def check_records(records: bytes) -> pb.Records:
    """The columns of a serialized ``Records`` that may be published.

    Raises:
        InvalidArgument: It is malformed, empty, or its columns don't match.
    """
    try:
        columns = pb.Records.FromString(records)
    except DecodeError:
        raise InvalidArgument("records is not a serialized mq.Records message") from None
    count = len(columns.contents)
    if count == 0:
        raise InvalidArgument("records holds no contents; a batch has at least one record")
    for name in ("keys", "headers", "deliver_after_ms", "expires_after_ms"):
        entries = len(getattr(columns, name))
        if entries not in (0, count):
            raise InvalidArgument(
                f"records has {count} contents and {entries} {name}; give none, or one a record"
            )
    if columns.offset_deltas:
        raise InvalidArgument("records has offset_deltas; only the broker sets them")
    return columns


def _published(call: Call, outcome: Outcome, _: Durability) -> None:
    if isinstance(outcome, ChannelNotFound):
        # Deleted meanwhile: the first contract has its own code for that.
        call.fail(ChannelMissing(outcome.message))
    elif isinstance(outcome, MQError):
        call.fail(outcome)
    else:
        response = pb.PublishResponse(offset=outcome[0], append_time_ns=outcome[2])
        call.reply(response.SerializeToString())


def _batch_published(call: Call, outcome: Outcome, reached: Durability) -> None:
    if isinstance(outcome, MQError):
        call.fail(outcome)
    else:
        response = pb.PublishBatchResponse(
            base_offset=outcome.base_offset,
            record_count=outcome.record_count,
            append_time_ns=outcome.append_time_ns,
            durability=WIRE_DURABILITY[reached],
            duplicate=outcome.duplicate,
        )
        call.reply(response.SerializeToString())
