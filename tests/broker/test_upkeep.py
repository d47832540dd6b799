"""What the broker does beside its work: a failure of it is told, and stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mq.broker import threads
from mq.broker.broker import Broker
from mq.broker.model import ChannelConfig
from tests.broker.conftest import StartBroker
from tests.broker.help import LIMIT_S, log_of, publish, read
from tests.log.seams import FullDiskFiles


def told(broker: Broker) -> list[str]:
    """The events that the broker told."""
    events: Any = broker._events
    return [event for event, _ in events.told]


async def idle(broker: Broker) -> None:
    """Wait until what runs beside has told its outcome."""
    done = asyncio.get_running_loop().create_future()
    # Behind whatever its eight threads have under way.
    for _ in range(8):
        await asyncio.wait_for(broker.shared.threads.store(lambda: None, ""), LIMIT_S)
    broker.loop.call_soon(done.set_result, None)
    await done


async def test_a_full_disk_is_told_once_in_a_while(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the next segment: one warning for many commits, and no error; then it is made."""
    monkeypatch.setattr(threads, "_UPKEEP_PAUSE_S", 3600.0)
    files = FullDiskFiles()
    broker = await start(files)
    channel = await broker.channels.create("channel", ChannelConfig())
    await publish(channel, b"first")
    files.full = True
    for _ in range(28):
        await publish(channel, b"x" * 2_000)
        await idle(broker)
    assert told(broker).count("upkeep_failed") == 1
    assert "thread_failed" not in told(broker)
    files.full = False
    monkeypatch.setattr(broker.shared.threads, "_upkeep_from_s", 0.0)
    await publish(channel, b"last")
    await idle(broker)
    assert log_of(channel)._writer._spare.ready
    assert len(await read(channel, 0)) == 30
