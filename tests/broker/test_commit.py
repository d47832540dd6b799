"""Group commit: threads, lone messages, many channels synced at once."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from mq.broker import commit as commit_module
from mq.broker.model import ChannelConfig, Durability
from mq.errors import ChannelReadOnly
from mq.log.files import Files, Handle
from tests.broker.conftest import StartBroker
from tests.broker.help import Waiting, log_of, publish, read


class CountingFiles(Files):
    """Counts syncs, holds commits up, and fails where a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.data_syncs: list[str] = []
        self.system_syncs = 0
        self.fail_system: int | None = None
        self.fail_path = "nowhere"
        self.gate = threading.Event()
        self.gate.set()

    def sync_data(self, handle: Handle) -> None:
        """Sync one file."""
        self.data_syncs.append(threading.current_thread().name)
        if self.fail_path in str(handle.path):
            raise OSError(errno.EIO, "injected")
        super().sync_data(handle)

    def sync_file_system(self, handle: Handle) -> None:
        """Sync them all."""
        self.system_syncs += 1
        if self.fail_system is not None:
            raise OSError(self.fail_system, "injected")
        super().sync_file_system(handle)

    def write(self, handle: Handle, buffers: object, position: int) -> int:
        """Write, when the gate is open."""
        self.gate.wait(20)
        return super().write(handle, buffers, position)  # type: ignore[arg-type]


async def settled(files: CountingFiles, start: StartBroker, count: int) -> list[object]:
    """Publish to ``count`` channels at once, all behind one commit that is held up."""
    broker = await start(files)
    channels = [await broker.channels.create(f"c{n}", ChannelConfig()) for n in range(count)]
    for channel in channels:
        await publish(channel, b"first")
    files.data_syncs.clear()
    files.system_syncs = 0
    files.gate.clear()
    # Enough commits to keep every thread busy while the others gather.
    publishing = [asyncio.ensure_future(publish(channel, b"x")) for channel in channels]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    files.gate.set()
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    for channel, outcome in zip(channels, outcomes, strict=True):
        if outcome == 1:
            assert await read(channel, 0) == [b"first", b"x"]
    return list(outcomes)


@pytest.fixture
def files() -> CountingFiles:
    """The operating system, watched."""
    found = CountingFiles()
    if found.open_file_system(Path("/")) is None:
        pytest.skip("syncfs tells of errors from Linux 5.8 on")
    return found


async def test_many_channels_are_synced_together(
    files: CountingFiles, start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync of the file system for many commits, each publisher answered."""
    # None of them on the event loop, which has to queue the others.
    monkeypatch.setattr(commit_module, "_QUICK_SYNC_S", 0.0)
    outcomes = await settled(files, start, 100)
    assert outcomes == [1] * 100
    assert files.system_syncs >= 1
    assert len(files.data_syncs) < 100


async def test_a_failed_common_sync_is_found_out_by_file(
    files: CountingFiles, start: StartBroker
) -> None:
    """Only the channel whose file failed takes no more publishes."""
    files.fail_system = errno.EIO
    broker = await start(files)
    await broker.channels.create("bad", ChannelConfig())
    files.fail_path = broker.channels.get("bad").meta.id.hex()
    channels = [await broker.channels.create(f"c{n}", ChannelConfig()) for n in range(60)]
    everyone = [broker.channels.get("bad"), *channels]
    outcomes = await asyncio.gather(
        *(publish(channel, b"x") for channel in everyone), return_exceptions=True
    )
    assert isinstance(outcomes[0], ChannelReadOnly)
    assert outcomes[1:] == [0] * 60


async def test_a_lone_message_is_committed_where_it_is(
    files: CountingFiles, start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the device has shown to be quick; before, and for a large one, in a thread."""
    monkeypatch.setattr(commit_module, "_QUICK_SYNC_S", 30.0)
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"opens the log")
    files.data_syncs.clear()
    await publish(channel, b"small")
    await publish(channel, bytes(10_000))
    here, there = files.data_syncs
    assert here == threading.current_thread().name
    assert there.startswith("mq-commit")


async def test_a_slow_device_ends_that(
    files: CountingFiles, start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No commit on the event loop while the last syncs were slow."""
    monkeypatch.setattr(commit_module, "_QUICK_SYNC_S", 0.0)
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig())
    for _ in range(5):
        await publish(channel, b"x")
    assert all(name.startswith("mq-commit") for name in files.data_syncs)


async def test_what_nobody_waits_for_is_synced_a_little_later(
    files: CountingFiles, start: StartBroker
) -> None:
    """Written messages share a sync, and readers have them after it."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig(durability=Durability.WRITTEN))
    await publish(channel, b"opens the log")
    waiting = Waiting(channel, log_of(channel).durable_offset, wait_s=20)
    files.data_syncs.clear()
    for _ in range(20):
        await publish(channel, b"x")
    assert len(files.data_syncs) < 20
    assert await waiting.contents()
    async with asyncio.timeout(20):
        while channel.durable_offset < 21:  # noqa: ASYNC110 the broker has no event for tests
            await asyncio.sleep(0.005)


async def test_too_much_unsynced_is_not_put_off(
    files: CountingFiles, start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the limit the sync comes with the write, however long it might be put off."""
    monkeypatch.setattr("mq.broker.latesync._SYNC_LATER_S", 3600)
    broker = await start(files, unsynced_bytes_max=1000)
    channel = await broker.channels.create("a", ChannelConfig(durability=Durability.WRITTEN))
    await publish(channel, b"put off")
    await publish(channel, bytes(2000))
    async with asyncio.timeout(20):
        while channel.durable_offset < 2:  # noqa: ASYNC110 the broker has no event for tests
            await asyncio.sleep(0.005)


async def test_written_messages_survive_an_orderly_stop(
    files: CountingFiles, start: StartBroker
) -> None:
    """What was put off is synced when the log closes."""
    broker = await start(files)
    channel = await broker.channels.create("a", ChannelConfig(durability=Durability.WRITTEN))
    for _ in range(3):
        await publish(channel, b"x")
    await broker.stop(5)
    again = await start(Files())
    assert await read(again.channels.get("a"), 0) == [b"x"] * 3
