"""A channel's log opens, closes and goes: whoever is waiting meanwhile is answered."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from mq.broker.broker import Broker
from mq.broker.channel import Channel, State
from mq.broker.model import ChannelConfig, Durability
from mq.errors import ChannelFailed, ChannelNotFound, ChannelReadOnly, Unavailable
from tests.broker.conftest import StartBroker
from tests.broker.gates import GatedFiles, turns, until
from tests.broker.help import LIMIT_S, Waiting, log_of, publish, read

# Six fill a small segment.
LARGE = bytes(10_000)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> GatedFiles:
    """The operating system, to be held up."""
    return GatedFiles(monkeypatch)


async def opening(broker: Broker, files: GatedFiles) -> Channel:
    """A new channel, for whose log to open somebody waits, held up."""
    channel = await broker.channels.create("a", ChannelConfig())
    files.hold("list", channel.meta.id.hex())
    channel.life.when_open(lambda: None)
    await files.reached()
    return channel


async def committing(broker: Broker, files: GatedFiles) -> tuple[Channel, asyncio.Task[int]]:
    """A channel, and a publish to it whose commit is held up."""
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"first")
    files.hold("write", channel.meta.id.hex())
    publishing = asyncio.ensure_future(publish(channel, LARGE))
    await files.reached()
    return channel, publishing


async def end(*tasks: asyncio.Task[Any]) -> list[Any]:
    """The tasks' results or errors."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT_S)


def task(work: Any) -> asyncio.Task[Any]:
    """Begin some work."""
    return asyncio.ensure_future(work)


# ---- Deleting ---------------------------------------------------------------


async def test_deleting_waits_for_the_commit_under_way(
    start: StartBroker, files: GatedFiles
) -> None:
    """Though other work for the log is waiting too: its publisher is answered, the rest refused."""
    broker = await start(files)
    channel, publishing = await committing(broker, files)
    log = log_of(channel)
    purging = task(channel.upkeep.purge(1, dry_run=False))
    later = task(publish(channel, b"later"))
    await turns()
    deleting = task(broker.channels.delete("a"))
    await turns()
    assert not deleting.done()
    assert log.read_only_reason is None
    files.let_go()
    published, purged, refused, deleted = await end(publishing, purging, later, deleting)
    assert published == 1
    assert isinstance(purged, ChannelNotFound)
    assert isinstance(refused, ChannelNotFound)
    assert deleted is None
    assert list((broker.data_path / "channels").iterdir()) == []


async def test_deleting_while_it_opens_answers_everyone(
    start: StartBroker, files: GatedFiles
) -> None:
    """And its log takes no place among the open ones."""
    broker = await start(files)
    channel = await opening(broker, files)
    purging = task(channel.upkeep.purge(0, dry_run=False))
    pulling = task(read(channel, 0))
    seeking = task(channel.reads.offset_at(0))
    publishing = task(publish(channel, b"x"))
    await turns()
    deleting = task(broker.channels.delete("a"))
    await turns()
    assert not deleting.done()
    files.let_go()
    *refused, deleted = await end(purging, pulling, seeking, publishing, deleting)
    assert [type(each) for each in refused] == [ChannelNotFound] * 4
    assert deleted is None
    assert broker.scrape().open_channels == 0


