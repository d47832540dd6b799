"""The three calls of the first contract, in bytes made by hand: no stubs of this project."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.conformance.conftest import StartFront
from tests.conformance.rpc import LIMIT_S, Rpc, refused
from tests.helpers.server import ServerProcess
from tests.server.raw_http2 import ACK, GOAWAY, PING, RawConnection, frame

UNKNOWN, BEGINNING, LATEST = 0, 1, 2
HOUR_MS = 3_600_000
BATCH = 500


def varint(value: int) -> bytes:
    """A protobuf varint."""
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def field(number: int, value: bytes | int) -> bytes:
    """A protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data: bytes) -> dict[int, bytes | int]:
    """The fields of a message of varints and bytes, by number."""

    def read() -> int:
        value = 0
        for shift in itertools.count(0, 7):
            byte = next(source)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        return value

    found: dict[int, bytes | int] = {}
    source = iter(data)
    for first in source:
        assert first < 0x80, "field numbers above 15 are not in the contract"
        value: bytes | int = read()
        if first & 7 == 2:
            value = bytes(next(source) for _ in range(int(value)))
        found[first >> 3] = value
    return found


class Old:
    """A client as the ones in the field are: it knows three calls."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc

    def create(self, channel: str) -> bytes:
        """CreateChannel."""
        return self.rpc.raw("CreateChannel", field(1, channel.encode()))

    def publish(self, channel: str, content: bytes) -> bytes:
        """Publish."""
        return self.rpc.raw("Publish", field(1, channel.encode()) + field(2, content))

    def subscribe(self, channel: str, offset: int, interval_ms: int = 0) -> Any:
        """Subscribe: an iterator of messages, and a call that can be cancelled."""
        request = field(1, channel.encode()) + field(2, offset) + field(3, interval_ms)
        return self.rpc.stream("Subscribe", request)

    def publish_numbers(self, channel: str, numbers: range) -> None:
        """Publish each number, many at a time."""
        name = field(1, channel.encode())
        calls = [self.rpc.later("Publish", name + field(2, b"%d" % n)) for n in numbers]
        for call in calls:
            call.result()

    def publish_in_order(self, channel: str, numbers: range) -> None:
        """Publish each number after the one before."""
        for number in numbers:
            self.publish(channel, b"%d" % number)


@pytest.fixture
def old(rpc: Rpc) -> Old:
    """An old client of the shared server."""
    return Old(rpc)


def take(stream: Iterator[bytes], count: int) -> list[dict[int, bytes | int]]:
    """The next messages of a stream."""
    return [fields(next(stream)) for _ in range(count)]


def contents(found: list[dict[int, bytes | int]]) -> list[bytes | int]:
    """The content of each message."""
    return [message[2] for message in found]


# ---- Results and errors ---------------------------------------------------------------


def test_creating_a_channel_twice_succeeds(old: Old, fresh_name: str) -> None:
    """Both times the answer is an empty message, and what the channel holds stays."""
    assert old.create(fresh_name) == b""
    old.publish(fresh_name, b"kept")
    assert old.create(fresh_name) == b""
    assert contents(take(old.subscribe(fresh_name, BEGINNING), 1)) == [b"kept"]


def test_an_unknown_channel_is_a_failed_precondition(old: Old, fresh_name: str) -> None:
    """Publishing or subscribing to it says what to call first, and creates nothing."""
    for _ in range(2):
        with refused("FAILED_PRECONDITION", "channel-missing") as refusal:
            old.publish(fresh_name, b"x")
        assert "CreateChannel" in refusal.message
        with refused("FAILED_PRECONDITION", "channel-missing"):
            next(old.subscribe(fresh_name, BEGINNING))


@pytest.mark.parametrize("unnamed", [b"", field(1, b"")], ids=["absent", "empty"])
def test_an_empty_channel_is_an_invalid_argument(rpc: Rpc, unnamed: bytes) -> None:
    """Each of the three calls needs a channel."""
    with refused("INVALID_ARGUMENT"):
        rpc.raw("CreateChannel", unnamed)
    with refused("INVALID_ARGUMENT"):
        rpc.raw("Publish", unnamed + field(2, b"x"))
    with refused("INVALID_ARGUMENT"):
        next(rpc.stream("Subscribe", unnamed + field(2, BEGINNING)))


@pytest.mark.parametrize("empty", [b"", field(2, b"")], ids=["absent", "empty"])
def test_an_empty_content_is_an_invalid_argument(rpc: Rpc, channel: str, empty: bytes) -> None:
    """A message without a byte is refused, and nothing is written."""
    with refused("INVALID_ARGUMENT"):
        rpc.raw("Publish", field(1, channel.encode()) + empty)
    assert rpc.describe(channel).durable_offset == 0


@pytest.mark.parametrize("offset", [b"", field(2, UNKNOWN), field(2, 3), field(2, 1 << 40)])
def test_an_unknown_offset_is_an_invalid_argument(rpc: Rpc, channel: str, offset: bytes) -> None:
    """OFFSET_UNKNOWN, given or not, and numbers without a name are refused."""
    with refused("INVALID_ARGUMENT"):
        next(rpc.stream("Subscribe", field(1, channel.encode()) + offset))


def test_unknown_fields_are_ignored(rpc: Rpc, channel: str) -> None:
    """A request from a later contract is understood as far as it goes."""
    later = field(14, b"unknown") + field(15, 7)
    rpc.raw("Publish", later + field(1, channel.encode()) + field(2, b"x") + later)
    found = next(rpc.stream("Subscribe", field(1, channel.encode()) + field(2, BEGINNING) + later))
    assert fields(found)[2] == b"x"


def test_any_bytes_come_back(old: Old, channel: str) -> None:
    """Content is bytes: zeros, line ends, what is no text, and a lot of it."""
    sent: list[bytes | int] = [b"\0", b"\r\n", b"\xff\xfe", bytes(range(256)), b"y" * 100_000]
    for content in sent:
        assert isinstance(content, bytes)
        old.publish(channel, content)
    assert contents(take(old.subscribe(channel, BEGINNING), len(sent))) == sent


# ---- Messages -------------------------------------------------------------------------


def test_ids_are_unique_and_the_same_at_each_replay(old: Old, fresh_name: str) -> None:
    """An id begins with msg, belongs to one message of all channels, and stays with it."""
    names = [f"{fresh_name}-a", f"{fresh_name}-b"]
    first, again = [], []
    for name in names:
        old.create(name)
        old.publish_in_order(name, range(20))
        first += [message[1] for message in take(old.subscribe(name, BEGINNING), 20)]
    for name in names:
        again += [message[1] for message in take(old.subscribe(name, BEGINNING), 20)]
    assert first == again
    assert len(set(first)) == 40
    assert all(isinstance(each, bytes) and each.startswith(b"msg") for each in first)


def test_created_at_is_unix_seconds(old: Old, channel: str) -> None:
    """It lies between the clock before and after the publish."""
    before = int(time.time())
    old.publish(channel, b"x")
    after = int(time.time())
    created_at = take(old.subscribe(channel, BEGINNING), 1)[0][3]
    assert isinstance(created_at, int)
    assert before <= created_at <= after


# ---- Pacing ---------------------------------------------------------------------------


def test_one_batch_an_interval(old: Old, channel: str) -> None:
    """500 of 1,200 messages arrive, and until the interval is over no more."""
    old.publish_numbers(channel, range(1200))
    slow = Collector(old.subscribe(channel, BEGINNING, HOUR_MS))
    slow.wait(BATCH)
    # Another one comes to the end meanwhile, at the default of 100 ms.
    assert len(take(old.subscribe(channel, BEGINNING, 0), 1200)) == 1200
    assert slow.count == BATCH
    slow.cancel()


def test_a_short_batch_ends_the_interval_too(old: Old, channel: str) -> None:
    """After a batch of one message, the next waits for the interval."""
    old.publish(channel, b"0")
    slow = Collector(old.subscribe(channel, BEGINNING, HOUR_MS))
    slow.wait(1)
    old.publish_in_order(channel, range(1, 4))
    assert len(take(old.subscribe(channel, BEGINNING, 1), 4)) == 4
    assert slow.count == 1
    slow.cancel()


def test_an_interval_without_messages_is_not_waited_for(old: Old, channel: str) -> None:
    """A subscriber that has got nothing yet gets what comes, however long its interval."""
    stream = old.subscribe(channel, BEGINNING, HOUR_MS)
    old.rpc.wait_waiting(channel, 1)
    old.publish(channel, b"first")
    assert contents(take(stream, 1)) == [b"first"]
    stream.cancel()


def test_large_messages_are_paced_by_number(old: Old, channel: str) -> None:
    """A batch is 500 messages whatever their size, more than one read of the log holds."""
    for _ in range(2):
        old.publish(channel, b"x" * 700_000)
    old.publish(channel, b"last")
    stream = old.subscribe(channel, BEGINNING, HOUR_MS)
    assert contents(take(stream, 3))[2] == b"last"
    stream.cancel()


@pytest.mark.parametrize("interval_ms", [HOUR_MS, 1 << 53, (1 << 64) - 1])
def test_any_interval_is_accepted(old: Old, channel: str, interval_ms: int) -> None:
    """Up to the largest number that fits, longer than any broker will run."""
    old.publish_in_order(channel, range(2))
    slow = Collector(old.subscribe(channel, BEGINNING, interval_ms))
    slow.wait(2)
    old.publish(channel, b"later")
    assert len(take(old.subscribe(channel, BEGINNING, 1), 3)) == 3
    assert slow.ended is None
    slow.cancel()


class Collector:
    """Reads a stream in a thread, and counts."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self.count = 0
        self.ended: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for _ in self._stream:
                with self._changed:
                    self.count += 1
                    self._changed.notify_all()
        except grpc.RpcError as error:
            self.ended = error

    def wait(self, count: int) -> None:
        """Return once so many messages have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, LIMIT_S), self.count

    def cancel(self) -> None:
        """End the call and the thread."""
        self._stream.cancel()
        self._thread.join(LIMIT_S)


# ---- Where a subscription begins, and that it misses nothing --------------------------


def test_latest_is_what_is_published_from_now_on(old: Old, channel: str) -> None:
    """What was there before is not sent, what comes is, from the first message on."""
    old.publish_in_order(channel, range(3))
    stream = old.subscribe(channel, LATEST, 1)
    old.rpc.wait_waiting(channel, 1)
    old.publish_in_order(channel, range(3, 6))
    assert contents(take(stream, 3)) == [b"3", b"4", b"5"]
    stream.cancel()


def test_a_replay_has_no_gap(old: Old, channel: str) -> None:
    """1,200 messages arrive once each and in order, across the ends of batches."""
    old.publish_in_order(channel, range(700))
    old.rpc.publish_batch(channel, [b"%d" % n for n in range(700, 1200)])
    found = contents(take(old.subscribe(channel, BEGINNING, 1), 1200))
    assert found == [b"%d" % n for n in range(1200)]


def test_a_replay_while_publishing_has_no_gap(old: Old, channel: str) -> None:
    """What is published during a replay follows it, in order, without a gap or a repeat."""
    old.rpc.publish_batch(channel, [b"%d" % n for n in range(600)])
    publisher = threading.Thread(target=old.publish_in_order, args=(channel, range(600, 1200)))
    publisher.start()
    streams = [old.subscribe(channel, BEGINNING, interval_ms) for interval_ms in (1, 10)]
    for stream in streams:
        assert contents(take(stream, 1200)) == [b"%d" % n for n in range(1200)]
    publisher.join(LIMIT_S)


def test_a_restart_loses_nothing(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Channels, also empty ones, messages and ids are the same; the batch's size is a setting."""
    server = start(env={"STORAGE_BATCH_SIZE": "7"})
    old = Old(connect(server))
    old.create("empty")
    old.create("full")
    old.publish_in_order("full", range(10))
    before = take(old.subscribe("full", BEGINNING, 1), 10)
    for kill in (False, True):
        server.restart(kill=kill)
        old = Old(connect(server))
        assert take(old.subscribe("full", BEGINNING, 1), 10) == before
        with refused("FAILED_PRECONDITION"):
            old.publish("other", b"x")
    old.publish("empty", b"at last")
    assert contents(take(old.subscribe("empty", BEGINNING), 1)) == [b"at last"]
    slow = Collector(old.subscribe("full", BEGINNING, HOUR_MS))
    slow.wait(7)
    assert len(take(old.subscribe("full", BEGINNING, 1), 10)) == 10
    assert slow.count == 7
    slow.cancel()


# ---- Connections ----------------------------------------------------------------------


async def test_pings_without_calls_are_not_punished(shared: ServerProcess) -> None:
    """A client that pings and pings with nothing in flight is answered, not sent away."""
    async with asyncio.timeout(LIMIT_S):
        raw = await RawConnection.open(shared.address)
        for number in range(50):
            raw.send(frame(PING, payload=number.to_bytes(8, "big")))
            answer = await raw.until((PING, GOAWAY))
            assert answer is not None, "the connection was closed"
            assert (answer.type, answer.flags & ACK) == (PING, ACK)
        await raw.close()


def test_a_subscriber_that_goes_away_is_forgotten(
    old: Old, channel: str, shared: ServerProcess
) -> None:
    """Cancelled or cut off, waiting for messages, it waits no longer."""
    other = Rpc(shared.address)
    cut_off = Old(other).subscribe(channel, LATEST)
    cancelled = old.subscribe(channel, LATEST)
    old.rpc.wait_waiting(channel, 2)
    cancelled.cancel()
    old.rpc.wait_waiting(channel, 1)
    other.close()
    old.rpc.wait_waiting(channel, 0)
    assert cut_off.code().name == "CANCELLED"
