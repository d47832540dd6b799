"""How the fronts stop, and start again."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio

from mq.server.call import Call, Method
from mq.server.fronts.choose import Chosen, make_front
from tests.server.toys import (
    LIMIT_S,
    LIMITS,
    Counts,
    Toys,
    connect,
    failure,
    serving,
    soon,
    trailers,
    unary,
)

Code = grpc.StatusCode


async def test_calls_in_flight_may_finish(front: Chosen) -> None:
    """While stopping, new calls are refused and those in flight answered; then it has stopped."""
    async with serving(front) as served:
        pending = served.unary("hold")(b"in flight")
        call = await soon(served.toys.calls)
        stopping = asyncio.ensure_future(served.front.stop(LIMIT_S))
        await asyncio.sleep(0)
        async with connect(served.front.bound[0]) as other:
            error = await failure(unary(other, "/toy.Toy/echo")(b""))
        assert error.code() is Code.UNAVAILABLE
        assert trailers(error) == {"mq-reason": "unavailable"}
        assert not stopping.done()
        call.reply(b"answered")
        assert await pending == b"answered"
        async with asyncio.timeout(LIMIT_S):
            await stopping


async def test_a_large_answer_is_not_cut_off(front: Chosen) -> None:
    """An answer given during the stop arrives whole before connections are closed."""
    large = bytes(20_000_000)
    held: asyncio.Queue[Call] = asyncio.Queue()
    async with serving(front, methods=[Method("/toy.Toy/large", False, held.put_nowait)]) as served:
        pending = served.unary("large")(b"")
        call = await soon(held)
        stopping = asyncio.ensure_future(served.front.stop(LIMIT_S))
        await asyncio.sleep(0)
        call.reply(large)
        assert await pending == large
        await stopping


async def test_calls_left_after_the_grace_are_ended(front: Chosen) -> None:
    """Whoever has not finished by then is told that the broker stops; handlers are cancelled."""
    async with serving(front) as served:
        pending = [served.unary("hold")(b"") for _ in range(20)]
        stream = served.stream("linger")(b"")
        assert await stream.read() == b"here"
        for _ in range(21):
            await soon(served.toys.calls)
        async with asyncio.timeout(LIMIT_S):
            await served.front.stop(0.05)
        for call in pending:
            error = await failure(call)
            assert error.code() is Code.UNAVAILABLE
            assert trailers(error) == {"mq-reason": "unavailable"}
        with pytest.raises(aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is Code.UNAVAILABLE
        assert trailers(caught.value) == {"mq-reason": "unavailable"}
        assert await soon(served.toys.ended) == "linger"
        assert served.counts.codes() == [14] * 21


async def test_stop_ends_a_stream_whose_client_does_not_read(front: Chosen) -> None:
    """A reader that is stuck can't hold up the stop."""
    async with serving(front) as served:
        stream = served.stream("flood")(b"")
        async with asyncio.timeout(LIMIT_S):
            await served.toys.stalled.wait()
            await served.front.stop(0)
        stream.cancel()


async def test_stopping_twice_is_harmless(front: Chosen) -> None:
    """A second stop, and one without a start, return at once."""
    unstarted = make_front(front, Toys().methods(), ["127.0.0.1:0"], LIMITS, Counts())
    await unstarted.stop(LIMIT_S)
    async with serving(front) as served:
        await served.front.stop(0)
        await served.front.stop(LIMIT_S)


async def test_the_port_is_free_again_after_the_stop(front: Chosen) -> None:
    """A server can be started at once where another has stopped, clients still connected."""
    async with serving(front) as served:
        address = served.front.bound[0]
        assert await served.unary("echo")(b"") == b""
        await served.front.stop(0)
        async with serving(front, listen=[address]) as again:
            assert again.front.bound == [address]
            assert await again.unary("echo")(b"new") == b"new"
