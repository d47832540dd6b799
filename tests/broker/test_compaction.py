"""A broker compacts the channels that want it, beside everything else."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from typing import Any

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.model import ChannelConfig, Durability
from mq.log.files import Handle
from mq.log.format import SEGMENT_BYTES_MIN
from tests.broker.conftest import StartBroker
from tests.broker.help import LIMIT_S, log_of, raised
from tests.log.batches import UnsyncedFiles
from tests.log.compacting import Keyed, keyed_batch, left, parse_keyed, random_records

COMPACTED = ChannelConfig(segment_bytes=SEGMENT_BYTES_MIN, compact=True)


async def publish_keyed(channel: Channel, *records: tuple[bytes, bytes]) -> None:
    """Publish one batch of keys and contents."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    append = keyed_batch(records)
    channel.publish_batch(append, Durability.DEFAULT, lambda outcome, _: future.set_result(outcome))
    raised(await asyncio.wait_for(future, LIMIT_S))


async def fill(channel: Channel, source: random.Random, batches: int) -> None:
    """Publish random records of few keys, large enough to begin new segments."""
    for _ in range(batches):
        records = [(key, content * 10) for key, content in random_records(source, 10)]
        await publish_keyed(channel, *records)


async def read(channel: Channel) -> list[Keyed]:
    """Every record."""
    records, offset = [], channel.log_start_offset
    while offset < channel.durable_offset:
        data, offset = await channel.reads.frames(offset, 1 << 20)
        records += list(parse_keyed(data))
    return records


async def pass_over(channel: Channel) -> None:
    """Have a channel looked at, and wait for the pass that this begins."""
    channel.keep_up(0)
    task = channel.compacting.task
    if task is not None:
        await asyncio.wait_for(task, LIMIT_S)


def told(broker: Broker, event: str) -> list[dict[str, Any]]:
    """What the broker told of this kind."""
    events: Any = broker._events
    return [fields for kind, fields in events.told if kind == event]


async def test_a_channel_is_compacted_once_enough_of_it_is_new(start: StartBroker) -> None:
    """Not before, not again without cause, and not where nobody asked for it."""
    broker = await start(UnsyncedFiles())
    channel = await broker.channels.create("facts", COMPACTED)
    other = await broker.channels.create("other", ChannelConfig(segment_bytes=SEGMENT_BYTES_MIN))
    for each in (channel, other):
        await fill(each, random.Random(1), 60)
        assert len(log_of(each).segments) > 1
    before, others = await read(channel), await read(other)
    expected = left(before, log_of(channel).segments[-1].base_offset)
    assert len(expected) < len(before)
    await pass_over(channel)
    await pass_over(other)
    assert await read(channel) == expected
    assert await read(other) == others
    (event,) = told(broker, "compacted")
    assert event["channel"] == "facts"
    assert event["bytes_after"] < event["bytes_before"]
    channel.keep_up(0)
    assert channel.compacting.task is None


async def test_what_is_compacted_stays_so_after_a_restart(start: StartBroker) -> None:
    """The setting, the records and where the next pass begins."""
    broker = await start(UnsyncedFiles())
    channel = await broker.channels.create("facts", COMPACTED)
    await fill(channel, random.Random(2), 60)
    await pass_over(channel)
    expected = await read(channel)
    await broker.stop(5)
    broker = await start(UnsyncedFiles())
    channel = broker.channels.get("facts")
    await channel.life.ready()
    assert channel.meta.config.compact
    assert await read(channel) == expected
    channel.keep_up(0)
    assert channel.compacting.task is None


async def test_a_setting_can_be_given_and_taken_later(start: StartBroker) -> None:
    """What came before it is compacted too; what comes after its end is not."""
    broker = await start(UnsyncedFiles())
    channel = await broker.channels.create("facts", ChannelConfig(segment_bytes=SEGMENT_BYTES_MIN))
    await fill(channel, random.Random(3), 60)
    await pass_over(channel)
    assert told(broker, "compacted") == []
    await broker.channels.configure("facts", ChannelConfig(compact=True))
    await pass_over(channel)
    assert len(told(broker, "compacted")) == 1
    await broker.channels.configure("facts", ChannelConfig(compact=False))
    await fill(channel, random.Random(4), 100)
    await pass_over(channel)
    assert len(told(broker, "compacted")) == 1


