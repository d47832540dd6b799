"""Consumers of groups against a real broker: sharing, failing, dying, coming back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

import mq
from mq.pb import mq_pb2 as pb
from tests.conftest import StartServer
from tests.helpers.server import ServerProcess, clean_environment

LIMIT_S = 40.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One broker for all; each test has a channel of its own."""
    with ServerProcess(tmp_path_factory.mktemp("groups") / "data") as process:
        yield process


@pytest.fixture
def blocking(broker: ServerProcess) -> Iterator[mq.Client]:
    """A synchronous client."""
    with mq.Client(broker.address, timeout_s=20) as client:
        yield client


@pytest.fixture
async def client(broker: ServerProcess) -> AsyncIterator[mq.AsyncClient]:
    """An asynchronous client."""
    async with mq.AsyncClient(broker.address, timeout_s=20) as client:
        yield client


@pytest.fixture
def channel(blocking: mq.Client, request: pytest.FixtureRequest) -> str:
    """A new channel."""
    name: str = request.node.name.replace("[", ".").rstrip("]")
    blocking.create_channel(name)
    return name


def numbers(count: int, start: int = 0) -> list[bytes]:
    """Contents that say their offset."""
    return [b"%d" % index for index in range(start, start + count)]


async def next_of(consumer: mq.AsyncGroupConsumer) -> mq.AsyncGroupMessage:
    """The next message, within the limit."""
    return await asyncio.wait_for(anext(consumer), LIMIT_S)


# ---- Sharing --------------------------------------------------------------------


async def test_consumers_share_a_channel(client: mq.AsyncClient, channel: str) -> None:
    """Each message goes to one of them, once, and all are done in the end."""
    await client.publish_many(channel, numbers(1000))
    seen: list[Counter[bytes]] = [Counter(), Counter()]

    async def consume(mine: Counter[bytes]) -> None:
        async with client.group("workers", channel, max_records=20, idle_ms=500) as g:
            async for message in g:
                mine[message.content] += 1
                message.ack_nowait()
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*map(consume, seen)), LIMIT_S)
    assert seen[0] + seen[1] == Counter(numbers(1000))
    assert seen[0]
    assert seen[1]
    info = await client.describe_group("workers", channel)
    assert (info.messages_behind, info.acked, info.in_flight) == (0, 1000, 0)


async def test_a_message_has_all_that_was_published(client: mq.AsyncClient, channel: str) -> None:
    """Content, key, headers, times; and which delivery it is."""
    receipt = await client.publish(channel, b"x", key=b"k", headers={"h": b"v"})
    async with client.group("workers", channel) as g:
        message = await next_of(g)
        assert (message.offset, message.content, message.key) == (0, b"x", b"k")
        assert dict(message.headers) == {"h": b"v"}
        assert message.append_time_ns == receipt.append_time_ns
        assert (message.delivery_count, message.channel) == (1, channel)
        assert "offset=0" in repr(message)
        await message.ack()
        assert message.settled
        assert not message.lost
        assert g.stats.acked == 1


async def test_batches_are_settled_as_a_whole(client: mq.AsyncClient, channel: str) -> None:
    """With contents, keys, headers and offsets; acknowledged, nacked or released."""
    for part in range(3):
        await client.publish_many(
            channel, numbers(100, 100 * part), keys=[b"k"] * 100, headers=[{"n": b"v"}] * 100
        )
    async with client.group("workers", channel) as g:
        batches = g.batches()
        first, second, third = [await anext(batches) for _ in range(3)]
        assert (first.base_offset, first.next_offset, first.record_count, len(first)) == (
            0,
            100,
            100,
            100,
        )
        assert first.contents == numbers(100)
        assert [message.content for message in first] == numbers(100)
        assert set(first.keys) == {b"k"}
        assert first.headers[0] == (("n", b"v"),)
        assert first.append_time.tzinfo is not None
        assert "record_count=100" in repr(first)
        await first.ack()
        await second.nack(delay_ms=0)
        third.release()
        again = [await anext(batches) for _ in range(2)]
        assert sorted((each.base_offset, each.delivery_count) for each in again) == [
            (100, 2),
            (200, 1),
        ]
        for each in again:
            await each.ack()
        assert (await g.info()).messages_behind == 0


