"""What a client sees of a call is the same on both fronts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from mq.errors import Unavailable
from mq.server.call import Call, Method
from mq.server.fronts.base import Limits
from mq.server.fronts.choose import Chosen
from mq.server.health import HealthState
from tests.server.toys import LIMIT_S, LIMITS, connect, failure, serving, soon, trailers, unary

Code = grpc.StatusCode


async def test_answers_a_unary_call(front: Chosen) -> None:
    """An echo comes back as it was sent, empty or not."""
    async with serving(front) as served:
        for request in (b"", b"hello", bytes(range(256))):
            assert await served.unary("echo")(request) == request
        assert served.counts.finished_codes == [(0, 0)] * 3


async def test_answers_many_calls_at_once(front: Chosen) -> None:
    """Each of many concurrent calls gets its own answer, and all are counted."""
    async with serving(front) as served:
        requests = [b"%d" % number for number in range(500)]
        answers = await asyncio.gather(*(served.unary("echo")(each) for each in requests))
        assert answers == requests
        assert len(served.counts.started_ids) == len(served.counts.finished_codes) == 500


async def test_answers_later(front: Chosen) -> None:
    """A handler may answer long after it has returned, in any order."""
    async with serving(front) as served:
        pending = [asyncio.ensure_future(served.unary("hold")(b"%d" % n)) for n in range(3)]
        for call in reversed([await soon(served.toys.calls) for _ in pending]):
            call.reply(b"answer to " + call.request)
        assert await asyncio.gather(*pending) == [b"answer to %d" % n for n in range(3)]


async def test_only_the_first_answer_counts(front: Chosen) -> None:
    """What a handler does to a call that is over has no effect."""
    async with serving(front) as served:
        assert await served.unary("twice")(b"") == b"first"
        assert served.counts.codes() == [0]


async def test_an_error_keeps_its_code_message_and_details(front: Chosen) -> None:
    """An MQError arrives as its status, with the metadata that rebuilds it."""
    async with serving(front) as served:
        error = await failure(served.unary("refuse")(b""))
        assert error.code() is Code.OUT_OF_RANGE
        assert error.details() == "17 is past the end; pull from 5 to 9 \u2713"
        assert trailers(error) == {
            "mq-reason": "offset-out-of-range",
            "mq-log-start-offset": "5",
            "mq-next-offset": "9",
        }
        assert served.counts.codes() == [11]


async def test_an_unknown_method_is_unimplemented(front: Chosen) -> None:
    """A path that is not in the table is told so, in grpcio's words."""
    async with serving(front) as served:
        for path in ("/toy.Toy/none", "/none", "/toy.Toy/echo/", "/mq.MQService/Publish"):
            error = await failure(unary(served.channel, path)(b""))
            assert error.code() is Code.UNIMPLEMENTED
            assert error.details() == "Method not found!"


async def test_a_bug_is_internal_and_logged(front: Chosen) -> None:
    """A handler's exception is in the log and not in the answer."""
    async with serving(front) as served:
        with capture_logs() as logs:
            error = await failure(served.unary("bug")(b"the client"))
        assert error.code() is Code.INTERNAL
        assert "secret" not in (error.details() or "")
        assert trailers(error) == {"mq-reason": "internal"}
        assert [(log["event"], log["method"], log["exc_info"]) for log in logs] == [
            ("handler failed", "/toy.Toy/bug", True)
        ]
        assert await served.unary("echo")(b"still here") == b"still here"


async def test_the_size_limit_is_exact(front: Chosen) -> None:
    """A request of the limit's size is taken, one byte more is not, in the same words."""
    async with serving(front) as served:
        largest = bytes(LIMITS.max_recv_bytes)
        assert await served.unary("echo")(largest) == largest
        error = await failure(served.unary("echo")(largest + b"!"))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert error.details() == "SERVER: Received message larger than max (100001 vs. 100000)"
        error = await failure(served.unary("echo")(bytes(8_000_000)))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert await served.unary("echo")(b"still here") == b"still here"


async def test_answers_have_no_size_limit(front: Chosen) -> None:
    """The limit is on what is received: an answer may be far larger."""
    large = bytes(range(256)) * 80_000

    def answer(call: Call) -> None:
        call.reply(large)

    async with serving(front, methods=[Method("/toy.Toy/large", False, answer)]) as served:
        assert await served.unary("large")(b"") == large


async def test_a_handler_sees_who_calls(front: Chosen) -> None:
    """Peer and metadata, text and binary, reach the handler."""
    async with serving(front) as served:
        sent = (("mq-test", "text"), ("mq-test-bin", b"\x00\xff"))
        pending = served.unary("hold")(b"", metadata=sent)
        call = await soon(served.toys.calls)
        assert call.peer.startswith("ipv4:127.0.0.1:")
        assert set(sent) <= set(call.metadata)
        assert call.deadline is None
        call.reply(b"")
        await pending
        assert call.peer.startswith("ipv4:127.0.0.1:"), "and after the end of the call"


async def test_too_much_metadata_is_refused(front: Chosen) -> None:
    """Metadata over the limit never reaches a handler."""
    async with serving(front) as served:
        error = await failure(served.unary("echo")(b"", metadata=(("big", "x" * 30_000),)))
        assert error.code() in (Code.RESOURCE_EXHAUSTED, Code.UNKNOWN)
        assert served.counts.started_ids == []
        assert await served.unary("echo")(b"", metadata=(("big", "x" * 10_000),)) == b""


