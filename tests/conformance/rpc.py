"""A plain client for tests: requests as the generated messages, or as raw bytes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from crc32c import crc32c

from mq.pb import mq_pb2 as pb

LIMIT_S = 30.0
SERVICE = "mq.MQService"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Stream = Any  # grpc.Call, and an iterator of bytes.


class Rpc:
    """One client of a running server, on a connection of its own."""

    def __init__(self, address: str, options: Sequence[tuple[str, int]] = ()) -> None:
        self.address = address
        # Without this all clients of a process share one connection.
        own = ("grpc.use_local_subchannel_pool", 1)
        self._channel = grpc.insecure_channel(address, options=[*UNLIMITED, own, *options])

    def close(self) -> None:
        """Hang up; what is in flight is cancelled."""
        self._channel.close()

    def raw(self, method: str, request: bytes, timeout: float = LIMIT_S) -> bytes:
        """A unary call, bytes in and out; a method of mq's service, or a whole path."""
        answer: bytes = self._unary(method)(request, timeout=timeout)
        return answer

    def later(self, method: str, request: Any, timeout: float = LIMIT_S) -> Any:
        """A unary call whose answer, bytes, is asked for later."""
        return self._unary(method).future(_bytes(request), timeout=timeout)

    def stream(self, method: str, request: Any, timeout: float = LIMIT_S) -> Stream:
        """A call that streams bytes; nothing is read until it is iterated over."""
        call: Any = self._channel.unary_stream(_path(method))
        return call(_bytes(request), timeout=timeout)

    def both_ways(self, path: str, requests: Iterable[bytes]) -> Stream:
        """A call that streams both ways."""
        call: Any = self._channel.stream_stream(path)
        return call(iter(requests), timeout=LIMIT_S)

    def _unary(self, method: str) -> Any:
        return self._channel.unary_unary(_path(method))

    # ---- The service's calls ----------------------------------------------

    def create(self, channel: str, **config: Any) -> str:
        """CreateChannel; returns the name."""
        request = pb.CreateChannelRequest(channel=channel)
        if config:
            request.config.CopyFrom(pb.ChannelConfig(**config))
        self.raw("CreateChannel", request.SerializeToString())
        return channel

    def publish(self, channel: str, content: bytes) -> pb.PublishResponse:
        """Publish one message."""
        request = pb.PublishRequest(channel=channel, content=content)
        answer = self.raw("Publish", request.SerializeToString())
        return pb.PublishResponse.FromString(answer)

    def publish_batch(
        self, channel: str, contents: Sequence[bytes], **fields: Any
    ) -> pb.PublishBatchResponse:
        """PublishBatch, with the right CRC."""
        request = batch_request(channel, contents, **fields)
        answer = self.raw("PublishBatch", request.SerializeToString())
        return pb.PublishBatchResponse.FromString(answer)

    def pull(self, channel: str, **fields: Any) -> Pulled:
        """Pull, with the fields of a PullRequest."""
        request = pb.PullRequest(channel=channel, **fields)
        return Pulled(self.raw("Pull", request.SerializeToString()))

    def contents(self, channel: str, start: int = 0) -> list[bytes]:
        """The content of everything stored from an offset on."""
        found: list[bytes] = []
        end = self.describe(channel).durable_offset
        while start < end:
            pulled = self.pull(channel, offset=start, max_bytes=4 << 20)
            found += [content for _, content in pulled.records()]
            start = pulled.answer.next_offset
        return found

    def describe(self, channel: str) -> pb.ChannelInfo:
        """DescribeChannel."""
        request = pb.DescribeChannelRequest(channel=channel)
        return pb.ChannelInfo.FromString(self.raw("DescribeChannel", request.SerializeToString()))

    def configure(self, channel: str, **config: Any) -> pb.ChannelInfo:
        """ConfigureChannel."""
        request = pb.ConfigureChannelRequest(channel=channel, config=pb.ChannelConfig(**config))
        return pb.ChannelInfo.FromString(self.raw("ConfigureChannel", request.SerializeToString()))

    def delete(self, channel: str) -> None:
        """DeleteChannel."""
        request = pb.DeleteChannelRequest(channel=channel)
        assert self.raw("DeleteChannel", request.SerializeToString()) == b""

    def list_channels(self, **fields: Any) -> pb.ListChannelsResponse:
        """ListChannels."""
        request = pb.ListChannelsRequest(**fields)
        return pb.ListChannelsResponse.FromString(
            self.raw("ListChannels", request.SerializeToString())
        )

    def subscribe(
        self, channel: str, offset: pb.Offset = pb.OFFSET_BEGINNING, interval_ms: int = 1
    ) -> Stream:
        """Subscribe; iterate over it with `messages`."""
        request = pb.SubscribeRequest(channel=channel, offset=offset, pull_interval=interval_ms)
        return self.stream("Subscribe", request)

    def wait_waiting(self, channel: str, count: int) -> None:
        """Return once so many pulls and subscribers wait at the channel's end."""
        wait_until(lambda: self.describe(channel).waiting_pulls == count, f"{count} waiting")


class Pulled:
    """A PullResponse, its frames checked."""

    def __init__(self, raw: bytes) -> None:
        self.size = len(raw)
        self.answer = pb.PullResponse.FromString(raw)
        for batch in self.answer.batches:
            assert batch.records_crc == crc32c(batch.records), "a batch with a wrong CRC"

    @property
    def batches(self) -> Sequence[pb.RecordBatch]:
        """The frames."""
        return self.answer.batches

    def records(self) -> list[tuple[int, bytes]]:
        """Offset and content of each record from the start that was asked for."""
        return [
            (batch.base_offset + at, content)
            for batch in self.answer.batches
            for at, content in enumerate(pb.Records.FromString(batch.records).contents)
            if batch.base_offset + at >= self.answer.start_offset
        ]


def records_of(contents: Sequence[bytes], **columns: Any) -> bytes:
    """A serialized Records."""
    return pb.Records(contents=contents, **columns).SerializeToString()


def batch_request(
    channel: str, contents: Sequence[bytes], *, records: bytes | None = None, **fields: Any
) -> pb.PublishBatchRequest:
    """A PublishBatchRequest with the right CRC, unless ``records_crc`` gives another."""
    records = records_of(contents) if records is None else records
    fields.setdefault("records_crc", crc32c(records))
    return pb.PublishBatchRequest(channel=channel, records=records, **fields)


def messages(stream: Stream, count: int) -> list[pb.Message]:
    """The next ``count`` messages of a Subscribe stream."""
    return [pb.Message.FromString(next(stream)) for _ in range(count)]


class Refusal:
    """How a call failed."""

    code: grpc.StatusCode
    message: str
    metadata: dict[str, str]

    def take(self, error: grpc.RpcError) -> None:
        """Note what an error says."""
        call: Any = error
        self.code, self.message = call.code(), call.details()
        self.metadata = {key: str(value) for key, value in call.trailing_metadata() or ()}


@contextlib.contextmanager
def refused(code: str, reason: str | None = None) -> Iterator[Refusal]:
    """The calls inside have to fail with this status, and this ``mq-reason`` if given."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        yield refusal
    refusal.take(caught.value)
    assert refusal.code is grpc.StatusCode[code], (refusal.code, refusal.message)
    assert reason is None or refusal.metadata.get("mq-reason") == reason, refusal.metadata
    assert refusal.message, "an error without a message"


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Ask again and again; each question is a call, so it paces itself."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit_s:g} s: {what}"


def _path(method: str) -> str:
    return method if method.startswith("/") else f"/{SERVICE}/{method}"


def _bytes(request: Any) -> bytes:
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())
