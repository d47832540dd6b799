"""Channels are made, changed and deleted: one thing after another, and to its end."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from mq.broker.broker import Broker
from mq.broker.model import ChannelConfig, Durability
from mq.errors import ChannelFailed, ChannelNotFound, DataDirError
from tests.broker.conftest import StartBroker
from tests.broker.gates import GatedFiles, turns
from tests.broker.help import LIMIT_S, publish


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> GatedFiles:
    """The operating system, to be held up."""
    return GatedFiles(monkeypatch)


def directories(broker: Broker) -> list[Path]:
    """What there is on disk."""
    return list((broker.data_path / "channels").iterdir())


async def test_changes_of_settings_that_come_together_are_all_kept(start: StartBroker) -> None:
    """Each gives another setting; none is lost, in memory or on disk."""
    broker = await start()
    await broker.channels.create("a", ChannelConfig())
    await asyncio.gather(
        broker.channels.configure("a", ChannelConfig(segment_bytes=1 << 16)),
        broker.channels.configure("a", ChannelConfig(durability=Durability.WRITTEN)),
        broker.channels.configure("a", ChannelConfig(max_message_bytes=1000)),
    )
    wanted = ChannelConfig(1 << 16, Durability.WRITTEN, 1000)
    assert broker.channels.get("a").meta.config == wanted
    await broker.stop(5)
    assert (await start()).channels.get("a").meta.config == wanted


async def test_a_name_is_free_when_its_channel_is_gone(
    start: StartBroker, files: GatedFiles
) -> None:
    """A crash in between would leave two channels of one name."""
    broker = await start(files)
    old = await broker.channels.create("a", ChannelConfig())
    files.hold("rename", old.meta.id.hex())
    deleting = asyncio.ensure_future(broker.channels.delete("a"))
    await files.reached()
    making = asyncio.ensure_future(broker.channels.create("a", ChannelConfig()))
    await turns()
    assert not making.done()
    files.let_go()
    new = await asyncio.wait_for(making, LIMIT_S)
    await deleting
    assert new.meta.id != old.meta.id
    assert [each.name for each in directories(broker)] == [new.meta.id.hex()]


async def test_of_two_deletions_one_finds_nothing(start: StartBroker) -> None:
    """And is told so when there is nothing."""
    broker = await start()
    await broker.channels.create("a", ChannelConfig())
    outcomes = await asyncio.gather(
        broker.channels.delete("a"), broker.channels.delete("a"), return_exceptions=True
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], ChannelNotFound)


async def test_a_channel_that_was_not_deleted_can_be_deleted_again(
    start: StartBroker, files: GatedFiles
) -> None:
    """Meanwhile it takes no work, and its name is not free."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    files.fail("rename", channel.meta.id.hex(), errno.EIO)
    with pytest.raises(DataDirError, match="was not deleted"):
        await broker.channels.delete("a")
    files.heal()
    assert await broker.channels.create("a", ChannelConfig()) is channel
    with pytest.raises(ChannelFailed, match="delete it again"):
        await publish(channel, b"y")
    await broker.channels.delete("a")
    assert directories(broker) == []
    assert broker.channels.names() == []


async def test_a_deletion_that_may_not_be_durable_is_done_again(
    start: StartBroker, files: GatedFiles
) -> None:
    """The directory has another name by then."""
    broker = await start(files)
    await broker.channels.create("a", ChannelConfig())
    files.fail("sync_dir", "channels", errno.EIO)
    with pytest.raises(DataDirError):
        await broker.channels.delete("a")
    files.heal()
    await broker.channels.delete("a")
    assert directories(broker) == []


async def test_what_a_deletion_leaves_over_goes_at_the_next_start(
    start: StartBroker, files: GatedFiles
) -> None:
    """The channel is gone all the same; somebody is told of the room it takes."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    files.fail("unlink", channel.meta.id.hex(), errno.EIO)
    await broker.channels.delete("a")
    files.heal()
    events: Any = broker._events
    assert "left_over" in [event for event, _ in events.told]
    assert len(directories(broker)) == 1
    await broker.channels.create("a", ChannelConfig())
    await broker.stop(5)
    again = await start()
    assert again.channels.names() == ["a"]
    assert len(directories(again)) == 1


async def test_making_a_channel_goes_on_without_whoever_asked_for_it(
    start: StartBroker, files: GatedFiles
) -> None:
    """The next who asks finds it, and there is one directory."""
    broker = await start(files)
    files.hold("mkdir", "channels")
    making = asyncio.ensure_future(broker.channels.create("a", ChannelConfig()))
    await files.reached()
    making.cancel()
    again = asyncio.ensure_future(broker.channels.create("a", ChannelConfig(1 << 20)))
    await turns()
    files.let_go()
    channel = await asyncio.wait_for(again, LIMIT_S)
    assert channel.meta.config == ChannelConfig()
    assert len(directories(broker)) == 1


async def test_a_channel_that_was_not_made_is_not_there_later(
    start: StartBroker, files: GatedFiles
) -> None:
    """Its directory may not be durable, so it is not left for the next start to find."""
    broker = await start(files)
    files.fail("sync_dir", "channels", errno.EIO)
    with pytest.raises(DataDirError, match="was not created"):
        await broker.channels.create("a", ChannelConfig())
    files.heal()
    await broker.stop(5)
    again = await start()
    assert again.channels.names() == []
    assert directories(again) == []


async def test_a_broker_that_can_t_be_started_lets_go_of_the_directory(
    start: StartBroker, files: GatedFiles
) -> None:
    """The next one can have it."""
    await (await start()).stop(5)
    files.fail("list", "channels", errno.EIO)
    with pytest.raises(DataDirError, match="can't be read"):
        await start(files)
    assert (await start()).channels.names() == []
