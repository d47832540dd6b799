"""Requests that are none, at every method: an error for whoever sent it, nothing for others."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Rpc, batch_request, messages

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["MQService"].methods}
HEALTH = "/grpc.health.v1.Health/Check"

# None of them is a protobuf message, whatever the message.
NO_MESSAGES = {
    "a tag alone": b"\x0a",
    "an endless tag": b"\xff" * 11,
    "field number zero": b"\x00\x01",
    "a length beyond the end": b"\x0a\x05abc",
    "a huge length": b"\x0a\xff\xff\xff\xff\x07abc",
    "a length over 2 GiB": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "half a number": b"\x09abc",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "an end without a start": b"\x7c",
    "a start without an end": b"\x7b",
    "text": b"hello, broker",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "JSON": b'{"channel": "a"}',
    "too deep": b"\x7b" * 5000 + b"\x7c" * 5000,
}
# What a caller's mistake may be answered with. Never INTERNAL, UNKNOWN or a hang.
EXPECTED_CODES = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
}


def outcome(rpc: Rpc, method: str, request: bytes) -> str:
    """The status code of one call."""
    try:
        # A request that asks to wait is answered before this.
        if method in METHODS and METHODS[method].server_streaming:
            stream = rpc.stream(method, request, timeout=5)
            try:
                next(stream)
            finally:
                stream.cancel()
        else:
            rpc.raw(method, request, timeout=5)
    except grpc.RpcError as error:
        call: grpc.Call = error  # type: ignore[assignment]
        return str(call.code().name)
    return "OK"


def still_serves(rpc: Rpc, channel: str) -> None:
    """The server does all it should."""
    offset = rpc.publish(channel, b"sound").offset
    assert rpc.pull(channel, offset=offset).records() == [(offset, b"sound")]


def example(method: str, channel: str) -> Message:
    """A sound request of a method."""
    kind = GetMessageClass(METHODS[method].input_type)
    if method == "PublishBatch":
        return batch_request(channel, [b"a", b"b"], producer_id=3)
    names = {field.name for field in kind.DESCRIPTOR.fields}
    values: dict[str, object] = {
        "channel": channel,
        "content": b"x",
        "group": "g",
        "consumer": "c",
        "offset": 1,
        "max_records": 10,
        "prefix": channel,
        "config": {},
        "dry_run": True,
    }
    return kind(**{name: value for name, value in values.items() if name in names})


@pytest.mark.parametrize("method", [*METHODS, HEALTH])
def test_what_is_no_message(rpc: Rpc, channel: str, method: str) -> None:
    """INVALID_ARGUMENT, each time."""
    for what, request in NO_MESSAGES.items():
        code = outcome(rpc, method, request)
        assert code in {"INVALID_ARGUMENT", "UNIMPLEMENTED"}, what
    still_serves(rpc, channel)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_message(rpc: Rpc, method: str) -> None:
    """All fields absent: a caller's mistake, but for a list, which is of everything."""
    allowed = {"OK"} if method.startswith("List") else {"INVALID_ARGUMENT"}
    assert outcome(rpc, method, b"") in {*allowed, "UNIMPLEMENTED"}


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(data=st.data())
def test_random_requests(rpc: Rpc, channel: str, data: st.DataObject) -> None:
    """Any bytes, and sound requests with some bytes changed, get an answer at every method."""
    for method in METHODS:
        request = bytearray(example(method, channel).SerializeToString())
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(request)))
            request[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=5))
        sent = data.draw(st.one_of(st.just(bytes(request)), st.binary(max_size=100)))
        code = outcome(rpc, method, sent)
        if method == "DeleteChannel" and code == "OK":
            rpc.create(channel)
        assert code in {"OK", *EXPECTED_CODES}, (method, sent)
    still_serves(rpc, channel)


def test_random_records(rpc: Rpc, channel: str) -> None:
    """What PublishBatch has accepted as records can be pulled and subscribed to."""

    @settings(max_examples=60, database=None)
    @given(records=st.binary(max_size=60))
    def publish(records: bytes) -> None:
        outcome(
            rpc, "PublishBatch", batch_request(channel, (), records=records).SerializeToString()
        )

    publish()
    rpc.publish(channel, b"the last")
    end = rpc.describe(channel).durable_offset
    assert len(rpc.contents(channel)) == end
    stream = rpc.subscribe(channel)
    assert messages(stream, end)[-1].content == b"the last"
