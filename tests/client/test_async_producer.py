"""The asynchronous producer over a real socket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import grpc
import pytest

import mq
from tests.client.fake_broker import BAD_CONTENT
from tests.client.fake_server import LOST_ANSWER, LOST_REQUEST, PUBLISH_BATCH, FakeServer, Fault


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[mq.AsyncClient]:
    """A client of the fake broker."""
    async with mq.AsyncClient(fake.target, timeout_s=20) as client:
        yield client


async def test_messages_are_stored_in_order(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Many messages in few batches; each handle gives its message's receipt."""
    async with client.producer("orders", batch_records=10, linger_ms=60_000) as producer:
        handles = [await producer.send(b"%d" % index) for index in range(95)]
        await producer.flush()
    receipts = [await handle for handle in handles]
    assert [receipt.offset for receipt in receipts] == list(range(95))
    assert fake.stored("orders") == [b"%d" % index for index in range(95)]
    assert len(fake.broker.channel("orders").frames) == 10
    assert (await handles[7]).offset == 7


async def test_a_batch_goes_after_its_linger(client: mq.AsyncClient, fake: FakeServer) -> None:
    """A batch that never fills is sent without a flush."""
    async with client.producer("orders", linger_ms=1) as producer:
        handle = await producer.send(b"alone")
        assert not handle.done
        assert (await handle).offset == 0
        assert handle.done


async def test_a_message_can_be_waited_for(client: mq.AsyncClient, fake: FakeServer) -> None:
    """publish gives the receipt itself, or raises."""
    async with client.producer("orders", linger_ms=0) as producer:
        assert (await producer.publish(b"x", b"k", {"h": b"v"})).offset == 0
        with pytest.raises(mq.InvalidArgument):
            await producer.publish(BAD_CONTENT)
    assert producer.channel == "orders"


async def test_keys_and_headers(client: mq.AsyncClient, fake: FakeServer) -> None:
    """They arrive with their message, among messages without."""
    async with client.producer("orders") as producer:
        await producer.send(b"0")
        await producer.send(b"1", b"k", {"h": b"v"})
        producer.send_nowait(b"2", headers=[("h", b"w")])
        producer.send_nowait(b"3")
    pulled = [(m.content, m.key, m.headers) for m in await client.pull("orders")]
    assert pulled == [
        (b"0", None, ()),
        (b"1", b"k", (("h", b"v"),)),
        (b"2", None, (("h", b"w"),)),
        (b"3", None, ()),
    ]