async def test_a_group_begins_where_it_is_told(client: mq.AsyncClient, channel: str) -> None:
    """At an offset, a time, the beginning, or with what comes."""
    await client.publish_many(channel, numbers(5))
    middle = datetime.now(tz=UTC)
    await asyncio.sleep(0.002)
    await client.publish_many(channel, numbers(5, 5))
    for name, start, first in (
        ("offset", 3, b"3"),
        ("time", middle, b"5"),
        ("beginning", "beginning", b"0"),
    ):
        async with client.group(name, channel, start=start) as g:  # type: ignore[arg-type]
            assert (await next_of(g)).content == first
    async with client.group("latest", channel, start="latest") as g:
        await client.publish(channel, b"new")
        assert (await next_of(g)).content == b"new"


# ---- Failing --------------------------------------------------------------------


async def test_poison_dies_once_and_can_be_redriven(client: mq.AsyncClient, channel: str) -> None:
    """With its story in the headers; redriven it comes back, to be processed this time."""
    await client.publish_many(channel, numbers(20), headers=[{"mine": b"kept"}] * 20)
    attempts: Counter[int] = Counter()

    async def handle(message: mq.AsyncGroupMessage) -> None:
        attempts[message.offset] += 1
        if message.offset % 10 == 7:
            raise ValueError(f"can't do {message.offset}")

    async with client.group(
        "workers", channel, max_deliveries=3, backoff_min_ms=1, backoff_max_ms=2, idle_ms=300
    ) as g:
        await asyncio.wait_for(g.run(handle, concurrency=4), LIMIT_S)
        assert (g.stats.nacked, g.stats.acked) == (6, 18)
    assert attempts == Counter(dict.fromkeys(range(20), 1)) | Counter({7: 3, 17: 3})
    info = await client.describe_group("workers", channel)
    assert (info.dead, info.redelivered, info.messages_behind) == (2, 4, 0)
    letters = list(await client.pull(f"{channel}.dead", max_wait_ms=10_000, max_records=2))
    assert [letter.content for letter in letters] == [b"7", b"17"]
    story = dict(letters[0].headers)
    assert story["mine"] == b"kept"
    assert story["mq-dead-reason"] == b"ValueError: can't do 7"
    assert story["mq-dead-offset"] == b"7"

    assert await client.redrive_group("workers", channel) == 2
    async with client.group("workers", channel, idle_ms=300) as g:
        contents = []
        async for message in g:
            contents.append((message.content, message.delivery_count, dict(message.headers)))
            await message.ack()
    assert contents == [(b"7", 1, {"mine": b"kept"}), (b"17", 1, {"mine": b"kept"})]
    assert await client.redrive_group("workers", channel) == 0


async def test_a_nacked_message_waits(client: mq.AsyncClient, channel: str) -> None:
    """As long as it was told to; others go before it."""
    await client.publish_many(channel, numbers(2))
    async with client.group("workers", channel) as g:
        first, second = await next_of(g), await next_of(g)
        await first.nack(delay_ms=300, reason="not now")
        assert (await g.info()).waiting == 1
        await second.ack()
        again = await next_of(g)
        assert (again.offset, again.delivery_count) == (0, 2)


async def test_a_message_is_settled_once(client: mq.AsyncClient, channel: str) -> None:
    """The same again is harmless, something else is a mistake."""
    await client.publish_many(channel, numbers(2))
    async with client.group("workers", channel) as g:
        first, second = await next_of(g), await next_of(g)
        await first.ack()
        await first.ack()
        first.ack_nowait()
        with pytest.raises(mq.FailedPrecondition, match="acknowledged already"):
            await first.nack()
        second.release()
        with pytest.raises(mq.FailedPrecondition, match="handed back already"):
            await second.ack()
        held = await next_of(g)
    with pytest.raises(mq.FailedPrecondition, match="closed"):
        await held.ack()


async def test_a_handler_may_settle_its_message(client: mq.AsyncClient, channel: str) -> None:
    """Then the run does not."""
    await client.publish_many(channel, numbers(3))
    seen: list[tuple[int, int]] = []

    async def handle(message: mq.AsyncGroupMessage) -> None:
        seen.append((message.offset, message.delivery_count))
        if message.delivery_count == 1 and message.offset == 0:
            await message.nack(delay_ms=0)
        elif message.offset == 1:
            await message.ack()

    async with client.group("workers", channel, idle_ms=200) as g:
        await asyncio.wait_for(g.run(handle), LIMIT_S)
    assert sorted(seen) == [(0, 1), (0, 2), (1, 1), (2, 1)]
    assert (await client.describe_group("workers", channel)).messages_behind == 0