class NoRoomFiles(UnsyncedFiles):
    """Has room for anything but compacted segments, while it is full."""

    full = False

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        if self.full and handle.path.name.endswith(".seg.tmp"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(handle.path))
        super().allocate(handle, length)


async def test_a_failed_pass_is_told_and_made_again_later(start: StartBroker) -> None:
    """Nothing is lost, and publishing goes on."""
    files = NoRoomFiles()
    broker = await start(files)
    channel = await broker.channels.create("facts", COMPACTED)
    await fill(channel, random.Random(5), 60)
    before = await read(channel)
    files.full = True
    await pass_over(channel)
    assert len(told(broker, "compaction_failed")) == 1
    assert await read(channel) == before
    assert not list(log_of(channel).directory.glob("*.seg.tmp"))
    channel.keep_up(0)
    assert channel.compacting.task is None
    await publish_keyed(channel, (b"key-1", b"on it goes"))
    files.full = False
    channel.compacting._not_before_s = 0.0
    await pass_over(channel)
    assert len(told(broker, "compacted")) == 1


class SlowFiles(UnsyncedFiles):
    """Creates no compacted segment before it may."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.may = threading.Event()

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        if handle.path.name.endswith(".seg.tmp"):
            self.reached.set()
            assert self.may.wait(LIMIT_S)
        super().allocate(handle, length)


async def begin_slow(
    start: StartBroker,
) -> tuple[SlowFiles, Broker, Channel, list[Keyed]]:
    """A broker with a pass that is held up just before its first segment is done."""
    files = SlowFiles()
    broker = await start(files)
    channel = await broker.channels.create("facts", COMPACTED)
    await fill(channel, random.Random(6), 60)
    before = await read(channel)
    channel.keep_up(0)
    await asyncio.to_thread(files.reached.wait, LIMIT_S)
    return files, broker, channel, before


async def test_publishing_and_reading_go_on_beside_a_pass(start: StartBroker) -> None:
    """A second channel waits for its turn meanwhile."""
    files, broker, channel, before = await begin_slow(start)
    second = await broker.channels.create("second", COMPACTED)
    await fill(second, random.Random(7), 60)
    second.keep_up(0)
    await publish_keyed(channel, (b"new", b"record"))
    assert (await read(channel))[:-1] == before
    assert second.compacting.task is not None
    files.may.set()
    for each in (channel, second):
        task = each.compacting.task
        assert task is not None
        await asyncio.wait_for(task, LIMIT_S)
    assert [event["channel"] for event in told(broker, "compacted")] == ["facts", "second"]


async def test_a_channel_can_be_deleted_during_a_pass(start: StartBroker) -> None:
    """Nothing of it is left on the disk."""
    files, broker, channel, _ = await begin_slow(start)
    deleting = asyncio.ensure_future(broker.channels.delete("facts"))
    await asyncio.sleep(0)
    files.may.set()
    await asyncio.wait_for(deleting, LIMIT_S)
    assert channel.compacting.task is None
    assert list((broker.data_path / "channels").iterdir()) == []
    assert told(broker, "compaction_failed") == []
    assert told(broker, "left_over") == []


async def test_a_stop_ends_a_pass(start: StartBroker) -> None:
    """And the next start finds everything, and goes on."""
    files, broker, _, before = await begin_slow(start)
    stopping = asyncio.ensure_future(broker.stop(5))
    await asyncio.sleep(0)
    files.may.set()
    await asyncio.wait_for(stopping, LIMIT_S)
    assert told(broker, "compaction_failed") == []
    broker = await start(UnsyncedFiles())
    channel = broker.channels.get("facts")
    await channel.life.ready()
    after = await read(channel)
    end = log_of(channel).segments[-1].base_offset
    assert set(left(before, end)) <= set(after) <= set(before)
    await pass_over(channel)
    assert await read(channel) == left(before, end)
