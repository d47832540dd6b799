"""Arguments: refused early, with a message that says what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.client.accumulator import BatchLimits
from mq.client.arguments import (
    check_channel,
    encode_headers,
    pull_request,
    to_bytes,
    to_columns,
    to_limit,
)
from mq.client.flows import CallPolicy
from mq.client.follower import FollowOptions
from mq.client.methods import check_target
from mq.client.producer_core import ProducerOptions
from mq.client.types import config_message, durability_number, time_from_ns, time_to_ns
from mq.client.window import Window
from mq.errors import InvalidArgument
from mq.pb import mq_pb2 as pb


@pytest.mark.parametrize("value", (b"x", bytearray(b"x"), memoryview(b"x")))
def test_bytes_of_any_kind(value: bytes | bytearray | memoryview) -> None:
    """Bytes-like objects are copied into bytes."""
    assert to_bytes(value) == b"x"


def test_text_has_to_be_encoded() -> None:
    """A str is refused with what to do about it."""
    with pytest.raises(TypeError, match=r"content is bytes: encode the str first"):
        to_bytes("text")
    with pytest.raises(TypeError, match=r"key is bytes: encode the str first"):
        to_columns([b"x"], ["key"], None)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"header 'a' is bytes"):
        encode_headers({"a": "b"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int has to be encoded"):
        to_bytes(3)


def test_headers_are_pairs_of_text_and_bytes() -> None:
    """A mapping or pairs, repeated names included, in their order."""
    pairs = [("b", b"1"), ("a", b"2"), ("b", b"3")]
    parsed = pb.Headers.FromString(encode_headers(pairs))
    assert [(each.key, each.value) for each in parsed.entries] == pairs
    assert encode_headers({}) == encode_headers(None) == b""
    with pytest.raises(TypeError, match="name is a str"):
        encode_headers({b"a": b"b"})  # type: ignore[arg-type]


@pytest.mark.parametrize("one", (b"message", "message"))
def test_one_message_is_no_list(one: Any) -> None:
    """Passing a single message where a list belongs is noticed."""
    with pytest.raises(TypeError, match=r"use publish\(\)"):
        to_columns(one, None, None)


def test_columns_have_one_entry_a_message() -> None:
    """Columns of another length are refused; None and empty entries are none."""
    assert to_columns([b"a", bytearray(b"b")], [None, b"k"], None) == (
        [b"a", b"b"],
        [b"", b"k"],
        [],
    )
    assert to_columns([b"a"], [None], [{}]) == ([b"a"], [], [])
    with pytest.raises(InvalidArgument, match="keys has 1 entries for 2"):
        to_columns([b"a", b"b"], [b"k"], None)
    with pytest.raises(InvalidArgument, match="headers has 1 entries for 2"):
        to_columns([b"a", b"b"], None, [{"h": b""}])
    with pytest.raises(InvalidArgument, match="at least one"):
        to_columns([], None, None)


def test_channels_have_names() -> None:
    """An empty name and one that isn't text are refused."""
    assert check_channel("orders") == "orders"
    with pytest.raises(InvalidArgument, match="needs a name"):
        check_channel("")
    with pytest.raises(TypeError, match="name is a str"):
        check_channel(b"orders")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "field", "value"),
    (
        (0, "offset", 0),
        (7, "offset", 7),
        ("beginning", "position", pb.OFFSET_BEGINNING),
        ("latest", "position", pb.OFFSET_LATEST),
        (datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), "time_ns", 1_000_005_000),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "time_ns", 0),
    ),
)
def test_starts(start: Any, field: str, value: int) -> None:
    """Each kind of start goes into its own field."""
    request = pull_request("orders", start)
    assert request.WhichOneof("start") == field
    assert getattr(request, field) == value


@pytest.mark.parametrize(
    ("start", "error", "message"),
    (
        (-1, InvalidArgument, "0 or more"),
        (1 << 64, InvalidArgument, "0 or more"),
        ("newest", InvalidArgument, "'newest'"),
        (datetime(2024, 1, 1), InvalidArgument, "time zone"),  # noqa: DTZ001
        (1.5, TypeError, "float"),
        (None, TypeError, "NoneType"),
    ),
)
def test_what_is_no_start(start: Any, error: type[Exception], message: str) -> None:
    """A start that means nothing is refused with what it may be."""
    with pytest.raises(error, match=message):
        pull_request("orders", start)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_exact(time: datetime) -> None:
    """A time becomes nanoseconds and comes back as it was."""
    assert time_from_ns(time_to_ns(time)) == time


@pytest.mark.parametrize("target", ("localhost:1", "[::1]:50051", "unix:/run/mq.sock"))
def test_targets(target: str) -> None:
    """Host and port, or a socket's path."""
    assert check_target(target) == target


@pytest.mark.parametrize(
    "target", ("", "localhost", "localhost:", ":1", "localhost:http", "http://h/")
)
def test_what_is_no_target(target: str) -> None:
    """An address without a port is not guessed at."""
    with pytest.raises(InvalidArgument, match="host:port"):
        check_target(target)


def test_settings_of_a_channel() -> None:
    """Only what is given is sent, and what can't be a setting is refused."""
    assert config_message(None, None, None) == pb.ChannelConfig()
    assert config_message(1, "written", 2) == pb.ChannelConfig(
        segment_bytes=1, durability=pb.DURABILITY_WRITTEN, max_message_bytes=2
    )
    with pytest.raises(InvalidArgument, match="whole number of bytes"):
        config_message(-1, None, None)
    with pytest.raises(InvalidArgument, match="'synced' or 'written'"):
        durability_number("eventually")  # type: ignore[arg-type]


def new_window(max_in_flight: int) -> Window:
    """A window of that size."""
    return Window(max_in_flight=max_in_flight, delivery_timeout_s=1, new_producer_id=lambda: 1)


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda: BatchLimits(linger_s=-1), "linger_ms"),
        (lambda: BatchLimits(batch_bytes=0), "batch_bytes"),
        (lambda: BatchLimits(batch_records=0), "batch_records"),
        (lambda: BatchLimits(batch_bytes=10, buffer_bytes=9), "buffer_bytes"),
        (lambda: ProducerOptions(delivery_timeout_s=0.001), "delivery_timeout_s"),
        (lambda: new_window(0), "max_in_flight is from 1 to 16"),
        (lambda: new_window(17), "max_in_flight is from 1 to 16"),
        (lambda: FollowOptions(on_damage="ignore"), "on_damage"),  # type: ignore[arg-type]
        (lambda: FollowOptions(max_bytes=-1), "max_bytes"),
        (lambda: to_limit(1 << 32, "max_records"), "max_records"),
        (lambda: CallPolicy(timeout_s=0), "timeout_s"),
        (lambda: CallPolicy(retry_timeout_s=-1), "retry_timeout_s"),
    ),
)
def test_options_that_cannot_be_used(make: Any, message: str) -> None:
    """Each is refused where it is given, by its name."""
    with pytest.raises(InvalidArgument, match=message):
        make()
