"""Both kinds of subscription over a real socket."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

import mq
from mq.pb import mq_pb2 as pb
from tests.client.fake_server import LOST_ANSWER, LOST_REQUEST, PULL, FakeServer
from tests.client.test_sync_producer import interrupted

LIMIT_S = 20.0


@pytest.fixture
async def client(fake: FakeServer) -> AsyncIterator[mq.AsyncClient]:
    """An asynchronous client of the fake broker."""
    async with mq.AsyncClient(fake.target, timeout_s=20) as client:
        yield client


@pytest.fixture
def blocking(fake: FakeServer) -> Iterator[mq.Client]:
    """A synchronous one."""
    with mq.Client(fake.target, timeout_s=20) as client:
        yield client


async def some(messages: mq.AsyncSubscription, count: int) -> list[bytes]:
    """The next so many contents."""
    found = []
    async with asyncio.timeout(LIMIT_S):
        async for message in messages:
            found.append(message.content)
            if len(found) == count:
                break
    return found


def some_of(messages: mq.Subscription, count: int) -> list[bytes]:
    """The next so many contents."""
    return [message.content for message in islice(messages, count)]


def numbers(count: int, start: int = 0) -> list[bytes]:
    """Contents that say their offset."""
    return [b"%d" % index for index in range(start, start + count)]


# ---- Asynchronous -------------------------------------------------------------


async def test_it_follows(client: mq.AsyncClient, fake: FakeServer) -> None:
    """What is there, then what comes, without a gap; leaving the loop loses nothing."""
    fake.publish("orders", *numbers(5))
    subscription = client.subscribe("orders", "beginning")
    assert await some(subscription, 2) == numbers(2)
    assert await some(subscription, 3) == numbers(3, 2)
    calls = len(fake.requests(PULL))
    following = asyncio.ensure_future(some(subscription, 4))
    await asyncio.to_thread(fake.wait_for_calls, PULL, max(calls, 2))
    fake.publish("orders", *numbers(2, 5))
    fake.publish("orders", *numbers(2, 7))
    assert await following == numbers(4, 5)


async def test_latest_is_from_when_it_is_entered(client: mq.AsyncClient, fake: FakeServer) -> None:
    """What was there before is not seen, and what comes after is."""
    fake.publish("orders", b"before")
    async with client.subscribe("orders") as subscription:
        assert subscription.position == 1
        fake.publish("orders", b"after")
        assert await some(subscription, 1) == [b"after"]


async def test_batches(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Whole batches, the first cut to the start."""
    fake.publish("orders", *numbers(3))
    fake.publish("orders", *numbers(2, 3))
    found = []
    async for batch in client.subscribe("orders", 1).batches():
        found.append(batch.contents)
        if len(found) == 2:
            break
    assert found == [numbers(2, 1), numbers(2, 3)]


async def test_the_next_pull_is_under_way(client: mq.AsyncClient, fake: FakeServer) -> None:
    """While messages are worked on the next ones are fetched; unless it is turned off."""
    fake.publish("orders", *numbers(2))
    ahead, not_ahead = (
        client.subscribe("orders", "beginning", prefetch=True),
        client.subscribe("orders", "beginning", prefetch=False),
    )
    assert await some(not_ahead, 2) == numbers(2)
    assert len(fake.requests(PULL)) == 1
    assert await some(ahead, 1) == numbers(1)
    await asyncio.to_thread(fake.wait_for_calls, PULL, 3)


async def test_a_lost_broker_is_waited_for(client: mq.AsyncClient, fake: FakeServer) -> None:
    """After lost calls and a restart it goes on with the next offset, none twice, none missed."""
    fake.publish("orders", *numbers(3))
    async with client.subscribe("orders", "beginning") as subscription:
        assert await some(subscription, 2) == numbers(2)
        fake.fail(PULL, LOST_ANSWER, LOST_REQUEST)
        fake.stop()
        following = asyncio.ensure_future(some(subscription, 4))
        await asyncio.sleep(0)
        fake.start()
        fake.publish("orders", *numbers(3, 3))
        assert await following == numbers(4, 2)