# ---- Leases ---------------------------------------------------------------------


async def test_leases_last_as_long_as_the_work(client: mq.AsyncClient, channel: str) -> None:
    """Five times the lease: nobody else gets the message, nor what is buffered behind it."""
    await client.publish_many(channel, numbers(5))
    async with (
        client.group("workers", channel, lease_ms=300) as slow,
        client.group("workers", channel, idle_ms=1500) as other,
    ):
        message = await next_of(slow)
        others = [each.offset async for each in other]
        assert others == []
        await message.ack()
        assert [(await next_of(slow)).offset for _ in range(4)] == [1, 2, 3, 4]
        assert slow.stats.lost == 0


async def test_a_lease_that_others_took_over_is_lost(client: mq.AsyncClient, channel: str) -> None:
    """The late ack says so, and is counted; nothing else is hurt."""
    await client.publish_many(channel, numbers(2))
    async with client.group("workers", channel, consumer="late", prefetch=False) as g:
        first, second = await next_of(g), await next_of(g)
        # As if its event loop had stood still: the broker gives it to another.
        async with client.group("workers", channel, consumer="late") as twin:
            pass
        assert twin.closed
        async with client.group("workers", channel) as other:
            taken = await next_of(other)
            assert taken.offset == 0
            with pytest.raises(mq.LeaseLost) as caught:
                await first.ack()
            assert (caught.value.first_offset, caught.value.next_offset) == (0, 1)
            assert caught.value.refusal == "other-consumer"
            await taken.ack()
        second.ack_nowait()
        await g.flush()
        assert g.stats.lost == 2


async def test_what_is_not_settled_is_handed_back(client: mq.AsyncClient, channel: str) -> None:
    """Closing, leaving by an error, being cancelled: at once, and not counted."""
    await client.publish_many(channel, numbers(10))

    async def leave_in_order() -> None:
        async with client.group("workers", channel) as g:
            await next_of(g)

    async def leave_by_an_error() -> None:
        with pytest.raises(RuntimeError):
            async with client.group("workers", channel) as g:
                await next_of(g)
                raise RuntimeError

    async def be_cancelled() -> None:
        holding = asyncio.Event()

        async def work() -> None:
            async with client.group("workers", channel) as g:
                await next_of(g)
                holding.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await holding.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for leave in (leave_in_order, leave_by_an_error, be_cancelled):
        await leave()
        async with client.group("workers", channel) as g:
            found = [await next_of(g) for _ in range(10)]
            assert [(m.offset, m.delivery_count) for m in found] == [(n, 1) for n in range(10)]