async def test_what_is_asked_of_a_deleted_channel_is_refused(start: StartBroker) -> None:
    """Also what would have to wait for its log: at once."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await broker.channels.delete("a")
    outcomes: list[object] = []
    channel.queue.run_alone(lambda: None, outcomes.append)
    assert isinstance(outcomes[0], ChannelNotFound)
    with pytest.raises(ChannelNotFound):
        await channel.upkeep.purge(None, dry_run=True)


# ---- Opening ----------------------------------------------------------------


async def test_a_reader_that_gives_up_takes_no_other_along(
    start: StartBroker, files: GatedFiles
) -> None:
    """All wait for the same log to open; the ones after it are answered."""
    channel = await opening(await start(files), files)
    waiting = [task(channel.reads.frames(0, 1000)) for _ in range(3)]
    seeking = [task(channel.reads.offset_at(0)) for _ in range(3)]
    await turns()
    waiting[0].cancel()
    seeking[0].cancel()
    await turns()
    files.let_go()
    assert await end(*waiting[1:]) == [(b"", 0)] * 2
    assert await end(*seeking[1:]) == [0] * 2


async def test_a_log_that_can_t_be_opened_holds_up_no_drain(
    start: StartBroker, files: GatedFiles
) -> None:
    """Its publisher is told why; then there is nothing to wait for."""
    broker = await start(files)
    channel = await opening(broker, files)
    publishing = task(publish(channel, b"x"))
    await turns()
    draining = task(broker.drain(3600))
    await turns()
    files.fail("list", channel.meta.id.hex(), errno.EIO)
    files.let_go()
    refused, drained = await end(publishing, draining)
    assert isinstance(refused, ChannelFailed)
    assert drained is None


async def test_pulls_that_wait_while_it_is_closed_hear_that_it_can_t_be_opened(
    start: StartBroker, files: GatedFiles
) -> None:
    """Nothing can come any more, so they need not wait."""
    broker = await start(files, open_channels_max=1)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    await publish(await broker.channels.create("b", ChannelConfig()), b"x")
    await until(lambda: channel.state is State.CLOSED)
    waiting = Waiting(channel, 1, wait_s=3600)
    files.fail("list", channel.meta.id.hex(), errno.EIO)
    with pytest.raises(ChannelFailed):
        await publish(channel, b"y")
    with pytest.raises(ChannelFailed):
        await waiting.contents()


async def test_a_failed_channel_stays_read_only_when_its_log_is_closed(
    start: StartBroker, files: GatedFiles
) -> None:
    """Opening it again would not ask the device; it is counted once, and no more once deleted."""
    broker = await start(files, open_channels_max=1)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"kept")
    files.fail("sync_data", channel.meta.id.hex(), errno.EIO)
    with pytest.raises(ChannelReadOnly):
        await publish(channel, b"lost")
    files.heal()
    await publish(await broker.channels.create("b", ChannelConfig()), b"x")
    await until(lambda: channel.state is State.CLOSED)
    assert b"kept" in await read(channel, 0)
    assert channel.state is State.OPEN
    with pytest.raises(ChannelReadOnly, match="restarted"):
        await publish(channel, b"refused")
    assert broker.stats.read_only_channels == 1
    await broker.channels.delete("a")
    assert broker.stats.read_only_channels == 0


async def test_a_record_is_located_though_its_log_was_closed_just_now(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was open, and had to make room before whoever waited for that could go on."""
    broker = await start(open_channels_max=1)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    await publish(await broker.channels.create("b", ChannelConfig()), b"x")
    await until(lambda: channel.state is State.CLOSED)
    tries = []

    async def ready() -> None:
        tries.append(channel.state)
        if len(tries) > 1:
            await channel.life.resolve()

    monkeypatch.setattr(channel.life, "ready", ready)
    position = await asyncio.wait_for(channel.reads.locate(0), LIMIT_S)
    assert position.bytes_after > 0
    assert tries == [State.CLOSED, State.CLOSED]


# ---- Syncs put off ----------------------------------------------------------


