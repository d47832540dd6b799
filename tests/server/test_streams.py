"""Streaming handlers on both fronts."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from mq.errors import Unavailable
from mq.server.fronts.choose import Chosen
from tests.server.toys import FLOOD_BYTES, FLOOD_COUNT, LIMIT_S, Served, serving, soon, trailers

Code = grpc.StatusCode


async def _collect(served: Served, name: str, request: bytes = b"") -> list[bytes]:
    return [message async for message in served.stream(name)(request)]


@pytest.mark.parametrize("count", [0, 1, 1000])
async def test_streams_all_messages_in_order(front: Chosen, count: int) -> None:
    """Every message arrives, in order, and then the end."""
    async with serving(front) as served:
        expected = [b"%d" % number for number in range(count)]
        assert await _collect(served, "count", b"%d" % count) == expected
        assert served.counts.codes() == [0]


async def test_streams_run_side_by_side(front: Chosen) -> None:
    """Many streams on one connection don't mix."""
    async with serving(front) as served:
        streams = [_collect(served, "count", b"%d" % n) for n in range(50)]
        for count, messages in enumerate(await asyncio.gather(*streams)):
            assert messages == [b"%d" % number for number in range(count)]


async def test_a_stream_can_fail_in_the_middle(front: Chosen) -> None:
    """What was sent arrives, then the error with its details."""
    async with serving(front) as served:
        received = []
        with pytest.raises(aio.AioRpcError) as caught:
            async for message in served.stream("damaged")(b""):
                received.append(message)  # noqa: PERF401 the error comes after it
        assert received == [b"good"]
        assert caught.value.code() is Code.DATA_LOSS
        assert trailers(caught.value) == {
            "mq-reason": "data-loss",
            "mq-first-offset": "3",
            "mq-next-offset": "7",
        }
        assert served.counts.codes() == [15]


async def test_a_bug_in_a_stream_is_internal(front: Chosen) -> None:
    """A streaming handler's exception is logged and not told."""
    async with serving(front) as served:
        with capture_logs() as logs, pytest.raises(aio.AioRpcError) as caught:
            await _collect(served, "buggy")
        assert caught.value.code() is Code.INTERNAL
        assert "secret" not in (caught.value.details() or "")
        assert [log["event"] for log in logs] == ["handler failed"]


async def test_an_ended_stream_takes_no_more(front: Chosen) -> None:
    """After end() the client is done, and send() says that it is over."""
    async with serving(front) as served:
        assert await _collect(served, "explicit") == [b"only"]
        assert await soon(served.toys.ended) == "over"
        assert served.counts.codes() == [0]


async def test_a_cancelled_stream_cancels_its_handler(front: Chosen) -> None:
    """When the client goes, the task is cancelled and on_cancel is called."""
    async with serving(front) as served:
        stream = served.stream("linger")(b"")
        assert await stream.read() == b"here"
        stream.cancel()
        assert (await soon(served.toys.cancelled)).cancelled
        assert await soon(served.toys.ended) == "linger"
        assert await served.unary("echo")(b"") == b""
        assert served.counts.codes() == [1, 0]


async def test_a_stream_out_of_time_is_cancelled(front: Chosen) -> None:
    """A deadline ends a stream as it does a unary call."""
    async with serving(front) as served:
        with pytest.raises(aio.AioRpcError) as caught:
            async for _ in served.stream("linger")(b"", timeout=0.2):
                pass
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        assert (await soon(served.toys.cancelled)).cancelled
        assert await soon(served.toys.ended) == "linger"


async def test_a_slow_reader_holds_its_handler_back(front: Chosen) -> None:
    """What a client does not read is not sent, so memory stays bounded; then all arrives."""
    async with serving(front) as served:
        stream = served.stream("flood")(b"")
        async with asyncio.timeout(LIMIT_S):
            await served.toys.stalled.wait()
        assert served.toys.flooded * FLOOD_BYTES < 16 * 2**20
        assert await served.unary("echo")(b"others are served") == b"others are served"
        numbers = [int(message[:8]) async for message in stream]
        assert numbers == list(range(FLOOD_COUNT))
        assert served.toys.flooded == FLOOD_COUNT


async def test_a_slow_reader_that_leaves_frees_its_handler(front: Chosen) -> None:
    """A handler held back by a client is let go when that client goes."""
    async with serving(front) as served:
        stream = served.stream("flood")(b"")
        async with asyncio.timeout(LIMIT_S):
            await served.toys.stalled.wait()
        stream.cancel()
        assert await soon(served.toys.ended) == "flood"
        assert await served.unary("echo")(b"") == b""
        assert sorted(served.counts.codes()) == [0, 1]


async def test_a_stream_can_be_failed_from_outside(front: Chosen) -> None:
    """fail() ends a stream at once, even while its handler waits."""
    async with serving(front) as served:
        stream = served.stream("linger")(b"")
        assert await stream.read() == b"here"
        call = await soon(served.toys.calls)
        call.fail(Unavailable("come back later"))
        with pytest.raises(aio.AioRpcError, match="come back later"):
            await stream.read()
        assert not call.cancelled
        assert served.toys.cancelled.empty()