async def test_a_cancelled_run_cancels_its_handlers(client: mq.AsyncClient, channel: str) -> None:
    """Their messages go back uncounted; what was done stays done."""
    await client.publish_many(channel, numbers(10))
    busy = asyncio.Semaphore(0)
    ended: list[int] = []

    async def handle(message: mq.AsyncGroupMessage) -> None:
        if message.offset < 2:
            return
        busy.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(message.offset)

    async def work() -> None:
        async with client.group("workers", channel) as g:
            await g.run(handle, concurrency=3)

    task = asyncio.create_task(work())
    for _ in range(3):
        await asyncio.wait_for(busy.acquire(), LIMIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [2, 3, 4]
    async with client.group("workers", channel) as g:
        found = [await next_of(g) for _ in range(8)]
        assert [(m.offset, m.delivery_count) for m in found] == [(n, 1) for n in range(2, 10)]


async def test_stopped_a_run_finishes_what_it_has(client: mq.AsyncClient, channel: str) -> None:
    """What was not begun goes back; the run returns when its handlers have."""
    await client.publish_many(channel, numbers(10))
    async with client.group("workers", channel) as g:

        async def handle(message: mq.AsyncGroupMessage) -> None:
            g.stop()
            await asyncio.sleep(0.01)

        await asyncio.wait_for(g.run(handle), LIMIT_S)
        assert (g.stats.acked, g.stats.buffered) == (1, 0)
        assert (await g.info()).in_flight == 0
        with pytest.raises(StopAsyncIteration):
            await anext(g)


# ---- Order, and one at a time ---------------------------------------------------


async def test_keys_are_in_order_whatever_the_concurrency(
    client: mq.AsyncClient, channel: str
) -> None:
    """One message of a key at a time, in order, also behind one that fails."""
    keys = [b"%d" % (index % 7) for index in range(300)]
    await client.publish_many(channel, numbers(300), keys=keys)
    done: dict[bytes | None, list[int]] = {}
    working: set[bytes | None] = set()
    failed: set[int] = set()

    async def handle(message: mq.AsyncGroupMessage) -> None:
        assert message.key not in working
        working.add(message.key)
        await asyncio.sleep(0)
        working.remove(message.key)
        if message.offset % 50 == 0 and message.offset not in failed:
            failed.add(message.offset)
            raise RuntimeError("at first it fails")
        done.setdefault(message.key, []).append(message.offset)

    await client.create_group(
        "workers", channel, mode="key_ordered", backoff_min_ms=20, backoff_max_ms=20
    )

    async def consume() -> mq.GroupStats:
        async with client.group(
            "workers", channel, mode="key_ordered", max_records=40, idle_ms=500
        ) as g:
            await g.run(handle, concurrency=5)
            return g.stats

    both = await asyncio.wait_for(asyncio.gather(consume(), consume()), LIMIT_S)
    assert {key: sorted(offsets) for key, offsets in done.items()} == done
    assert sum(map(len, done.values())) == 300
    assert sum(each.lost for each in both) == 0


async def test_an_exclusive_group_has_one_consumer(client: mq.AsyncClient, channel: str) -> None:
    """The other stands by, and takes over when the first closes."""
    await client.publish_many(channel, numbers(10))
    async with client.group("workers", channel, mode="exclusive") as one:
        first = await next_of(one)
        assert (one.active, one.epoch > 0) == (True, True)
        async with client.group("workers", channel, mode="exclusive") as two:
            waiting = asyncio.ensure_future(next_of(two))
            await first.ack()
            assert (await next_of(one)).offset == 1
            assert two.epoch == 0
            epoch = one.epoch
            await one.close()
            taken = await waiting
            assert (taken.offset, taken.delivery_count) == (1, 1)
            assert two.epoch > epoch


async def test_a_consumer_that_was_taken_over_is_fenced(
    client: mq.AsyncClient, channel: str
) -> None:
    """Its ack is refused, it hands out no more, and stands by."""
    await client.publish_many(channel, numbers(10))
    async with client.group(
        "workers", channel, mode="exclusive", consumer="a", prefetch=False
    ) as old:
        held = await next_of(old)
        # The same name again is the same consumer come back: its former self is fenced.
        async with client.group("workers", channel, mode="exclusive", consumer="a") as new:
            taken = await next_of(new)
            assert taken.offset == 0
            with pytest.raises(mq.LeaseLost) as caught:
                await held.ack()
            assert caught.value.refusal == "fenced"
            assert (old.stats.fenced, old.active) == (1, False)
            await taken.ack()


async def test_another_mode_than_the_groups_is_refused(
    client: mq.AsyncClient, channel: str
) -> None:
    """Rather than ignored: programs rely on it."""
    await client.create_group("workers", channel)
    with pytest.raises(mq.FailedPrecondition, match="is shared, not exclusive"):
        async with client.group("workers", channel, mode="exclusive"):
            pass
    async with client.group("workers", channel, mode="shared", max_deliveries=9) as g:
        assert (await g.info()).config.max_deliveries == 0


# ---- Time -----------------------------------------------------------------------


async def test_delays_and_expiry(client: mq.AsyncClient, channel: str) -> None:
    """From each way to publish; groups hand out in time, other readers see all."""
    await client.publish(channel, b"later", deliver_after_ms=400)
    await client.publish(channel, b"never", expires_after_ms=1)
    await client.publish_many(
        channel, [b"mixed", b"now"], deliver_after_ms=[300, None], expires_after_ms=60_000
    )
    async with client.producer(channel, deliver_after_ms=200) as producer:
        await producer.send(b"produced")
    async with client.group("workers", channel) as g:
        contents = [(await next_of(g)).content for _ in range(4)]
    assert contents[0] == b"now"
    assert sorted(contents[1:]) == [b"later", b"mixed", b"produced"]
    assert len(await client.pull(channel)) == 5
    assert (await client.describe_group("workers", channel)).expired == 1


# ---- The broker dies ------------------------------------------------------------


async def test_the_broker_is_killed_in_the_middle(server: StartServer) -> None:
    """All is processed; what comes twice had not been acknowledged when it died."""
    broker = server()
    count = 3000
    processed: dict[int, list[mq.AsyncGroupMessage]] = {}
    async with mq.AsyncClient(broker.address) as client:
        await client.create_channel("orders")
        for start in range(0, count, 500):
            await client.publish_many("orders", numbers(500, start))
        quarter = asyncio.Event()

        async def handle(message: mq.AsyncGroupMessage) -> None:
            processed.setdefault(message.offset, []).append(message)
            if len(processed) == count // 4:
                quarter.set()
            await asyncio.sleep(0)

        async def consume() -> mq.GroupStats:
            async with client.group("workers", "orders", max_records=100, idle_ms=1000) as g:
                await g.run(handle, concurrency=10)
                return g.stats

        consuming = [asyncio.ensure_future(consume()) for _ in range(2)]
        await asyncio.wait_for(quarter.wait(), LIMIT_S)
        over = {
            offset
            for offset, (message,) in processed.items()
            if message._settlement is not None and message._settlement.done
        }
        await asyncio.to_thread(broker.restart, kill=True)
        stats = await asyncio.wait_for(asyncio.gather(*consuming), LIMIT_S)
        info = await client.describe_group("workers", "orders")
    assert over
    assert set(processed) == set(range(count))
    assert all(len(processed[offset]) == 1 for offset in over)
    assert (info.messages_behind, info.in_flight, info.redelivered) == (0, 0, 0)
    assert sum(each.delivered for each in stats) == sum(map(len, processed.values()))


async def test_acknowledged_is_over_even_if_killed(server: StartServer) -> None:
    """What `ack` has returned for is never seen again."""
    broker = server()
    async with mq.AsyncClient(broker.address) as client:
        await client.create_channel("orders")
        await client.publish_many("orders", numbers(100))
        async with client.group("workers", "orders") as g:
            for _ in range(40):
                await (await next_of(g)).ack()
            held = await next_of(g)
            await asyncio.to_thread(broker.restart, kill=True)
            with pytest.raises(mq.LeaseLost) as caught:
                await held.ack()
            assert caught.value.refusal == "never-delivered"
            rest = [(await next_of(g)).offset for _ in range(60)]
        assert rest == list(range(40, 100))


# ---- A consumer dies ------------------------------------------------------------

CONSUMER = """
    import sys, mq
    with mq.Client(sys.argv[1]) as client:
        with client.group("workers", sys.argv[2], lease_ms=500, consumer="victim") as g:
            message = next(g)
            message.ack()
            print(next(g).offset, flush=True)
            sys.stdin.read()
"""


def test_a_killed_consumer_loses_its_messages_to_others(
    blocking: mq.Client, broker: ServerProcess, channel: str
) -> None:
    """When its lease has run out, counted; what it had acknowledged stays so."""
    blocking.publish_many(channel, numbers(5))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CONSUMER), broker.address, channel],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGKILL)
    with blocking.group("workers", channel) as g:
        found = [next(g) for _ in range(4)]
        assert [(m.offset, m.delivery_count) for m in found] == [(n, 2) for n in range(1, 5)]
        for message in found:
            message.ack()
        assert blocking.describe_group("workers", channel).messages_behind == 0


