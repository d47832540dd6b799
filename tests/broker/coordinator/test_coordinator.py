"""Groups are recovered, made and dropped, whoever gives up or deletes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from crc32c import crc32c

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.coordinator import runner
from mq.broker.coordinator.journal import Journal
from mq.broker.coordinator.records import HAS_SCHEDULE
from mq.broker.coordinator.runner import GroupRunner
from mq.broker.coordinator.waiting import WaitingConsumers
from mq.broker.groups.config import GroupConfig
from mq.broker.model import ChannelConfig, Durability
from mq.broker.store import Append
from mq.errors import ChannelNotFound, DataDirError, DiskFull, GroupNotFound, Overloaded
from mq.pb import mq_pb2 as pb
from tests.broker.conftest import StartBroker
from tests.broker.gates import GatedFiles, turns, until
from tests.broker.help import LIMIT_S, publish


@pytest.fixture
async def files(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatedFiles]:
    """The operating system, to be held up."""
    found = GatedFiles(monkeypatch)
    yield found
    found.let_go()


async def make(broker: Broker, *names: str) -> Channel:
    """A channel with a message and groups."""
    channel = await broker.channels.create("jobs", ChannelConfig())
    await publish(channel, b"x")
    groups = await broker.groups.of(channel)
    for name in names:
        await groups.create(name, GroupConfig(), 0)
    return channel


async def restarted(start: StartBroker, files: GatedFiles) -> tuple[Broker, Channel]:
    """A channel with a group, after a restart, and its groups not in use yet."""
    broker = await start()
    await make(broker, "workers")
    await broker.stop(5)
    again = await start(files)
    return again, again.channels.get("jobs")


async def end(*tasks: asyncio.Future[Any]) -> list[Any]:
    """The tasks' results or errors."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT_S)


def take(runner: GroupRunner, consumer: str, wait_s: float = 3600) -> asyncio.Future[Any]:
    """Fetch, waiting."""
    work = runner.fetch(consumer, max_records=1, max_bytes=1000, wait_s=wait_s)
    return asyncio.ensure_future(work)


async def test_a_recovery_goes_on_without_whoever_asked_for_it(
    start: StartBroker, files: GatedFiles
) -> None:
    """The next who asks has the same groups; the journal is open once."""
    broker, channel = await restarted(start, files)
    files.hold("list", "groups")
    first = asyncio.ensure_future(broker.groups.of(channel))
    await files.reached()
    first.cancel()
    second = asyncio.ensure_future(broker.groups.of(channel))
    await turns()
    files.let_go()
    groups = await asyncio.wait_for(second, LIMIT_S)
    assert [runner.name for runner in groups.runners] == ["workers"]
    assert len(broker.groups.journals) == 1
    assert await broker.groups.of(channel) is groups


async def test_a_recovery_that_fails_leaves_no_journal_open(
    start: StartBroker, files: GatedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened again beside itself, one would write over the other."""
    broker, channel = await restarted(start, files)

    async def replay(self: Journal) -> None:
        await self.log.life.ready()
        raise DataDirError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "replay", replay)
        with pytest.raises(DataDirError):
            await broker.groups.of(channel)
    assert broker.groups.journals == []
    assert broker.scrape().open_channels == 1
    groups = await broker.groups.of(channel)
    assert [runner.name for runner in groups.runners] == ["workers"]


async def test_a_channel_deleted_while_its_groups_are_recovered(
    start: StartBroker, files: GatedFiles
) -> None:
    """Whoever wanted them is told, and nothing of them is left."""
    broker, channel = await restarted(start, files)
    files.hold("list", "groups")
    recovering = asyncio.ensure_future(broker.groups.of(channel))
    await files.reached()
    deleting = asyncio.ensure_future(broker.channels.delete("jobs"))
    await turns()
    files.let_go()
    refused, deleted = await end(recovering, deleting)
    assert isinstance(refused, ChannelNotFound)
    assert deleted is None
    assert broker.groups.journals == []
    assert list((broker.data_path / "groups").iterdir()) == []
    assert broker.scrape().open_channels == 0


async def test_a_consumer_hears_that_the_channel_is_deleted(start: StartBroker) -> None:
    """Waiting on would bring nothing; nor does coming back."""
    broker = await start()
    channel = await make(broker)
    runner = await (await broker.groups.of(channel)).create("workers", GroupConfig(), 1)
    waiting = take(runner, "c")
    await until(lambda: len(runner._waiting) == 1)
    await broker.channels.delete("jobs")
    assert isinstance((await end(waiting))[0], ChannelNotFound)
    assert isinstance((await end(take(runner, "c")))[0], ChannelNotFound)
    with pytest.raises(ChannelNotFound):
        await broker.groups.of(channel)


async def test_making_a_group_goes_on_without_whoever_asked_for_it(
    start: StartBroker, files: GatedFiles
) -> None:
    """And whoever shares its commit is answered."""
    broker = await start(files)
    groups = await broker.groups.of(await make(broker))
    files.hold("write", "groups")
    making = [
        asyncio.ensure_future(groups.create(name, GroupConfig(), 0)) for name in ("a", "b", "c")
    ]
    await files.reached()
    making[0].cancel()
    files.let_go()
    outcomes = await end(*making)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [runner.name for runner in groups.runners] == ["a", "b", "c"]
    assert outcomes[1:] == groups.runners[1:]


async def test_no_snapshot_brings_a_deleted_group_back(
    start: StartBroker, files: GatedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is due while the group is being deleted: it is taken afterwards."""
    broker = await start(files)
    groups = await broker.groups.of(await make(broker, "gone", "kept"))
    files.hold("write", "groups")
    deleting = asyncio.ensure_future(groups.delete("gone"))
    await files.reached()
    monkeypatch.setattr("mq.broker.coordinator.groups._SNAPSHOT_EVERY_BYTES", 0)
    groups.changed()
    await turns()
    files.let_go()
    assert await end(deleting) == [None]
    monkeypatch.undo()
    await until(lambda: not groups.tasks.running)
    await broker.stop(5)
    again = await start()
    recovered = await again.groups.of(again.channels.get("jobs"))
    assert [runner.name for runner in recovered.runners] == ["kept"]


async def test_a_group_is_deleted_once(start: StartBroker) -> None:
    """And can be made anew by whoever comes just then."""
    broker = await start()
    groups = await broker.groups.of(await make(broker, "a"))
    old = groups.get("a")
    outcomes = await end(
        asyncio.ensure_future(groups.delete("a")),
        asyncio.ensure_future(groups.delete("a")),
        asyncio.ensure_future(groups.create("a", GroupConfig(), 0)),
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], GroupNotFound)
    assert groups.get("a") is outcomes[2] is not old


