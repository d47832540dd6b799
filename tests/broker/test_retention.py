"""Retention and purging of a running broker's channels."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

import pytest

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.model import ChannelConfig
from mq.errors import DiskFull, OffsetOutOfRange
from mq.log.files import Handle
from tests.broker.conftest import StartBroker
from tests.broker.help import log_of, publish, publish_batch, read
from tests.log.batches import UnsyncedFiles

SEGMENT = 1 << 16


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the broker does on its own, with a limit."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 the broker has no event for tests
            await asyncio.sleep(0.005)


async def fill(channel: Channel, batches: int) -> None:
    """Publish ten-kilobyte messages; six fill a segment."""
    for _ in range(batches):
        await publish_batch(channel, bytes(10_000))


async def test_bytes_are_kept_within_the_limit_while_publishing(start: StartBroker) -> None:
    """Never more than the limit, one sealed segment and the active one, as files."""
    broker = await start()
    limit = 4 * SEGMENT
    channel = await broker.channels.create("a", ChannelConfig(retention_bytes=limit))
    for _ in range(60):
        await fill(channel, 1)
        assert log_of(channel).stored_bytes <= limit + 3 * SEGMENT
    await until(lambda: not channel.queue.busy)
    assert channel.log_start_offset > 0
    assert log_of(channel).stored_bytes <= limit + SEGMENT
    with pytest.raises(OffsetOutOfRange) as caught:
        await read(channel, 0)
    assert caught.value.log_start_offset == channel.log_start_offset
    assert await read(channel, channel.log_start_offset)


async def test_a_quiet_channel_s_records_expire(start: StartBroker) -> None:
    """Sealed by age and removed by age, with nobody publishing."""
    now = [10**18]
    broker: Broker = await start(retention_interval_s=0.01, clock_ns=lambda: now[0])
    channel = await broker.channels.create("a", ChannelConfig(retention_ms=1000))
    await publish(channel, b"x")
    now[0] += 10**9
    await until(lambda: channel.log is not None and len(channel.log.segments) == 2)
    assert channel.log_start_offset == 0
    now[0] += 10**9
    await until(lambda: channel.log_start_offset == 1)
    assert await publish(channel, b"y") == 1


async def test_what_no_group_has_acknowledged_is_held(start: StartBroker) -> None:
    """Whatever the limit says, until it is acknowledged."""
    broker = await start()
    config = ChannelConfig(retention_bytes=SEGMENT, retain_unacknowledged=True)
    channel = await broker.channels.create("a", config)
    channel.upkeep.held_from = 3
    await fill(channel, 30)
    await until(lambda: not channel.queue.busy)
    assert channel.log_start_offset == 0
    channel.upkeep.held_from = 20
    assert await channel.upkeep.purge(None, dry_run=False)
    assert 0 < channel.log_start_offset <= 20


async def test_a_dry_run_says_what_would_go_and_removes_nothing(start: StartBroker) -> None:
    """Segment by segment, with the reason."""
    broker = await start(segment_bytes=SEGMENT)
    channel = await broker.channels.create("a", ChannelConfig())
    await fill(channel, 20)
    removals = await channel.upkeep.purge(13, dry_run=True)
    assert [r.segment.end_offset for r in removals] == [6, 12]
    assert "13" in removals[0].reason
    assert channel.log_start_offset == 0
    await channel.upkeep.purge(13, dry_run=False)
    assert channel.log_start_offset == 12


async def test_purging_up_to_the_end_empties_the_channel(start: StartBroker) -> None:
    """Offsets go on where they were."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await fill(channel, 3)
    told = await channel.upkeep.purge(3, dry_run=True)
    assert channel.log_start_offset == 0
    purged = await channel.upkeep.purge(3, dry_run=False)
    for removals in (told, purged):
        assert [(r.segment.base_offset, r.segment.end_offset) for r in removals] == [(0, 3)]
    assert channel.log_start_offset == channel.durable_offset == 3
    assert await publish(channel, b"x") == 3
    with pytest.raises(OffsetOutOfRange):
        await channel.upkeep.purge(5, dry_run=False)


class NoRoomFiles(UnsyncedFiles):
    """Has room for small files, and not for another segment, while it is full."""

    full = False

    def allocate(self, handle: Handle, length: int) -> None:
        """See `Files`."""
        if self.full and length > self.size(handle):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(handle.path))
        super().allocate(handle, length)


async def fill_up(channel: Channel) -> None:
    """Publish until the next segment finds no room."""
    for _ in range(100):
        try:
            await fill(channel, 1)
        except DiskFull:
            return
    pytest.fail("the disk is not full")


async def test_purging_makes_room_on_a_full_disk(start: StartBroker) -> None:
    """What is sealed goes, though there is no room for another active segment."""
    files = NoRoomFiles()
    broker = await start(files, segment_bytes=SEGMENT)
    channel = await broker.channels.create("a", ChannelConfig())
    await fill(channel, 20)
    files.full = True
    await fill_up(channel)
    end = channel.durable_offset
    active = log_of(channel).segments[-1].base_offset
    removals = await channel.upkeep.purge(end, dry_run=False)
    assert removals[-1].segment.end_offset == channel.log_start_offset == active
    with pytest.raises(DiskFull):
        await channel.upkeep.purge(end, dry_run=False)
    files.full = False
    await channel.upkeep.purge(end, dry_run=False)
    assert channel.log_start_offset == channel.durable_offset == end


async def test_what_is_too_old_goes_from_a_full_disk(start: StartBroker) -> None:
    """Though the active segment, which is old too, can't be sealed."""
    now = [10**18]
    files = NoRoomFiles()
    broker = await start(files, segment_bytes=SEGMENT, clock_ns=lambda: now[0])
    channel = await broker.channels.create("a", ChannelConfig(retention_ms=1000))
    await fill(channel, 20)
    files.full = True
    await fill_up(channel)
    active = log_of(channel).segments[-1].base_offset
    now[0] += 10**10
    assert await channel.upkeep.purge(None, dry_run=False)
    assert channel.log_start_offset == active


async def test_where_a_log_begins_is_known_while_a_thread_trims_it(start: StartBroker) -> None:
    """A description and a pull tell the same, though the event loop has not heard of it."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await fill(channel, 30)
    log = log_of(channel)
    log.trim(log.segments[1].end.offset)
    assert channel.log_start_offset == log.log_start_offset > 0
    with pytest.raises(OffsetOutOfRange) as caught:
        await read(channel, 0)
    assert caught.value.log_start_offset == channel.log_start_offset


async def test_retention_goes_on_over_a_restart(start: StartBroker) -> None:
    """The limit is a setting of the channel, and its log start is durable."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig(retention_bytes=SEGMENT))
    await fill(channel, 30)
    await until(lambda: not channel.queue.busy)
    log_start = channel.log_start_offset
    await broker.stop(5)
    again = (await start()).channels.get("a")
    assert again.meta.config.retention_bytes == SEGMENT
    assert again.log_start_offset == log_start > 0
    await fill(again, 10)
    await until(lambda: not again.queue.busy)
    assert again.log_start_offset > log_start