# ---- The synchronous twin -------------------------------------------------------


def test_blocking_iteration(blocking: mq.Client, channel: str) -> None:
    """Messages and batches; acknowledged one by one, without waiting, and handed back."""
    blocking.publish_many(channel, numbers(100))
    blocking.publish_many(channel, numbers(100, 100))
    with blocking.group("workers", channel) as g:
        first = next(g)
        first.ack()
        first.ack()
        for message in g:
            message.ack_nowait()
            if message.offset == 98:
                break
        last = next(g)
        last.nack(delay_ms=0, reason="again")
        batch = next(g.batches())
        assert batch.contents == numbers(100, 100)
        batch.ack()
        g.flush()
        again = next(g)
        assert (again.offset, again.delivery_count) == (99, 2)
        again.release()
        assert (g.group, g.channel, g.active, g.epoch) == ("workers", channel, True, 0)
        assert g.info().acked == 199
    with blocking.group("workers", channel, idle_ms=0) as g:
        assert [(message.offset, message.delivery_count) for message in g] == [(99, 2)]
    assert g.closed
    g.close()


def test_blocking_handlers_run_in_threads(blocking: mq.Client, channel: str) -> None:
    """So many at a time; those that fail are tried again, with the reason kept."""
    blocking.publish_many(channel, numbers(50))
    together = threading.Barrier(4)
    failed: set[int] = set()
    names: set[str] = set()

    def handle(message: mq.GroupMessage) -> None:
        names.add(threading.current_thread().name)
        if message.offset < 4 and message.delivery_count == 1:
            together.wait(LIMIT_S)
        if message.offset == 30 and message.offset not in failed:
            failed.add(message.offset)
            raise KeyError("once")

    with blocking.group("workers", channel, backoff_min_ms=1, idle_ms=300) as g:
        g.run(handle, concurrency=4)
        assert (g.stats.acked, g.stats.nacked, g.stats.redelivered) == (50, 1, 1)
    assert len(names) == 4
    assert blocking.describe_group("workers", channel).messages_behind == 0


