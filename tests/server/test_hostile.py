"""Peers that want too much, or say nothing: they stop nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mq.server.fronts.base import Limits
from mq.server.fronts.choose import Chosen
from mq.server.fronts.grpcio import _options
from tests.helpers.server import ROOT
from tests.server import raw_http2 as h2
from tests.server.raw_http2 import RawConnection
from tests.server.toys import LIMIT_S, Served, serving

_MAX_CONCURRENT_STREAMS = 3
STREAMS_MAX = 7


@pytest.fixture
async def served(front: Chosen) -> AsyncIterator[Served]:
    """A front that takes seven streams a connection."""
    limits = Limits(1 << 20, 100, max_streams_per_connection=STREAMS_MAX)
    async with serving(front, limits=limits) as served:
        yield served


def settings_in(payload: bytes) -> dict[int, int]:
    """What a SETTINGS frame says."""
    rows = (payload[at : at + 6] for at in range(0, len(payload), 6))
    return {int.from_bytes(row[:2], "big"): int.from_bytes(row[2:], "big") for row in rows}


async def test_streams_of_a_connection_are_bounded(served: Served) -> None:
    """The client is told how many, and one that opens more all the same has them refused."""
    connection = await RawConnection.open(served.front.bound[0])
    async with asyncio.timeout(LIMIT_S):
        received = await connection.until({h2.SETTINGS})
        assert received is not None
        assert settings_in(received.payload)[_MAX_CONCURRENT_STREAMS] == STREAMS_MAX
        block = h2.headers("/toy.Toy/hold")
        for number in range(3 * STREAMS_MAX):
            stream = 2 * number + 1
            connection.send(
                h2.frame(h2.HEADERS, h2.END_HEADERS, stream, block),
                h2.frame(h2.DATA, h2.END_STREAM, stream, h2.message(b"")),
            )
        # Refused one by one, or with the whole connection.
        refused = await connection.until({h2.RST_STREAM, h2.GOAWAY})
        assert refused is None or refused.type in (h2.RST_STREAM, h2.GOAWAY)
    assert await served.unary("echo")(b"others", timeout=LIMIT_S) == b"others"
    assert served.toys.calls.qsize() <= STREAMS_MAX
    await connection.close()


@pytest.mark.parametrize("greet", (False, True), ids=("silent", "greeted"))
async def test_silent_peers_stop_nobody(served: Served, greet: bool) -> None:
    """Connections on which nothing more is said, as half-open ones are."""
    address = served.front.bound[0]
    silent = [await RawConnection.open(address, greet=greet) for _ in range(50)]
    echo = served.unary("echo")
    for _ in range(20):
        assert await echo(b"x", timeout=LIMIT_S) == b"x"
    for connection in silent:
        await connection.close()


def test_the_documented_channel_arguments_are_in_force() -> None:
    """Every one of the grpcio front, and its value where that is no setting."""
    text = (ROOT / "docs" / "security.md").read_text()
    limits = Limits(max_recv_bytes=4 << 20, max_concurrent_calls=10_000)
    for name, value in _options(limits):
        assert f"| `{name}` | {value} |" in text, name