async def test_waiting_for_a_broker_can_be_bounded(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """After reconnect_timeout_s it raises; iterating again goes on."""
    fake.publish("orders", *numbers(2))
    subscription = client.subscribe("orders", "beginning", reconnect_timeout_s=0)
    assert await some(subscription, 1) == numbers(1)
    fake.stop()
    assert await some(subscription, 1) == numbers(1, 1)
    with pytest.raises(mq.Unavailable):
        await some(subscription, 1)
    fake.start()
    fake.publish("orders", *numbers(1, 2))
    patient = client.subscribe("orders", 2)
    assert await some(patient, 1) == numbers(1, 2)


async def test_an_unknown_channel_is_raised(client: mq.AsyncClient) -> None:
    """Entering it, or iterating."""
    with pytest.raises(mq.ChannelNotFound):
        await some(client.subscribe("none"), 1)
    with pytest.raises(mq.ChannelNotFound):
        async with client.subscribe("none"):
            pass


def break_second(response: pb.PullResponse) -> None:
    """Flip a bit of the batch at offset 2."""
    for batch in response.batches:
        if batch.base_offset == 2:
            batch.records_crc ^= 1


async def test_damage_is_raised_and_can_be_left_behind(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """The good messages before it come first; after a seek the good ones behind it."""
    for start in (0, 2, 4):
        fake.publish("orders", *numbers(2, start))
    fake.alter_pull = break_second
    subscription = client.subscribe("orders", "beginning")
    assert await some(subscription, 2) == numbers(2)
    with pytest.raises(mq.DataLoss) as caught:
        await some(subscription, 1)
    subscription.seek(caught.value.next_offset)
    assert await some(subscription, 2) == numbers(2, 4)


async def test_damage_is_skipped_and_counted(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Whether the client finds it or the broker reports it."""
    for start in (0, 2, 4, 6):
        fake.publish("orders", *numbers(2, start))
    fake.alter_pull = break_second
    fake.broker.channel("orders").damaged = [(4, 6)]
    subscription = client.subscribe("orders", "beginning", on_damage="skip")
    assert await some(subscription, 4) == [b"0", b"1", b"6", b"7"]
    assert subscription.skipped == 4


async def test_closing_ends_an_iteration(client: mq.AsyncClient, fake: FakeServer) -> None:
    """Whoever waits in it stops, without an error; so do those of a client that is closed."""
    subscription, other = client.subscribe("orders"), client.subscribe("orders")
    waiting = [asyncio.ensure_future(some(each, 1)) for each in (subscription, other)]
    await asyncio.to_thread(fake.wait_for_calls, PULL, 4)
    await subscription.close()
    assert await waiting[0] == []
    await client.close()
    assert await waiting[1] == []
    assert await some(subscription, 1) == []
    with pytest.raises(mq.FailedPrecondition):
        subscription.seek(0)


async def test_cancelling_a_consumer(client: mq.AsyncClient, fake: FakeServer) -> None:
    """The task ends, its call too, and the subscription goes on where it was."""
    subscription = client.subscribe("orders", "beginning")
    waiting = asyncio.ensure_future(some(subscription, 1))
    await asyncio.to_thread(fake.wait_for_calls, PULL, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    fake.publish("orders", b"0")
    assert await some(subscription, 1) == [b"0"]


async def test_a_forgotten_subscription_leaves_no_call(
    client: mq.AsyncClient, fake: FakeServer
) -> None:
    """Its waiting pull is cancelled with it."""
    fake.publish("orders", b"0")
    before = asyncio.all_tasks()
    subscription = client.subscribe("orders", "beginning")
    assert await some(subscription, 1) == [b"0"]
    await asyncio.to_thread(fake.wait_for_calls, PULL, 2)
    calls = asyncio.all_tasks() - before
    assert calls
    del subscription
    gc.collect()
    _, running = await asyncio.wait(calls, timeout=LIMIT_S)
    assert not running


# ---- Synchronous --------------------------------------------------------------


def test_it_follows_in_a_for_loop(blocking: mq.Client, fake: FakeServer) -> None:
    """What is there, then what comes, without a gap; leaving the loop loses nothing."""
    fake.publish("orders", *numbers(5))
    subscription = blocking.subscribe("orders", "beginning")
    assert some_of(subscription, 2) == numbers(2)
    assert some_of(subscription, 3) == numbers(3, 2)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(some_of, subscription, 4)
        fake.publish("orders", *numbers(2, 5))
        fake.publish("orders", *numbers(2, 7))
        assert following.result(LIMIT_S) == numbers(4, 5)
    assert subscription.position == 9
    assert subscription.channel == "orders"


def test_latest_is_from_when_the_block_is_entered(blocking: mq.Client, fake: FakeServer) -> None:
    """What was there before is not seen, and what comes after is."""
    fake.publish("orders", b"before")
    with blocking.subscribe("orders") as subscription:
        assert subscription.position == 1
        fake.publish("orders", b"after")
        assert some_of(subscription, 1) == [b"after"]


def test_a_lost_broker_is_waited_for_here_too(blocking: mq.Client, fake: FakeServer) -> None:
    """After lost calls and a restart it goes on with the next offset."""
    fake.publish("orders", *numbers(3))
    subscription = blocking.subscribe("orders", "beginning")
    assert some_of(subscription, 2) == numbers(2)
    fake.fail(PULL, LOST_ANSWER, LOST_REQUEST)
    fake.stop()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(some_of, subscription, 4)
        fake.start()
        fake.publish("orders", *numbers(3, 3))
        assert following.result(LIMIT_S) == numbers(4, 2)


def test_damage_is_handled_here_too(blocking: mq.Client, fake: FakeServer) -> None:
    """Raised with its range, or skipped and counted."""
    for start in (0, 2, 4):
        fake.publish("orders", *numbers(2, start))
    fake.alter_pull = break_second
    skipping = blocking.subscribe("orders", "beginning", on_damage="skip")
    assert some_of(skipping, 4) == [b"0", b"1", b"4", b"5"]
    assert skipping.skipped == 2
    raising = blocking.subscribe("orders", "beginning", prefetch=False)
    batches = raising.batches()
    assert next(batches).contents == numbers(2)
    with pytest.raises(mq.DataLoss) as caught:
        next(batches)
    raising.seek(caught.value.next_offset)
    assert next(raising.batches()).contents == numbers(2, 4)


def test_another_thread_can_close_it(blocking: mq.Client, fake: FakeServer) -> None:
    """The loop ends, without an error."""
    subscription = blocking.subscribe("orders")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(some_of, subscription, 1)
        fake.wait_for_calls(PULL, 2)
        subscription.close()
        assert waiting.result(LIMIT_S) == []
    with pytest.raises(mq.FailedPrecondition):
        subscription.seek(0)


def test_closing_ends_a_wait_for_the_broker(blocking: mq.Client, fake: FakeServer) -> None:
    """A loop that waits for a broker that is away ends too."""
    subscription = blocking.subscribe("orders")
    fake.stop()
    ended = threading.Event()

    def follow() -> None:
        some_of(subscription, 1)
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    subscription.close()
    thread.join(LIMIT_S)
    assert ended.is_set()
    fake.start()


FOLLOWING = """
import sys, mq
client = mq.Client(sys.argv[1])
with client.subscribe("orders") as subscription:
    print("waiting", flush=True)
    for message in subscription:
        pass
"""


def test_ctrl_c_ends_a_loop(fake: FakeServer) -> None:
    """A program that follows a silent channel can be interrupted."""
    assert interrupted(FOLLOWING, fake) != 0
