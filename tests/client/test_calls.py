"""Calls of both clients over a real socket: publish, pull, channels, and what fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import pytest

import mq
from mq.client.batch import Batch
from mq.pb import mq_pb2 as pb
from tests.client.fake_server import (
    LOST_ANSWER,
    LOST_REQUEST,
    PUBLISH_BATCH,
    PULL,
    FakeServer,
    Fault,
)


class Awaitably:
    """A synchronous client with the asynchronous one's calls, each run in a thread."""

    def __init__(self, client: mq.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


@pytest.fixture(params=("async", "sync"))
async def client(request: pytest.FixtureRequest, fake: FakeServer) -> AsyncIterator[mq.AsyncClient]:
    """Either client, under the asynchronous one's surface."""
    if request.param == "async":
        async with mq.AsyncClient(fake.target, timeout_s=20) as client:
            yield client
    else:
        with mq.Client(fake.target, timeout_s=20) as blocking:
            yield cast("mq.AsyncClient", Awaitably(blocking))


async def test_publish_and_pull(client: mq.AsyncClient, fake: FakeServer) -> None:
    """A message comes back as it was, and its receipt says where it is."""
    receipt = await client.publish("orders", b"hi", key=b"k", headers={"a": b"1"})
    assert receipt == mq.Receipt(0, receipt.append_time_ns, "synced", duplicate=False)
    assert receipt.append_time == datetime.fromtimestamp(1_700_000_000, UTC)
    result = await client.pull("orders", receipt.offset)
    (message,) = result
    assert (message.offset, message.content, message.key) == (0, b"hi", b"k")
    assert (message.headers, message.channel) == ((("a", b"1"),), "orders")
    assert (result.next_offset, result.durable_offset) == (1, 1)


async def test_publish_many_is_one_batch(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Several messages are one append, with keys and headers where they have some."""
    await client.publish("orders", b"before")
    receipt = await client.publish_many(
        "orders", [b"a", b"b", b"c"], keys=[None, b"k", None], headers=[{"h": b""}, None, None],
        durability="written",
    )  # fmt: skip
    assert (receipt.base_offset, receipt.next_offset, receipt.record_count) == (1, 4, 3)
    assert receipt.durability == "written"
    assert receipt.record(2).offset == 3
    (batch,) = (await client.pull("orders", 1)).batches
    assert isinstance(batch, Batch)
    assert [(m.content, m.key, m.headers) for m in batch] == [
        (b"a", None, (("h", b""),)),
        (b"b", b"k", ()),
        (b"c", None, ()),
    ]


@pytest.mark.parametrize("fault", (LOST_REQUEST, LOST_ANSWER))
async def test_a_repeated_publish_is_stored_once(
    client: mq.AsyncClient, fake: FakeServer, fault: Fault
) -> None:
    """Whether the request or the answer was lost: one copy, and a receipt."""
    fake.fail(PUBLISH_BATCH, fault, fault)
    one = await client.publish("orders", b"one")
    fake.fail(PUBLISH_BATCH, fault)
    many = await client.publish_many("orders", [b"two", b"three"])
    assert fake.stored("orders") == [b"one", b"two", b"three"]
    assert (one.offset, many.base_offset) == (0, 1)
    assert one.duplicate == many.duplicate == fault.carry_out
    assert len(fake.requests(PUBLISH_BATCH)) == 5


async def test_an_overloaded_broker_is_asked_again(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Overload passes; the caller doesn't notice."""
    busy = Fault(
        carry_out=False,
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        metadata=mq.Overloaded("busy").metadata(),
    )
    fake.fail(PUBLISH_BATCH, busy)
    fake.fail(PULL, busy)
    await client.publish("orders", b"x")
    assert len(await client.pull("orders", 0)) == 1


async def test_pulls_from_each_kind_of_start(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Offset, time, beginning, latest; at most so many; nothing is an empty result."""
    for content in (b"0", b"1", b"2"):
        fake.publish("orders", content)

    async def pulled(start: Any, **limits: int) -> list[bytes]:
        return [message.content for message in await client.pull("orders", start, **limits)]

    assert await pulled(1) == [b"1", b"2"]
    assert await pulled("beginning", max_records=2) == [b"0", b"1"]
    assert await pulled(datetime(2020, 1, 1, tzinfo=UTC), max_bytes=1) == [b"0"]
    assert await pulled("latest") == []
    assert await pulled(datetime(2100, 1, 1, tzinfo=UTC)) == []


async def test_a_pull_waits_for_messages(client: mq.AsyncClient, fake: FakeServer) -> None:
    """A long poll is answered by the publish it waited for, and ends by itself without one."""
    pulling = asyncio.ensure_future(client.pull("orders", 0, max_wait_ms=20_000))
    await asyncio.to_thread(fake.wait_for_calls, PULL, 1)
    fake.publish("orders", b"came")
    assert [message.content for message in await pulling] == [b"came"]
    assert len(await client.pull("orders", 1, max_wait_ms=1)) == 0


async def test_damage_is_raised_with_its_range(client: mq.AsyncClient, fake: FakeServer) -> None:
    """What the broker reports, and what the client finds, name the offsets."""
    fake.publish("orders", b"0", b"1")
    fake.broker.channel("orders").damaged = [(0, 2)]
    with pytest.raises(mq.DataLoss) as caught:
        await client.pull("orders", 0)
    assert caught.value.details() == {"first_offset": 0, "next_offset": 2}
    fake.broker.channel("orders").damaged = []
    fake.alter_pull = break_last_batch
    with pytest.raises(mq.DataLoss) as caught:
        await client.pull("orders", 1)
    assert caught.value.details() == {"first_offset": 1, "next_offset": 2}


def break_last_batch(response: pb.PullResponse) -> None:
    """Flip a bit of the last batch's records."""
    if response.batches:
        last = response.batches[-1]
        last.records = last.records[:-1] + bytes((last.records[-1] ^ 1,))


async def test_an_offset_outside_says_what_is_there(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """The error has the log's first and next offset."""
    fake.publish("orders", b"0")
    with pytest.raises(mq.OffsetOutOfRange) as caught:
        await client.pull("orders", 9)
    assert caught.value.details() == {"log_start_offset": 0, "next_offset": 1}


async def test_channels(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Create, list, describe, configure and delete."""
    await client.create_channel("alpha", segment_bytes=1 << 20)
    await client.create_channel("alpha", segment_bytes=5)
    await client.create_channel("beta")
    assert [info.name for info in await client.list_channels()] == ["alpha", "beta", "orders"]
    assert [info.name for info in await client.list_channels("b")] == ["beta"]
    info = await client.describe_channel("alpha")
    assert info.config == mq.ChannelConfig(segment_bytes=1 << 20)
    assert (info.state, info.record_count, info.damaged) == ("ok", 0, ())
    assert info.created == datetime.fromtimestamp(1_700_000_000, UTC)
    info = await client.configure_channel("alpha", durability="written", max_message_bytes=9)
    assert info.config == mq.ChannelConfig(1 << 20, "written", 9)
    await client.delete_channel("alpha")
    with pytest.raises(mq.ChannelNotFound, match="create it first"):
        await client.describe_channel("alpha")


async def test_an_unknown_channel_is_an_error_at_once(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Nothing is repeated that can't help."""
    for call in (
        client.publish("none", b"x"),
        client.publish_many("none", [b"x"]),
        client.pull("none"),
        client.delete_channel("none"),
    ):
        with pytest.raises(mq.ChannelNotFound):
            await call
    assert len(fake.requests(PUBLISH_BATCH)) == 2


async def test_bad_arguments_never_reach_the_broker(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """They are refused before a call is made."""
    with pytest.raises(TypeError, match="encode the str"):
        await client.publish("orders", "text")  # type: ignore[arg-type]
    with pytest.raises(mq.InvalidArgument, match="at least one"):
        await client.publish_many("orders", [])
    with pytest.raises(mq.InvalidArgument, match="durability"):
        await client.publish("orders", b"x", durability="never")  # type: ignore[arg-type]
    with pytest.raises(mq.InvalidArgument, match="needs a name"):
        await client.publish("", b"x")
    with pytest.raises(mq.InvalidArgument, match="max_wait_ms"):
        await client.pull("orders", max_wait_ms=-1)
    assert fake.calls == []


async def test_a_broker_that_comes_back_is_found(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Calls outlast a restart of the broker."""
    await client.publish("orders", b"before")
    fake.stop()
    publishing = asyncio.ensure_future(client.publish("orders", b"after"))
    pulling = asyncio.ensure_future(client.pull("orders", 1, max_wait_ms=20_000))
    await asyncio.sleep(0)
    fake.start()
    assert (await publishing).offset == 1
    assert [message.content for message in await pulling] == [b"after"]


@pytest.mark.parametrize("make", (mq.AsyncClient, mq.Client))
async def test_a_broker_that_is_not_there_is_named(make: Any, fake: FakeServer) -> None:
    """After the time for repetitions the error says where nobody answered."""
    fake.stop()
    client = make(fake.target, timeout_s=5, retry_timeout_s=0)
    for call in (lambda: client.publish("orders", b"x"), lambda: client.pull("orders")):
        with pytest.raises(mq.Unavailable, match=f"no broker answers at {fake.target}"):
            await awaited(call)
    await awaited(client.close)
    fake.start()


@pytest.mark.parametrize("make", (mq.AsyncClient, mq.Client))
async def test_no_answer_in_time(make: Any, fake: FakeServer) -> None:
    """A broker that is silent for timeout_s is given up on."""
    fake.hold(PULL)
    client = make(fake.target, timeout_s=0.2)
    with pytest.raises(mq.DeadlineExceeded, match="in time"):
        await awaited(lambda: client.pull("orders"))
    await awaited(client.close)


@pytest.mark.parametrize("make", (mq.AsyncClient, mq.Client))
@pytest.mark.parametrize("used", (True, False))
async def test_a_closed_client_says_so(make: Any, used: bool, fake: FakeServer) -> None:
    """Calls after close fail with what to do; closing again does nothing."""
    client = make(fake.target)
    if used:
        await awaited(lambda: client.pull("orders"))
    await awaited(client.close)
    await awaited(client.close)
    with pytest.raises(mq.FailedPrecondition, match="closed"):
        await awaited(lambda: client.pull("orders"))
    with pytest.raises(mq.FailedPrecondition, match="closed"):
        await awaited(lambda: client.publish("orders", b"x"))


async def awaited(call: Callable[[], Any]) -> Any:
    """The outcome of a call of either client."""
    outcome = await asyncio.to_thread(call)
    return await outcome if inspect.isawaitable(outcome) else outcome
