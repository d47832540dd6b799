"""The health service on both fronts."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mq.server.fronts.choose import Chosen
from mq.server.health import HealthState
from tests.server.toys import LIMIT_S, failure, serving, trailers, unary

Response = health_pb2.HealthCheckResponse


def _stub(channel: aio.Channel) -> Any:
    # Its methods are made at run time.
    return health_pb2_grpc.HealthStub(channel)


def _request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_check_follows_the_state(front: Chosen) -> None:
    """Not serving at first, then as it was set, each service by itself."""
    health = HealthState("mq.MQService")
    async with serving(front, methods=health.methods()) as served:
        stub = _stub(served.channel)
        for service in ("", "mq.MQService"):
            assert (await stub.Check(_request(service))).status == Response.NOT_SERVING
        health.set("mq.MQService", serving=True)
        assert (await stub.Check(_request("mq.MQService"))).status == Response.SERVING
        assert (await stub.Check(_request(""))).status == Response.NOT_SERVING
        health.set_all(serving=True)
        assert (await stub.Check(_request(""))).status == Response.SERVING


async def test_check_of_an_unknown_service(front: Chosen) -> None:
    """NOT_FOUND, as the protocol has it, with the names that there are."""
    health = HealthState("mq.MQService")
    async with serving(front, methods=health.methods()) as served:
        check = unary(served.channel, "/grpc.health.v1.Health/Check")
        error = await failure(check(_request("other").SerializeToString()))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "mq.MQService" in (error.details() or "")
        assert trailers(error) == {"mq-reason": "unknown-service"}


async def test_check_of_garbage(front: Chosen) -> None:
    """Bytes that are not the message are the caller's mistake."""
    async with serving(front, methods=HealthState().methods()) as served:
        check = unary(served.channel, "/grpc.health.v1.Health/Check")
        error = await failure(check(b"\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_watch_tells_each_change(front: Chosen) -> None:
    """The state at once, then what it changes to, and nothing twice."""
    health = HealthState()
    async with serving(front, methods=health.methods()) as served, asyncio.timeout(LIMIT_S):
        stub = _stub(served.channel)
        watch = stub.Watch(_request(""))
        assert (await watch.read()).status == Response.NOT_SERVING
        health.set("", serving=False)
        health.set("", serving=True)
        assert (await watch.read()).status == Response.SERVING
        health.set("", serving=False)
        assert (await watch.read()).status == Response.NOT_SERVING
        watch.cancel()


async def test_watch_of_a_service_to_come(front: Chosen) -> None:
    """An unknown service is SERVICE_UNKNOWN until it is there."""
    health = HealthState()
    async with serving(front, methods=health.methods()) as served, asyncio.timeout(LIMIT_S):
        stub = _stub(served.channel)
        watch = stub.Watch(_request("later"))
        assert (await watch.read()).status == Response.SERVICE_UNKNOWN
        health.set("later", serving=True)
        assert (await watch.read()).status == Response.SERVING
        watch.cancel()


async def test_shutdown_is_told_and_final(front: Chosen) -> None:
    """Watchers hear NOT_SERVING, their streams end, and nothing serves again."""
    health = HealthState()
    health.set("", serving=True)
    async with serving(front, methods=health.methods()) as served, asyncio.timeout(LIMIT_S):
        stub = _stub(served.channel)
        watch = stub.Watch(_request(""))
        assert (await watch.read()).status == Response.SERVING
        # Read from now on: a message that nobody has asked for yet is dropped with the end.
        told = asyncio.ensure_future(watch.read())
        await asyncio.sleep(0)
        health.shutdown()
        assert (await told).status == Response.NOT_SERVING
        with pytest.raises(aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        health.set("", serving=True)
        assert (await stub.Check(_request(""))).status == Response.NOT_SERVING
        await served.front.stop(LIMIT_S)
