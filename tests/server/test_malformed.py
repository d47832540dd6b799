"""Input that no proper client sends ends its own connection at most."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from mq.server.fronts.choose import Chosen
from tests.server import raw_http2 as h2
from tests.server.raw_http2 import RawConnection
from tests.server.toys import LIMIT_S, Served, connect, serving, soon, unary


@pytest.fixture
async def served(front: Chosen) -> AsyncIterator[Served]:
    """A front that has to be alive when the test is over."""
    async with serving(front) as served:
        yield served
        echo = served.unary("echo")
        assert await echo(b"alive", wait_for_ready=True, timeout=LIMIT_S) == b"alive"


async def _call(served: Served, body: bytes, **changed: str) -> h2.Frame | None:
    """Make a request by hand; the last frame of its answer, or None for a hang-up."""
    connection = await RawConnection.open(served.front.bound[0])
    block = h2.headers("/toy.Toy/echo", **changed)
    connection.send(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, block),
        h2.frame(h2.DATA, h2.END_STREAM, 1, body),
    )
    async with asyncio.timeout(LIMIT_S):
        while True:
            received = await connection.until({h2.DATA, h2.HEADERS, h2.RST_STREAM}, stream=1)
            ends = received is None or received.type == h2.RST_STREAM
            if ends or (received is not None and received.flags & h2.END_STREAM):
                break
    await connection.close()
    return received


async def test_a_request_made_by_hand_is_answered(served: Served) -> None:
    """The harmless twin of what follows."""
    received = await _call(served, h2.message(b"hello"))
    assert received is not None
    assert received.type == h2.HEADERS
    assert served.counts.codes() == [0]


@pytest.mark.parametrize(
    "body",
    [
        h2.message(b"", length=2**32 - 1),
        h2.message(b"not compressed", compressed=1),
    ],
    ids=["huge", "compressed"],
)
async def test_a_broken_message_is_refused(served: Served, body: bytes) -> None:
    """A message whose prefix can't be true ends its call, and reaches no handler."""
    await _call(served, body)
    assert served.counts.started_ids == []


@pytest.mark.parametrize(
    "body", [h2.message(b"short", length=1000), b"\x00\x00", b""], ids=["short", "prefix", "none"]
)
async def test_an_incomplete_message_reaches_no_handler(served: Served, body: bytes) -> None:
    """A request that ends before its message does is not given to a handler."""
    connection = await RawConnection.open(served.front.bound[0])
    connection.send(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers("/toy.Toy/echo")),
        h2.frame(h2.DATA, h2.END_STREAM, 1, body),
        h2.frame(h2.PING, payload=b"barrier!"),
    )
    async with asyncio.timeout(LIMIT_S):
        await connection.until({h2.PING})
    await connection.close()
    assert served.counts.started_ids == []


async def test_a_path_that_is_not_text_stops_nobody(served: Served) -> None:
    """A path that is not UTF-8 ends neither calls in flight nor the server."""
    pending = served.unary("hold")(b"")
    call = await soon(served.toys.calls)
    connection = await RawConnection.open(served.front.bound[0])
    block = h2.headers("/toy.Toy/x").replace(b"/x", b"/\xd3")
    connection.send(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, block),
        h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(b"x")),
    )
    async with asyncio.timeout(LIMIT_S):
        await connection.until({h2.HEADERS, h2.RST_STREAM, h2.GOAWAY})
    await connection.close()
    call.reply(b"answered all the same")
    assert await pending == b"answered all the same"
    async with connect(served.front.bound[0]) as channel:
        echo = unary(channel, "/toy.Toy/echo")
        assert await echo(b"back", wait_for_ready=True, timeout=LIMIT_S) == b"back"


@pytest.mark.parametrize(
    "changed",
    [
        {"content_type": "text/plain"},
        {":method": "GET"},
        {":path": "no-slash"},
        {"grpc_timeout": "soon"},
        {"grpc_encoding": "unheard-of"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_odd_headers_harm_nobody(served: Served, changed: dict[str, str]) -> None:
    """Headers that are not gRPC's get some answer."""
    await _call(served, h2.message(b"hello"), **changed)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
        h2.PREFACE + b"\xff" * 100,
        h2.PREFACE + h2.frame(h2.SETTINGS, payload=b"odd"),
        h2.PREFACE + h2.frame(h2.SETTINGS) + h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"),
        h2.PREFACE + h2.frame(h2.SETTINGS) + h2.frame(h2.DATA, 0, 1, b"no headers"),
    ],
    ids=["http1", "tls", "zeros", "frame", "settings", "hpack", "data"],
)
async def test_garbage_ends_its_connection_only(served: Served, data: bytes) -> None:
    """Bytes that are not HTTP/2 disturb no other connection."""
    connection = await RawConnection.open(served.front.bound[0], greet=False)
    connection.send(data)
    await connection.close()


@pytest.mark.parametrize("seed", range(5))
async def test_random_bytes_harm_nobody(served: Served, seed: int) -> None:
    """Random frames, bodies and cuts leave the server answering."""
    rng = random.Random(seed)
    valid = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers("/toy.Toy/echo")) + h2.frame(
        h2.DATA, h2.END_STREAM, 1, h2.message(b"x" * 100)
    )
    for _ in range(20):
        connection = await RawConnection.open(served.front.bound[0])
        data = bytearray(valid)
        for _ in range(rng.randrange(1, 6)):
            # Below 128: a path stays text, which has a test of its own.
            data[rng.randrange(len(data))] = rng.randrange(128)
        connection.send(bytes(data[: rng.randrange(1, len(data))]), rng.randbytes(50))
        await connection.close()


async def test_pings_without_calls_are_answered(served: Served) -> None:
    """A client may ping as often as it likes with nothing in flight, and is not sent away."""
    connection = await RawConnection.open(served.front.bound[0])
    for number in range(50):
        payload = number.to_bytes(8, "big")
        connection.send(h2.frame(h2.PING, payload=payload))
        async with asyncio.timeout(LIMIT_S):
            while True:
                answer = await connection.until({h2.PING, h2.GOAWAY})
                assert answer is not None
                assert answer.type == h2.PING
                if answer.flags & h2.ACK:
                    break
                connection.send(h2.frame(h2.PING, h2.ACK, payload=answer.payload))
        assert answer.payload == payload
    await connection.close()


async def test_a_reset_stream_is_cancelled(served: Served) -> None:
    """RST_STREAM is a cancellation."""
    connection = await RawConnection.open(served.front.bound[0])
    connection.send(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers("/toy.Toy/hold")),
        h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(b"reset me")),
    )
    call = await soon(served.toys.calls)
    connection.send(h2.frame(h2.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
    assert await soon(served.toys.cancelled) is call
    await connection.close()


async def test_a_request_that_never_ends_costs_no_call(served: Served) -> None:
    """Half a request, and then a hang-up, is never seen by a handler."""
    connection = await RawConnection.open(served.front.bound[0])
    connection.send(
        h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers("/toy.Toy/hold")),
        h2.frame(h2.DATA, 0, 1, h2.message(b"half", length=8)),
    )
    await connection.until({h2.SETTINGS})
    await connection.close()
    assert await served.unary("echo")(b"") == b""
    assert served.toys.calls.empty()
