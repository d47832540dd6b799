"""Both clients against a real broker: a process of its own, a real socket, real files."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

import mq
from tests.conftest import StartServer

LIMIT_S = 40.0


async def test_a_story(server: StartServer) -> None:
    """Create, publish, produce, pull, follow, describe, configure and delete."""
    async with mq.AsyncClient(server().address) as client:
        await client.create_channel("orders", segment_bytes=1 << 20)
        receipt = await client.publish("orders", b"first", key=b"k", headers={"h": b"v"})
        assert (receipt.offset, receipt.durability, receipt.duplicate) == (0, "synced", False)
        batch = await client.publish_many("orders", [b"a", b"b"], durability="written")
        assert (batch.base_offset, batch.record_count) == (1, 2)
        async with client.producer("orders", batch_records=100) as producer:
            for index in range(1000):
                await producer.send(b"%d" % index)
        expected = [b"first", b"a", b"b", *(b"%d" % index for index in range(1000))]

        pulled = await client.pull("orders", "beginning", max_records=5, max_wait_ms=10_000)
        assert [message.content for message in pulled] == expected[:5]
        first = next(iter(pulled))
        assert (first.key, first.headers, first.offset) == (b"k", (("h", b"v"),), 0)
        assert next(iter(await client.pull("orders", first.append_time))).offset == 0
        assert [m.content for m in await client.pull("orders", 1001)] == expected[1001:]
        assert len(await client.pull("orders", "latest")) == 0

        followed: list[bytes] = []
        async with asyncio.timeout(LIMIT_S):
            async for each in client.subscribe("orders", 2).batches():
                followed += each.contents
                starts, lengths = each.offsets_and_lengths()
                assert each.records[starts[0] : starts[0] + lengths[0]] == each.contents[0]
                if each.next_offset == len(expected):
                    break
        assert followed == expected[2:]

        info = await client.describe_channel("orders")
        assert (info.durable_offset, info.state) == (len(expected), "ok")
        assert info.config.segment_bytes == 1 << 20
        assert (await client.configure_channel("orders", durability="written")).config.durability
        assert [each.name for each in await client.list_channels("ord")] == ["orders"]
        await client.delete_channel("orders")
        assert await client.list_channels() == []


async def test_errors_are_the_brokers(server: StartServer) -> None:
    """What the broker refuses arrives as the project's exceptions, with their numbers."""
    async with mq.AsyncClient(server().address) as client:
        with pytest.raises(mq.MQError, match="none"):
            await client.publish("none", b"x")
        with pytest.raises(mq.ChannelNotFound):
            await client.pull("none")
        with pytest.raises(mq.InvalidArgument):
            await client.create_channel("../x")
        await client.create_channel("small", max_message_bytes=1000)
        with pytest.raises(mq.MessageTooLarge):
            await client.publish("small", bytes(2000))
        with pytest.raises(mq.OffsetOutOfRange) as caught:
            await client.pull("small", 7)
        assert caught.value.details() == {"log_start_offset": 0, "next_offset": 0}


async def test_batches_too_large_for_a_channel_are_split(server: StartServer) -> None:
    """A producer with the default batch size works on a channel that takes little."""
    async with mq.AsyncClient(server().address) as client:
        await client.create_channel("small", max_message_bytes=1000)
        async with client.producer("small") as producer:
            sent = [b"%03d" % index + bytes(100) for index in range(100)]
            for content in sent:
                await producer.send(content)
            await producer.flush()
            with pytest.raises(mq.MessageTooLarge):
                await (await producer.send(bytes(2000)))
        pulled = await client.pull("small", max_wait_ms=10_000)
        assert [message.content for message in pulled] == sent


async def test_killed_in_the_middle(server: StartServer) -> None:
    """kill -9 under load, twice: everything once, in order, seen without a gap."""
    broker = server()
    count = 30_000
    async with mq.AsyncClient(broker.address) as client:
        await client.create_channel("orders")

        async def produce() -> list[mq.Receipt]:
            handles: list[mq.PendingReceipt] = []
            async with client.producer("orders", batch_records=100, linger_ms=1) as producer:
                for part in range(3):
                    restart = asyncio.to_thread(broker.restart, kill=True) if part else None
                    restarting = asyncio.ensure_future(restart) if restart else None
                    part_range = range(part * count // 3, (part + 1) * count // 3)
                    handles += [await producer.send(b"%d" % index) for index in part_range]
                    if restarting is not None:
                        await restarting
                return [await handle for handle in handles]

        async def follow() -> list[bytes]:
            seen: list[bytes] = []
            async for batch in client.subscribe("orders", "beginning").batches():
                seen += batch.contents
                if len(seen) >= count:
                    break
            return seen

        async with asyncio.timeout(LIMIT_S):
            receipts, seen = await asyncio.gather(produce(), follow())
        assert seen == [b"%d" % index for index in range(count)]
        assert [receipt.offset for receipt in receipts] == list(range(count))


def test_the_synchronous_client_outlasts_a_restart(server: StartServer) -> None:
    """Producer, publishes of several threads and a subscription, over a graceful restart."""
    broker = server()
    produced, threads = 4000, 3
    total = produced + 20 * threads
    with mq.Client(broker.address) as client, ThreadPoolExecutor(threads + 1) as pool:
        client.create_channel("orders")
        subscription = client.subscribe("orders", "beginning")
        following = pool.submit(lambda: [m.content for m in islice(subscription, total)])

        def publish(name: int) -> None:
            for index in range(20):
                client.publish("orders", b"%d.%d" % (name, index))

        publishing = [pool.submit(publish, name) for name in range(threads)]
        with client.producer("orders", linger_ms=1) as producer:
            for index in range(produced):
                producer.send(b"p.%d" % index)
                if index == produced // 2:
                    broker.restart()
        for each in publishing:
            each.result(LIMIT_S)
        seen = following.result(LIMIT_S)
        assert len(set(seen)) == len(seen) == total
        for name in (b"p.", b"0.", b"1.", b"2."):
            own = [content for content in seen if content.startswith(name)]
            assert own == [name + b"%d" % index for index in range(len(own))]
        assert [message.content for message in client.pull("orders")] == seen


def test_over_a_unix_socket(server: StartServer, tmp_path: Path) -> None:
    """A broker on a socket's path is reached like any other."""
    path = tmp_path / "mq.sock"
    broker = server(listen=f"unix:{path}")
    with mq.Client(broker.address) as client:
        client.create_channel("orders")
        assert client.publish("orders", b"x").offset == 0