def test_blocking_keys_are_in_order(blocking: mq.Client, channel: str) -> None:
    """In threads, too; also behind one that fails."""
    blocking.publish_many(channel, numbers(200), keys=[b"%d" % (n % 5) for n in range(200)])
    done: dict[bytes | None, list[int]] = {}
    failed: set[int] = set()

    def handle(message: mq.GroupMessage) -> None:
        if message.offset % 40 == 3 and message.offset not in failed:
            failed.add(message.offset)
            raise RuntimeError
        done.setdefault(message.key, []).append(message.offset)

    with blocking.group(
        "workers", channel, mode="key_ordered", backoff_min_ms=10, idle_ms=500
    ) as g:
        g.run(handle, concurrency=4)
    assert {key: sorted(offsets) for key, offsets in done.items()} == done
    assert sum(map(len, done.values())) == 200


def test_a_blocking_run_is_stopped_from_any_thread(blocking: mq.Client, channel: str) -> None:
    """It returns when its handlers have, and what was not begun goes back."""
    blocking.publish_many(channel, numbers(100))
    with blocking.group("workers", channel) as g:
        stopper = threading.Thread(target=g.stop)

        def handle(message: mq.GroupMessage) -> None:
            if message.offset == 5:
                stopper.start()
                stopper.join(LIMIT_S)

        g.run(handle)
        assert g.stats.acked == 6
        assert g.stats.buffered == 0
        assert list(g) == []
    assert blocking.describe_group("workers", channel).messages_behind == 94


@pytest.mark.parametrize("error", (KeyboardInterrupt, SystemExit))
def test_a_blocking_run_can_be_interrupted(
    blocking: mq.Client, channel: str, error: type[BaseException]
) -> None:
    """From a handler: it is raised again, when the other handlers have returned."""
    blocking.publish_many(channel, numbers(10))

    def handle(message: mq.GroupMessage) -> None:
        if message.offset == 3:
            raise error

    with blocking.group("workers", channel) as g, pytest.raises(error):
        g.run(handle)
    assert blocking.describe_group("workers", channel).acked == 3


def test_a_blocking_consumer_survives_a_restart(server: StartServer) -> None:
    """Leases are lost, messages are not."""
    broker = server()
    with mq.Client(broker.address) as client:
        client.create_channel("orders")
        client.publish_many("orders", numbers(100))
        with client.group("workers", "orders", max_records=10, idle_ms=1000) as g:
            held = next(g)
            broker.restart(kill=True)
            with pytest.raises(mq.LeaseLost):
                held.ack()
            seen = set()
            for message in g:
                seen.add(message.offset)
                message.ack_nowait()
        assert seen == set(range(100))
        assert client.describe_group("workers", "orders").messages_behind == 0


def test_a_blocking_consumer_prolongs_its_leases(blocking: mq.Client, channel: str) -> None:
    """From a thread of its own, while the caller works."""
    blocking.publish_many(channel, numbers(2))
    with (
        blocking.group("workers", channel, lease_ms=300) as slow,
        blocking.group("workers", channel, idle_ms=1200) as other,
    ):
        message = next(slow)
        assert list(other) == []
        message.ack()
        assert slow.stats.lost == 0


# ---- Managing -------------------------------------------------------------------