async def test_faults_neither_double_nor_lose(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Lost requests and answers in the middle of a stream of batches leave no trace."""
    faults = [LOST_REQUEST, LOST_ANSWER, LOST_ANSWER, LOST_REQUEST, LOST_ANSWER]
    fake.fail(PUBLISH_BATCH, *faults)
    async with client.producer("orders", batch_records=3) as producer:
        for index in range(60):
            await producer.send(b"%d" % index)
    assert fake.stored("orders") == [b"%d" % index for index in range(60)]


async def test_a_restart_of_the_broker_goes_unnoticed(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Batches wait for the broker to come back, and are stored once, in order."""
    async with client.producer("orders", batch_records=2, linger_ms=0) as producer:
        first = await producer.send(b"0")
        await first
        fake.stop()
        for index in range(1, 20):
            await producer.send(b"%d" % index)
        fake.start()
        await producer.flush()
    assert fake.stored("orders") == [b"%d" % index for index in range(20)]


async def test_the_buffer_is_a_bound(client: mq.AsyncClient, fake: FakeServer) -> None:
    """send waits while it is full, in order; send_nowait refuses, and takes nothing."""
    gate = fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", batch_bytes=100, buffer_bytes=300, linger_ms=0)
    handles = [await producer.send(b"%d" % index + bytes(80)) for index in range(3)]
    with pytest.raises(mq.Overloaded, match="buffer is full"):
        producer.send_nowait(b"refused")
    waiting = [asyncio.ensure_future(producer.send(b"%d" % n + bytes(80))) for n in range(3, 9)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    gate.set()
    handles += [await task for task in waiting]
    assert [(await handle).offset for handle in handles] == list(range(9))
    await producer.close()
    assert [content[:1] for content in fake.stored("orders")] == [b"%d" % n for n in range(9)]


async def test_a_cancelled_sender_takes_nothing(client: mq.AsyncClient, fake: FakeServer) -> None:
    """A task that is cancelled while it waits for room has sent nothing."""
    gate = fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", batch_bytes=100, buffer_bytes=150, linger_ms=0)
    await producer.send(b"0")
    await producer.send(bytes(70))
    waiting = asyncio.ensure_future(producer.send(b"cancelled" + bytes(80)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await producer.close()
    assert b"cancelled" + bytes(80) not in fake.stored("orders")


async def test_a_cancelled_waiter_leaves_the_others(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Awaiting receipts of one batch is independent."""
    gate = fake.hold(PUBLISH_BATCH)
    async with client.producer("orders", linger_ms=0) as producer:
        handles = [await producer.send(b"0"), await producer.send(b"1")]

        async def receipt(handle: mq.PendingReceipt) -> mq.Receipt:
            return await handle

        first, second = [asyncio.ensure_future(receipt(handle)) for handle in handles]
        await asyncio.to_thread(fake.wait_for_calls, PUBLISH_BATCH, 1)
        first.cancel()
        gate.set()
        assert (await second).offset == 1
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_bad_message_fails_alone(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Its handle raises; those around it, in the same batch and after, are stored."""
    producer = client.producer("orders", batch_records=8)
    handles = [
        await producer.send(BAD_CONTENT if index == 5 else b"%d" % index) for index in range(20)
    ]
    with pytest.raises(mq.InvalidArgument, match="a bad message"):
        await handles[5]
    await producer.close()
    assert fake.stored("orders") == [b"%d" % index for index in range(20) if index != 5]
    assert [(await handle).offset for handle in handles[6:]] == list(range(5, 19))


async def test_a_channel_that_takes_smaller_batches(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """A batch above the channel's limit is split until its parts fit."""
    fake.broker.channel("orders").max_message_bytes = 300
    async with client.producer("orders") as producer:
        for index in range(20):
            await producer.send(b"%02d" % index + bytes(50))
    assert [content[:2] for content in fake.stored("orders")] == [b"%02d" % n for n in range(20)]


async def test_a_failure_nobody_asked_after_is_told_by_flush(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Once; a failure that a handle has raised is not told again."""
    producer = client.producer("orders", linger_ms=0)
    await producer.send(BAD_CONTENT)
    with pytest.raises(mq.InvalidArgument):
        await producer.flush()
    await producer.flush()
    with pytest.raises(mq.InvalidArgument):
        await (await producer.send(BAD_CONTENT))
    await producer.flush()
    await producer.send(BAD_CONTENT)
    with pytest.raises(mq.InvalidArgument):
        await producer.close()
    await producer.close()


async def test_a_message_that_is_late_fails(client: mq.AsyncClient, fake: FakeServer) -> None:
    """After delivery_timeout_s the handle raises, whether it was sent or still waited."""
    gate = fake.hold(PUBLISH_BATCH)
    producer = client.producer(
        "orders", linger_ms=0, max_in_flight=1, batch_records=1, delivery_timeout_s=0.2
    )
    sent, waiting = await producer.send(b"sent"), await producer.send(b"waiting")
    with pytest.raises(mq.DeadlineExceeded):
        await sent
    with pytest.raises(mq.DeadlineExceeded):
        await waiting
    gate.set()
    await producer.close()


async def test_closing_without_waiting(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Time to flush is bounded; what isn't acknowledged then fails, and nothing more is taken."""
    fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", linger_ms=0)
    handle = await producer.send(b"x")
    with pytest.raises(mq.Cancelled, match="closed before"):
        await producer.close(timeout_s=0.05)
    with pytest.raises(mq.Cancelled):
        await handle
    assert producer.closed
    with pytest.raises(mq.FailedPrecondition, match="make a new one"):
        await producer.send(b"y")


async def test_a_sender_that_waits_is_told_of_the_end(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Closing wakes those who wait for room."""
    fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", batch_bytes=100, buffer_bytes=100, linger_ms=0)
    await producer.send(bytes(90))
    waiting = asyncio.ensure_future(producer.send(bytes(90)))
    await asyncio.sleep(0)
    producer.abort()
    with pytest.raises(mq.FailedPrecondition):
        await waiting


async def test_leaving_the_block_with_an_error(client: mq.AsyncClient, fake: FakeServer) -> None:
    """What was sent is still flushed, and the error stays the one that is raised."""
    with pytest.raises(KeyError) as caught:
        async with client.producer("orders") as producer:
            await producer.send(b"kept")
            await producer.send(BAD_CONTENT)
            raise KeyError
    assert fake.stored("orders") == [b"kept"]
    assert any("a bad message" in note for note in caught.value.__notes__)


async def test_a_cancelled_block_does_not_flush(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Cancellation is not held up by a broker that doesn't answer."""
    fake.hold(PUBLISH_BATCH)

    async def work() -> None:
        async with client.producer("orders", linger_ms=0) as producer:
            await (await producer.send(b"x"))

    task = asyncio.ensure_future(work())
    await asyncio.to_thread(fake.wait_for_calls, PUBLISH_BATCH, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_publishes_at_once_share_calls(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Concurrent publishes travel together, in order, and fail one by one."""
    contents = [BAD_CONTENT if index == 30 else b"%d" % index for index in range(100)]
    outcomes = await asyncio.gather(
        *(client.publish("orders", content) for content in contents), return_exceptions=True
    )
    stored = [content for content in contents if content != BAD_CONTENT]
    assert fake.stored("orders") == stored
    assert isinstance(outcomes[30], mq.InvalidArgument)
    good = [outcome.offset for outcome in outcomes if isinstance(outcome, mq.Receipt)]
    assert good == list(range(99))
    assert len(fake.requests(PUBLISH_BATCH)) < 50


async def test_the_client_closes_its_producers(fake: FakeServer) -> None:
    """What they hold is flushed, and what fails is told."""
    client = mq.AsyncClient(fake.target, timeout_s=20)
    good, bad = client.producer("orders"), client.producer("orders")
    await good.send(b"flushed")
    await bad.send(BAD_CONTENT)
    with pytest.raises(mq.InvalidArgument):
        await client.close()
    assert fake.stored("orders") == [b"flushed"]
    assert good.closed
    assert bad.closed


async def test_a_producer_that_is_dropped_still_sends(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Forgetting it doesn't lose what it holds."""
    await client.producer("orders", linger_ms=1).send(b"x")
    gc.collect()
    await asyncio.to_thread(fake.wait_for_calls, PUBLISH_BATCH, 1)


async def test_an_answer_that_is_none(client: mq.AsyncClient, fake: FakeServer) -> None:
    """A server that isn't a broker is reported, not waited for."""
    fake.broker.call = lambda *_: b"\x0a\x7f"  # type: ignore[method-assign]
    with pytest.raises(mq.Internal):
        await client.publish("orders", b"x")


async def test_a_call_cancelled_on_the_way_is_repeated(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """CANCELLED by the other side is no decision of the caller's."""
    fake.fail(PUBLISH_BATCH, Fault(carry_out=True, code=grpc.StatusCode.CANCELLED))
    assert (await client.publish("orders", b"x")).duplicate


async def test_a_lone_publish_that_is_cancelled_holds_nobody_up(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """It is stored all the same, once, and before those that were published after it."""
    gate = fake.hold(PUBLISH_BATCH)
    alone = asyncio.ensure_future(client.publish("orders", b"cancelled"))
    await asyncio.to_thread(fake.wait_for_calls, PUBLISH_BATCH, 1)
    later = asyncio.ensure_future(client.publish("orders", b"later"))
    await asyncio.sleep(0)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    gate.set()
    assert (await later).offset == 1
    assert fake.stored("orders") == [b"cancelled", b"later"]


async def test_a_lone_publish_is_told_of_the_end(fake: FakeServer) -> None:
    """Its client is closed around it: an error, and not a cancellation."""
    client = mq.AsyncClient(fake.target, timeout_s=20)
    fake.hold(PUBLISH_BATCH)
    alone = asyncio.ensure_future(client.publish("orders", b"x"))
    await asyncio.to_thread(fake.wait_for_calls, PUBLISH_BATCH, 1)
    publisher = client._publishers["orders", None]
    publisher.abort()
    with pytest.raises(mq.Cancelled):
        await alone
    await client.close()
