"""Descriptors run out: a channel that could not be opened for want of them is no lost one."""

from __future__ import annotations

import errno

import pytest

from mq.broker import life
from mq.broker.life import State
from mq.broker.model import ChannelConfig
from mq.errors import ChannelFailed, Overloaded
from tests.broker.conftest import StartBroker
from tests.broker.gates import GatedFiles
from tests.broker.help import Waiting, publish, read


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> GatedFiles:
    """The operating system, to be made to fail."""
    return GatedFiles(monkeypatch)


@pytest.mark.parametrize("code", (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC))
async def test_a_channel_opens_once_there_are_some_again(
    start: StartBroker, files: GatedFiles, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Its callers are told to try again, for a moment without trying; then it works by itself."""
    monkeypatch.setattr(life, "_AGAIN_S", 3600.0)
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    files.fail("list", channel.meta.id.hex(), code)
    with pytest.raises(Overloaded, match="could not be opened"):
        await publish(channel, b"x")
    files.heal()
    with pytest.raises(Overloaded):
        await publish(channel, b"x")
    with pytest.raises(Overloaded):
        await Waiting(channel, 0).contents()
    assert channel.state is State.FAILED
    monkeypatch.setattr(channel.life, "_again_from_s", 0.0)
    assert (channel.state, channel.life.reason) == (State.CLOSED, None)
    assert await publish(channel, b"y") == 0
    assert await read(channel, 0) == [b"y"]


async def test_a_device_that_fails_is_another_matter(start: StartBroker, files: GatedFiles) -> None:
    """That is not tried again in this run."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    files.fail("list", channel.meta.id.hex(), errno.EIO)
    for _ in range(2):
        with pytest.raises(ChannelFailed):
            await publish(channel, b"x")
        files.heal()


async def test_a_read_works_again_once_there_are_some(
    start: StartBroker, files: GatedFiles
) -> None:
    """Of a segment that is not open yet; the channel is as well as before."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig(64 << 10))
    for _ in range(8):
        await publish(channel, bytes(10_000))
    await broker.stop(5)
    channel = (await start(files)).channels.get("a")
    assert await publish(channel, b"x") == 8
    files.fail("open", channel.meta.id.hex(), errno.EMFILE)
    with pytest.raises(Overloaded):
        await read(channel, 0)
    files.heal()
    assert len(await read(channel, 0)) == 9
    assert channel.state is State.OPEN