async def test_groups_are_managed(client: mq.AsyncClient, channel: str) -> None:
    """Made, changed, listed, described, moved and forgotten."""
    await client.publish_many(channel, numbers(100))
    made = await client.create_group(
        "workers", channel, start=10, lease_ms=1234, max_deliveries=5, dead_letter_channel="dead"
    )
    assert (made.name, made.channel, made.messages_behind) == ("workers", channel, 90)
    assert (made.config.mode, made.config.lease_ms, made.config.max_deliveries) == (
        "shared",
        1234,
        5,
    )
    changed = await client.create_group("workers", channel, max_deliveries=7)
    assert (changed.config.lease_ms, changed.config.max_deliveries) == (1234, 7)
    assert changed.config.dead_letter_channel == "dead"
    await client.create_group("others", channel, start="latest", mode="exclusive")
    assert [each.name for each in await client.list_groups(channel)] == ["others", "workers"]
    assert {each.channel for each in await client.list_groups()} >= {channel}
    async with client.group("workers", channel, consumer="me") as g:
        await next_of(g)
        info = await client.describe_group("workers", channel)
        (consumer,) = info.consumers
        assert (consumer.name, consumer.in_flight) == ("me", 90)
        assert info.seconds_behind > 0
        assert info.bytes_behind > 0
    sought = await client.seek_group("workers", channel, 95)
    assert (sought.acked_through, sought.messages_behind) == (95, 5)
    with pytest.raises(mq.OffsetOutOfRange):
        await client.seek_group("workers", channel, 101)
    await client.delete_group("workers", channel)
    with pytest.raises(mq.GroupNotFound):
        await client.describe_group("workers", channel)
    with pytest.raises(mq.GroupNotFound):
        await client.delete_group("workers", channel)


async def test_a_deleted_group_ends_its_consumers(client: mq.AsyncClient, channel: str) -> None:
    """They are told, and do not make it anew."""
    async with client.group("workers", channel) as g:
        waiting = asyncio.ensure_future(next_of(g))
        while not (await g.info()).consumers:  # noqa: ASYNC110 - the broker has no event for it
            await asyncio.sleep(0.01)
        await client.delete_group("workers", channel)
        with pytest.raises(mq.GroupNotFound):
            await waiting
    assert await client.list_groups(channel) == []


async def test_cursors_are_kept_without_leases(client: mq.AsyncClient, channel: str) -> None:
    """Committed and asked for; they never move back."""
    await client.publish_many(channel, numbers(10))
    assert await client.committed_offset("reader", channel) is None
    await client.commit_offset("reader", channel, 4)
    await client.commit_offset("reader", channel, 2)
    assert await client.committed_offset("reader", channel) == 4
    with pytest.raises(mq.OffsetOutOfRange):
        await client.commit_offset("reader", channel, 11)


def test_blocking_management(blocking: mq.Client, channel: str) -> None:
    """The same calls."""
    blocking.publish_many(channel, numbers(10))
    blocking.create_group("workers", channel, mode="key_ordered")
    assert blocking.seek_group("workers", channel, "latest").messages_behind == 0
    assert [each.name for each in blocking.list_groups(channel)] == ["workers"]
    blocking.commit_offset("reader", channel, 4)
    assert blocking.committed_offset("reader", channel) == 4
    assert blocking.redrive_group("workers", channel) == 0
    blocking.delete_group("workers", channel)
    assert [each.name for each in blocking.list_groups(channel)] == ["reader"]


async def test_retention_is_set_told_and_enforced(client: mq.AsyncClient, channel: str) -> None:
    """Settings come back; a purge tells what would go before it goes."""
    name = f"{channel}.kept"
    await client.create_channel(
        name, segment_bytes=65536, retention_records=10**6, retention_ms=10**9
    )
    info = await client.configure_channel(
        name, retention_bytes=10**8, retain_unacknowledged=True, segment_ms=1000
    )
    config = info.config
    assert (config.retention_records, config.retention_ms) == (10**6, 10**9)
    assert (config.retention_bytes, config.segment_ms) == (10**8, 1000)
    assert config.retain_unacknowledged
    assert info.days_to_full >= 0
    for _ in range(10):
        await client.publish_many(name, [bytes(1000)] * 30)
    would = await client.purge_channel(name, 150)
    assert would
    assert would[0].first_offset == 0
    assert would[-1].next_offset <= 150
    assert all(each.size_bytes > 0 and each.reason for each in would)
    assert would[0].last_append_time > datetime.now(tz=UTC) - timedelta(hours=1)
    assert (await client.describe_channel(name)).log_start_offset == 0
    gone = await client.purge_channel(name, 150, dry_run=False)
    assert gone == would
    assert (await client.describe_channel(name)).log_start_offset == gone[-1].next_offset
    with pytest.raises(mq.OffsetOutOfRange):
        await client.pull(name, 0)
    assert await client.purge_channel(name) == []
    assert len(await client.purge_channel(name, datetime.now(tz=UTC))) >= 1