async def test_a_deadline_reaches_the_handler(front: Chosen) -> None:
    """The client's time-out is seen as a point on the event loop's clock."""
    async with serving(front) as served:
        pending = served.unary("hold")(b"", timeout=1000)
        call = await soon(served.toys.calls)
        assert call.deadline is not None
        # gRPC rounds a long one up on its way.
        assert 500 < call.deadline - asyncio.get_running_loop().time() < 1100
        assert not call.cancelled
        call.reply(b"")
        await pending


async def test_a_call_out_of_time_is_cancelled(front: Chosen) -> None:
    """When the deadline passes both sides know: the handler is told once."""
    async with serving(front) as served:
        error = await failure(served.unary("hold")(b"", timeout=0.2))
        assert error.code() is Code.DEADLINE_EXCEEDED
        call = await soon(served.toys.cancelled)
        assert call.cancelled
        call.reply(b"too late")
        call.fail(Unavailable("too late"))
        assert served.toys.cancelled.empty()
        assert await served.unary("echo")(b"") == b""
        assert served.counts.codes() == [4, 0]


async def test_a_cancelled_call_is_told_to_its_handler(front: Chosen) -> None:
    """A client that gives up is noticed, unary or not."""
    async with serving(front) as served:
        pending = served.unary("hold")(b"")
        await soon(served.toys.calls)
        pending.cancel()
        call = await soon(served.toys.cancelled)
        assert call.cancelled
        assert served.toys.cancelled.empty()
        assert await served.unary("echo")(b"") == b""
        assert served.counts.codes() == [1, 0]


async def test_a_client_that_disconnects_cancels_its_calls(front: Chosen) -> None:
    """A closed connection cancels all calls on it, and no others."""
    async with serving(front) as served:
        mine = served.unary("hold")(b"mine")
        await soon(served.toys.calls)
        async with connect(served.front.bound[0]) as channel:
            others = [unary(channel, "/toy.Toy/hold")(b"other") for _ in range(5)]
            for _ in others:
                await soon(served.toys.calls)
        gone = [await soon(served.toys.cancelled) for _ in others]
        assert [call.request for call in gone] == [b"other"] * 5
        assert served.toys.cancelled.empty()
        mine.cancel()


async def test_an_on_cancel_with_a_bug_harms_nobody(front: Chosen) -> None:
    """An exception in a handler's on_cancel is logged, and the front goes on."""
    async with serving(front) as served:
        pending = served.unary("hold")(b"")
        call = await soon(served.toys.calls)
        ran = asyncio.Event()

        def on_cancel() -> None:
            ran.set()
            raise ValueError("a bug")

        call.on_cancel = on_cancel
        with capture_logs() as logs:
            pending.cancel()
            async with asyncio.timeout(LIMIT_S):
                await ran.wait()
            assert await served.unary("echo")(b"") == b""
        assert [log["event"] for log in logs] == ["on_cancel failed"]


async def test_calls_over_the_limit_are_refused(front: Chosen) -> None:
    """As many calls as allowed, and no more; the refusal can be retried, health is answered."""
    limits = Limits(max_recv_bytes=1000, max_concurrent_calls=2)
    health = HealthState()
    health.set("", serving=True)
    async with serving(front, limits=limits, methods=health.methods()) as served:
        held = [served.unary("hold")(b"") for _ in range(2)]
        for _ in held:
            await soon(served.toys.calls)
        for call in (served.unary("echo")(b""), served.unary("hold")(b"")):
            error = await failure(call)
            assert error.code() is Code.RESOURCE_EXHAUSTED
            assert trailers(error) == {"mq-reason": "overloaded"}
            assert "2 calls are in flight" in (error.details() or "")
        with pytest.raises(aio.AioRpcError, match="2 calls are in flight"):
            async for _ in served.stream("count")(b"1"):
                pass
        check = unary(served.channel, "/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
        held[0].cancel()
        await soon(served.toys.cancelled)
        assert await served.unary("echo")(b"room again") == b"room again"
        held[1].cancel()


async def test_serves_unix_sockets(front: Chosen, tmp_path: Path) -> None:
    """A Unix socket is served like a port, and its file is gone after the stop."""
    path = tmp_path / "mq.sock"
    async with serving(front, listen=[f"unix:{path}"]) as served:
        assert served.front.bound == [f"unix:{path}"]
        pending = served.unary("hold")(b"over unix")
        call = await soon(served.toys.calls)
        assert call.peer.startswith("unix:")
        call.reply(call.request)
        assert await pending == b"over unix"
    assert not path.exists()


async def test_serves_several_addresses(front: Chosen, tmp_path: Path) -> None:
    """All addresses lead to the same handlers, and share the limits."""
    listen = ["127.0.0.1:0", f"unix:{tmp_path}/mq.sock", "127.0.0.1:0"]
    limits = Limits(max_recv_bytes=1000, max_concurrent_calls=3)
    async with serving(front, listen=listen, limits=limits) as served:
        assert len(set(served.front.bound)) == 3
        held = []
        for address in served.front.bound:
            channel = connect(address)
            assert await unary(channel, "/toy.Toy/echo")(b"x") == b"x"
            call = unary(channel, "/toy.Toy/hold")(b"")
            await soon(served.toys.calls)
            held.append((channel, call))
        assert (await failure(served.unary("echo")(b""))).code() is Code.RESOURCE_EXHAUSTED
        for channel, _ in held:
            await channel.close()


async def test_a_name_is_served_on_all_its_addresses(front: Chosen) -> None:
    """Whatever localhost resolves to here is listened on, at one port."""
    async with serving(front, listen=["localhost:0"]) as served:
        ports = {address.rpartition(":")[2] for address in served.front.bound}
        assert len(ports) == 1
        for address in served.front.bound:
            async with connect(address) as channel:
                assert await unary(channel, "/toy.Toy/echo")(b"x") == b"x"