async def test_a_sync_that_is_put_off_follows_a_slow_write(
    start: StartBroker, files: GatedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was due before there was anything to sync."""
    monkeypatch.setattr("mq.broker.latesync._SYNC_LATER_S", 0)
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig(durability=Durability.WRITTEN))
    await channel.life.resolve()
    waiting = Waiting(channel, 0, wait_s=3600)
    files.hold("write", channel.meta.id.hex())
    publishing = task(publish(channel, LARGE))
    await files.reached()
    await until(lambda: channel.queue._late_sync._timer is None)
    files.let_go()
    assert await end(publishing) == [0]
    assert await waiting.contents() == [LARGE]


async def test_a_sync_by_retention_wakes_whoever_waits(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing a segment makes durable what was only written."""
    monkeypatch.setattr("mq.broker.latesync._SYNC_LATER_S", 3600)
    now = [10**18]
    broker = await start(clock_ns=lambda: now[0])
    config = ChannelConfig(durability=Durability.WRITTEN, segment_ms=1000)
    channel = await broker.channels.create("a", config)
    await channel.life.resolve()
    waiting = Waiting(channel, 0, wait_s=3600)
    await publish(channel, b"x")
    assert channel.durable_offset == 0
    now[0] += 10**10
    channel.upkeep.enforce()
    assert await waiting.contents() == [b"x"]


# ---- Retention --------------------------------------------------------------


async def test_an_empty_channel_is_not_opened_again_and_again(start: StartBroker) -> None:
    """Once looked at, there is nothing that could expire."""
    broker = await start(open_channels_max=1)
    channel = await broker.channels.create("a", ChannelConfig(retention_ms=1000))
    assert channel.upkeep._due(10**19)
    await channel.life.resolve()
    await publish(await broker.channels.create("b", ChannelConfig()), b"x")
    await until(lambda: channel.state is State.CLOSED)
    assert not channel.upkeep._due(10**19)


async def test_a_dry_run_is_not_told_as_a_removal(start: StartBroker) -> None:
    """Nothing was removed."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig(segment_bytes=1 << 16))
    for _ in range(10):
        await publish(channel, LARGE)
    events: Any = broker._events

    def told() -> list[str]:
        return [event for event, _ in events.told]

    assert await channel.upkeep.purge(10, dry_run=True)
    assert "segments_removed" not in told()
    assert await channel.upkeep.purge(10, dry_run=False)
    assert "segments_removed" in told()


# ---- Stopping ---------------------------------------------------------------


async def test_stopping_while_a_log_opens_closes_it(start: StartBroker, files: GatedFiles) -> None:
    """Whoever waited for it is told to come back, and so is whoever comes later."""
    broker = await start(files)
    channel = await opening(broker, files)
    pulling = task(read(channel, 0))
    publishing = task(publish(channel, b"x"))
    await turns()
    stopping = task(broker.stop(0))
    await turns()
    assert not stopping.done()
    files.let_go()
    pulled, published, stopped = await end(pulling, publishing, stopping)
    assert isinstance(pulled, Unavailable)
    assert isinstance(published, Unavailable)
    assert stopped is None
    assert channel.log is None
    with pytest.raises(Unavailable):
        await asyncio.wait_for(channel.life.ready(), LIMIT_S)
    assert (await start()).channels.names() == ["a"]


async def test_a_stop_out_of_time_refuses_what_is_not_begun(
    start: StartBroker, files: GatedFiles
) -> None:
    """The commit under way is finished and acknowledged; the next one is not begun."""
    broker = await start(files)
    channel, publishing = await committing(broker, files)
    later = task(publish(channel, b"later"))
    await turns()
    stopping = task(broker.stop(0))
    refused = (await end(later))[0]
    assert isinstance(refused, Unavailable)
    assert not stopping.done()
    files.let_go()
    assert await end(publishing, stopping) == [1, None]
    assert channel.log is None
    again = (await start()).channels.get("a")
    assert await read(again, 0) == [b"first", LARGE]
    assert log_of(again).notices == []


async def test_a_stop_in_the_middle_of_a_deletion_waits_for_it(
    start: StartBroker, files: GatedFiles
) -> None:
    """And what is asked for later is refused."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    await broker.channels.create("b", ChannelConfig())
    files.hold("rename", channel.meta.id.hex())
    deleting = task(broker.channels.delete("a"))
    await files.reached()
    stopping = task(broker.stop(0))
    await turns()
    for change in (
        broker.channels.create("c", ChannelConfig()),
        broker.channels.delete("b"),
        broker.channels.configure("b", ChannelConfig()),
    ):
        with pytest.raises(Unavailable):
            await change
    files.let_go()
    assert await end(deleting, stopping) == [None, None]
    assert (await start()).channels.names() == ["b"]