def test_a_purge_needs_a_place(blocking: mq.Client, channel: str) -> None:
    """An offset or a time, with a zone."""
    with pytest.raises(mq.InvalidArgument, match="time zone"):
        blocking.purge_channel(channel, datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(TypeError):
        blocking.purge_channel(channel, "beginning")  # type: ignore[arg-type]


# ---- Wrong usage ----------------------------------------------------------------


async def test_a_consumer_is_used_as_a_context_manager(
    client: mq.AsyncClient, channel: str
) -> None:
    """Once; otherwise nothing would hand its messages back."""
    g = client.group("workers", channel)
    with pytest.raises(mq.FailedPrecondition, match="async with"):
        await anext(g)
    async with g:
        with pytest.raises(mq.FailedPrecondition, match="once"):
            await g.__aenter__()
    await client.group("workers", channel).close()


@pytest.mark.parametrize(
    "options",
    (
        {"max_records": 0},
        {"max_bytes": 0},
        {"lease_ms": 0},
        {"ack_linger_ms": -1},
        {"idle_ms": -1},
        {"consumer": ""},
        {"on_damage": "ignore"},
        {"mode": "mine"},
        {"max_wait_ms": 1 << 32},
    ),
)
def test_options_that_cannot_be_used(blocking: mq.Client, options: dict[str, object]) -> None:
    """Are refused before anything is asked."""
    with pytest.raises(mq.InvalidArgument):
        blocking.group("workers", "orders", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("group", "channel"), (("", "orders"), ("workers", "")))
def test_names_are_needed(blocking: mq.Client, group: str, channel: str) -> None:
    """Of the group and of the channel."""
    with pytest.raises(mq.InvalidArgument, match="name"):
        blocking.group(group, channel)


async def test_an_unknown_channel_is_refused(client: mq.AsyncClient) -> None:
    """When the group is entered."""
    with pytest.raises(mq.ChannelNotFound):
        async with client.group("workers", "nowhere"):
            pass


@pytest.mark.parametrize("concurrency", (0, -1))
async def test_a_run_needs_a_worker(client: mq.AsyncClient, channel: str, concurrency: int) -> None:
    """At least one."""

    async def handle(message: mq.AsyncGroupMessage) -> None:
        raise AssertionError

    async with client.group("workers", channel) as g:
        with pytest.raises(mq.InvalidArgument):
            await g.run(handle, concurrency=concurrency)


async def test_closing_the_client_closes_its_consumers(
    broker: ServerProcess, blocking: mq.Client, channel: str
) -> None:
    """And hands back what they had."""
    blocking.publish_many(channel, numbers(3))
    client = mq.AsyncClient(broker.address)
    g = client.group("workers", channel)
    await g.__aenter__()
    (await next_of(g)).ack_nowait()
    await next_of(g)
    await client.close()
    assert g.closed
    info = blocking.describe_group("workers", channel)
    assert (info.acked, info.in_flight) == (1, 0)


def test_the_wire_knows_the_schedule(blocking: mq.Client, channel: str) -> None:
    """As columns of the records: one entry a record, or none at all."""
    blocking.publish_many(channel, [b"a", b"b"], deliver_after_ms=[None, 300])
    blocking.publish(channel, b"c", expires_after_ms=7)
    blocking.publish_many(channel, [b"d", b"e"], deliver_after_ms=0)
    batches = blocking.pull(channel).batches
    columns = [pb.Records.FromString(batch.records) for batch in batches]
    assert [list(each.deliver_after_ms) for each in columns] == [[0, 300], [], []]
    assert [list(each.expires_after_ms) for each in columns] == [[], [7], []]
    with pytest.raises(mq.InvalidArgument, match="2 contents"):
        blocking.publish_many(channel, [b"a", b"b"], deliver_after_ms=[1])
    with pytest.raises(mq.InvalidArgument, match="expires_after_ms"):
        blocking.publish(channel, b"a", expires_after_ms=-1)