async def test_waiting_consumers_have_a_limit(start: StartBroker) -> None:
    """The same that pulls have, and together with them."""
    broker = await start(waiting_pulls_max=1)
    channel = await make(broker)
    runner = await (await broker.groups.of(channel)).create("workers", GroupConfig(), 1)
    waiting = take(runner, "a")
    await until(lambda: broker.stats.waiting_pulls == 1)
    assert isinstance((await end(take(runner, "b")))[0], Overloaded)
    await publish(channel, b"y")
    assert (await end(waiting))[0].deliveries
    assert broker.stats.waiting_pulls == 0


async def test_a_call_that_comes_when_time_is_up_is_passed_on(start: StartBroker) -> None:
    """Of two that wait, one is woken in the turn in which it gives up."""
    broker = await start()
    consumers = WaitingConsumers(broker.shared)
    now_s = broker.loop.time()
    first = asyncio.ensure_future(consumers.wait(now_s + 3600))
    second = asyncio.ensure_future(consumers.wait(now_s + 3600))
    await turns()
    consumers.notify()
    first.cancel()
    woken, passed_on = await end(first, second)
    assert isinstance(woken, asyncio.CancelledError)
    assert passed_on is True
    assert len(consumers) == broker.stats.waiting_pulls == 0
    assert await consumers.wait(now_s) is False


async def test_a_full_disk_is_not_asked_again_at_once(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lapsed lease that can't be journaled waits a while; then it is delivered again."""
    monkeypatch.setattr(runner, "_REFUSED_MS", 3_600_000)

    def refuse(*_: object) -> None:
        raise DiskFull("injected")

    broker = await start()
    groups = await broker.groups.of(await make(broker))
    group = await groups.create("workers", GroupConfig(), 0)
    assert (await group.fetch("c", max_records=1, max_bytes=1, wait_s=0, lease_ms=100)).deliveries
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", refuse)
        await until(lambda: group._quiet_until_ms > 0)
        assert group.failure is None
        assert group.group.next_event_ms(broker.shared.now_ms()) is not None
        assert group._timer is not None
        assert group._timer.when() > asyncio.get_running_loop().time() + 1_000
    group._quiet_until_ms = 0
    again = await asyncio.wait_for(take(group, "d", LIMIT_S), LIMIT_S)
    assert again.deliveries == [(0, 1, 2)]


async def test_what_was_read_before_a_seek_is_not_taken_for_what_follows(
    start: StartBroker, files: GatedFiles
) -> None:
    """The group is moved back while records are read for it: a delay there is seen."""
    broker = await start(files)
    channel = await broker.channels.create("jobs", ChannelConfig())
    delayed = pb.Records(contents=[b"x"], deliver_after_ms=[3_600_000]).SerializeToString()
    append = Append(delayed, 1, crc32c(delayed), attributes=HAS_SCHEDULE)
    channel.publish_batch(append, Durability.SYNCED, lambda *_: None)
    await publish(channel, b"y")
    group = await (await broker.groups.of(channel)).create("workers", GroupConfig(), 1)
    frames = channel.reads.frames

    async def sought_meanwhile(*given: int) -> tuple[bytes, int]:
        found = await frames(*given)
        channel.reads.frames = frames  # type: ignore[method-assign]
        await group.seek(0)
        return found

    channel.reads.frames = sought_meanwhile  # type: ignore[method-assign, assignment]
    fetched = await group.fetch("c", max_records=2, max_bytes=1 << 20, wait_s=LIMIT_S)
    assert fetched.deliveries == [(1, 2, 1)]
