"""Nothing is told of a message before the device has it."""

from __future__ import annotations

import asyncio

import pytest

from mq.broker.model import ChannelConfig
from tests.broker.conftest import StartBroker
from tests.broker.gates import GatedFiles, turns
from tests.broker.help import LIMIT_S, Waiting, publish, read


async def test_nobody_hears_of_a_message_before_its_sync(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its publisher nor whoever waits for it, nor a pull that comes meanwhile."""
    files = GatedFiles(monkeypatch)
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"first")
    waiting = Waiting(channel, 1, wait_s=LIMIT_S)
    files.hold("sync_data", channel.meta.id.hex())
    publishing = asyncio.ensure_future(publish(channel, b"second"))
    await files.reached()
    await turns()
    assert not publishing.done()
    assert not waiting.future.done()
    assert await read(channel, 0) == [b"first"]
    files.let_go()
    assert await asyncio.wait_for(publishing, LIMIT_S) == 1
    assert await waiting.contents() == [b"second"]
