"""The broker in one process: publish, pull, wait, close, delete, fail."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from mq.broker.channel import State
from mq.broker.model import ChannelConfig, Durability
from mq.errors import (
    ChannelNotFound,
    ChannelReadOnly,
    DataLoss,
    DiskFull,
    InvalidArgument,
    MessageTooLarge,
    MQError,
    OffsetOutOfRange,
    Overloaded,
    SequenceGap,
    Unavailable,
)
from mq.log.files import Files, Handle
from tests.broker.conftest import StartBroker
from tests.broker.help import Waiting, log_of, publish, publish_batch, read


class FaultyFiles(Files):
    """The operating system, with faults that a test switches on."""

    def __init__(self) -> None:
        self.sync_error: int | None = None
        self.fail_channel = ""
        self.free: int | None = None

    def sync_data(self, handle: Handle) -> None:
        """Sync, unless it is to fail."""
        if self.sync_error is not None and self.fail_channel in str(handle.path):
            raise OSError(self.sync_error, "injected")
        super().sync_data(handle)

    def free_bytes(self, path: Path) -> int:
        """What is free, or what the test says."""
        return super().free_bytes(path) if self.free is None else self.free


async def test_published_messages_are_read_back_in_order(start: StartBroker) -> None:
    """Singles and batches, one log."""
    broker = await start()
    channel = await broker.channels.create("orders", ChannelConfig())
    assert await publish(channel, b"a") == 0
    assert (await publish_batch(channel, b"b", b"", b"c")).base_offset == 1
    assert await publish(channel, b"d", Durability.WRITTEN) == 4
    await publish(channel, b"e")
    assert await read(channel, 0) == [b"a", b"b", b"", b"c", b"d", b"e"]


async def test_singles_that_arrive_together_share_one_frame_and_one_sync(
    start: StartBroker,
) -> None:
    """One commit for a hundred publishes of the same turn of the loop."""
    broker = await start()
    channel = await broker.channels.create("orders", ChannelConfig())
    await channel.life.resolve()
    offsets = await asyncio.gather(*(publish(channel, b"%d" % n) for n in range(100)))
    assert offsets == list(range(100))
    assert broker.stats.commits == 1
    assert broker.stats.published_messages == 100


async def test_a_stopped_broker_has_everything_when_started_again(start: StartBroker) -> None:
    """Messages, an empty channel, and a channel's own settings."""
    broker = await start()
    channel = await broker.channels.create("orders", ChannelConfig(segment_bytes=1 << 16))
    await broker.channels.create("empty", ChannelConfig())
    for n in range(50):
        await publish_batch(channel, *(b"%d-%d" % (n, m) for m in range(500)))
    await broker.stop(5)
    again = await start()
    assert again.channels.names() == ["empty", "orders"]
    channel = again.channels.get("orders")
    assert channel.meta.config.segment_bytes == 1 << 16
    assert channel.durable_offset == 25_000
    assert (await read(channel, 24_999))[-1] == b"49-499"
    assert len(log_of(channel).segments) > 2


async def test_creating_a_channel_that_exists_changes_nothing(start: StartBroker) -> None:
    """The same channel, with the settings it had."""
    broker = await start()
    first = await broker.channels.create("a", ChannelConfig())
    made = await asyncio.gather(
        *(broker.channels.create("a", ChannelConfig(1 << 20)) for _ in range(5))
    )
    assert all(channel is first for channel in made)
    assert first.meta.config == ChannelConfig()


async def test_a_waiting_pull_is_answered_by_the_commit(start: StartBroker) -> None:
    """No polling: the answer comes with what was published."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    waiting = [Waiting(channel, 0, wait_s=30) for _ in range(3)]
    await channel.life.resolve()
    await publish(channel, b"x")
    assert [await w.contents() for w in waiting] == [[b"x"]] * 3
    assert broker.stats.waiting_pulls == 0


async def test_a_pull_at_the_end_is_empty_at_once_or_after_its_wait(start: StartBroker) -> None:
    """Nothing is not an error."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    assert await Waiting(channel, 0).contents() == []
    assert await Waiting(channel, 0, wait_s=0.01).contents() == []
    assert broker.stats.waiting_pulls == 0


async def test_an_abandoned_pull_waits_no_more(start: StartBroker) -> None:
    """Its client is gone: it is not counted and not answered."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await channel.life.resolve()
    waiting = Waiting(channel, 0, wait_s=30)
    assert broker.stats.waiting_pulls == 1
    channel.pulls.abandon(waiting.pull)
    channel.pulls.abandon(waiting.pull)
    assert broker.stats.waiting_pulls == 0
    await publish(channel, b"x")
    assert not waiting.future.done()


async def test_waiting_pulls_have_a_limit(start: StartBroker) -> None:
    """One too many is told to come back; pulls that needn't wait are served."""
    broker = await start(waiting_pulls_max=1)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    Waiting(channel, 1, wait_s=30)
    with pytest.raises(Overloaded):
        Waiting(channel, 1, wait_s=30)
    assert await read(channel, 0) == [b"x"]


async def test_an_offset_past_either_end_says_where_the_log_is(start: StartBroker) -> None:
    """OUT_OF_RANGE with the first and the next offset."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    with pytest.raises(OffsetOutOfRange) as caught:
        await read(channel, 2)
    assert caught.value.details() == {"log_start_offset": 0, "next_offset": 1}


async def test_a_time_is_an_offset_and_the_future_is_refused(start: StartBroker) -> None:
    """The first record at or after it."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    first = await publish_batch(channel, b"x", b"y")
    second = await publish_batch(channel, b"z")

    async def seek(time_ns: int) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel.reads.seek_time(time_ns, future.set_result)
        return await asyncio.wait_for(future, 20)

    assert await seek(0) == 0
    assert await seek(first.append_time_ns) == 0
    assert await seek(second.append_time_ns) == 2
    with pytest.raises(OffsetOutOfRange, match="ahead of the broker's clock"):
        await seek(second.append_time_ns + 10**12)


async def test_too_large_a_message_is_refused_by_one_byte(start: StartBroker) -> None:
    """The limit itself is taken."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig(max_message_bytes=100))
    assert await publish(channel, bytes(100)) == 0
    with pytest.raises(MessageTooLarge, match="101 bytes"):
        await publish(channel, bytes(101))


async def test_bad_settings_are_refused_by_name(start: StartBroker) -> None:
    """At creation and later; nothing is stored."""
    broker = await start()
    with pytest.raises(InvalidArgument, match="segment_bytes is 1"):
        await broker.channels.create("a", ChannelConfig(segment_bytes=1))
    assert broker.channels.names() == []
    await broker.channels.create("a", ChannelConfig())
    with pytest.raises(InvalidArgument, match="max_message_bytes is 0"):
        await broker.channels.configure("a", ChannelConfig(max_message_bytes=0))


async def test_settings_change_and_stay_changed(start: StartBroker) -> None:
    """What is not given stays as it was, over a restart too."""
    broker = await start()
    await broker.channels.create("a", ChannelConfig(segment_bytes=1 << 16))
    await broker.channels.configure("a", ChannelConfig(durability=Durability.WRITTEN))
    await broker.stop(5)
    again = await start()
    assert again.channels.get("a").meta.config == ChannelConfig(1 << 16, Durability.WRITTEN)


async def test_too_much_waiting_to_be_written_is_pushed_back(start: StartBroker) -> None:
    """The publisher is told to wait; what was taken is stored."""
    broker = await start(pending_bytes_max=1000)
    channel = await broker.channels.create("a", ChannelConfig())
    first = asyncio.ensure_future(publish(channel, bytes(900)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await publish(channel, bytes(900))
    assert await first == 0
    assert await publish(channel, bytes(900)) == 1
    assert broker.stats.pending_publish_bytes == 0


async def test_what_waits_is_bounded_over_all_channels(start: StartBroker) -> None:
    """However many channels there are; and it passes."""
    broker = await start(pending_bytes_max=1000)
    channels = [await broker.channels.create(f"c{n}", ChannelConfig()) for n in range(6)]
    outcomes = await asyncio.gather(
        *(publish(channel, bytes(900)) for channel in channels), return_exceptions=True
    )
    assert outcomes[:4] == [0] * 4
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes[4:])
    assert await publish(channels[5], bytes(900)) == 0


async def test_a_bad_batch_in_a_group_fails_alone(start: StartBroker) -> None:
    """A sequence gap takes none of its neighbours with it."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await publish_batch(channel, b"1", producer_id=7, sequence=1)
    outcomes = await asyncio.gather(
        publish_batch(channel, b"2", producer_id=7, sequence=2),
        publish_batch(channel, b"9", producer_id=7, sequence=9),
        publish(channel, b"3"),
        publish_batch(channel, b"1", producer_id=7, sequence=1),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], SequenceGap)
    repeated: Any = outcomes[3]
    assert repeated.duplicate
    assert repeated.base_offset == 0
    assert await read(channel, 0) == [b"1", b"2", b"3"]


async def test_a_failed_sync_stops_that_channel_alone(start: StartBroker) -> None:
    """No false acknowledgement, reads go on, the other channel works, a restart heals."""
    files = FaultyFiles()
    broker = await start(files)
    bad = await broker.channels.create("bad", ChannelConfig())
    good = await broker.channels.create("good", ChannelConfig())
    await publish(bad, b"kept")
    files.sync_error, files.fail_channel = errno.EIO, bad.meta.id.hex()
    with pytest.raises(ChannelReadOnly, match="restarted"):
        await publish(bad, b"lost")
    files.sync_error = None
    with pytest.raises(ChannelReadOnly):
        await publish(bad, b"refused")
    assert await read(bad, 0) == [b"kept"]
    assert await publish(good, b"fine") == 0
    assert broker.stats.read_only_channels == 1
    await broker.stop(5)
    again = await start()
    channel = again.channels.get("bad")
    await publish(channel, b"more")
    contents = await read(channel, 0)
    assert contents in ([b"kept", b"more"], [b"kept", b"lost", b"more"])


async def test_a_nearly_full_disk_refuses_publishes_and_serves_pulls(start: StartBroker) -> None:
    """It is refused before anything is written, and works again by itself."""
    files = FaultyFiles()
    broker = await start(files, free_bytes_min=1 << 20)
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    files.free = (1 << 20) - 1
    broker.shared.disk._checked_s = -1.0
    with pytest.raises(DiskFull):
        await publish(channel, b"y")
    assert await read(channel, 0) == [b"x"]
    files.free = 1 << 20
    broker.shared.disk._checked_s = -1.0
    assert await publish(channel, b"y") == 1


async def test_more_channels_than_may_be_open_take_turns(
    start: StartBroker,
) -> None:
    """Every message of every channel is there, and few logs are open."""
    broker = await start(open_channels_max=2)
    channels = [await broker.channels.create(f"c{n}", ChannelConfig()) for n in range(8)]
    for turn in range(3):
        for channel in channels:
            assert await publish(channel, b"%d" % turn) == turn
    for channel in channels:
        assert await read(channel, 0) == [b"0", b"1", b"2"]
    assert broker.scrape().open_channels <= 3


async def test_a_closed_channel_lets_pulls_wait_and_wakes_them(start: StartBroker) -> None:
    """A pull at the end of a channel that was closed meanwhile."""
    broker = await start(open_channels_max=1)
    first = await broker.channels.create("first", ChannelConfig())
    second = await broker.channels.create("second", ChannelConfig())
    await publish(first, b"x")
    waiting = Waiting(first, 1, wait_s=30)
    await publish(second, b"y")
    await publish(first, b"z")
    assert await waiting.contents() == [b"z"]


async def test_a_deleted_channel_is_gone_with_its_files(start: StartBroker) -> None:
    """Waiting pulls are told, and the name can be used again from offset 0."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    waiting = Waiting(channel, 1, wait_s=30)
    path = broker.data_path / "channels" / channel.meta.id.hex()
    assert path.exists()
    await broker.channels.delete("a")
    assert not path.exists()
    with pytest.raises(ChannelNotFound):
        await waiting.contents()
    with pytest.raises(ChannelNotFound):
        await publish(channel, b"y")
    with pytest.raises(ChannelNotFound):
        broker.channels.get("a")
    again = await broker.channels.create("a", ChannelConfig())
    assert await publish(again, b"new") == 0


@pytest.mark.parametrize("wait", [0, 1])
async def test_deleting_while_it_opens_or_commits_is_orderly(start: StartBroker, wait: int) -> None:
    """Whatever was going on, its publisher is answered and the directory is gone."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    publishing = asyncio.ensure_future(publish(channel, b"x"))
    for _ in range(wait):
        await asyncio.sleep(0)
    await broker.channels.delete("a")
    outcome = (await asyncio.gather(publishing, return_exceptions=True))[0]
    assert outcome == 0 or isinstance(outcome, ChannelNotFound)
    assert list((broker.data_path / "channels").iterdir()) == []


async def test_a_channel_that_can_t_be_opened_leaves_the_others(start: StartBroker) -> None:
    """It says why, and nothing of it is touched."""
    broker = await start()
    bad = await broker.channels.create("bad", ChannelConfig())
    await broker.channels.create("good", ChannelConfig())
    await publish(bad, b"x")
    directory = broker.data_path / "channels" / bad.meta.id.hex()
    await broker.stop(5)
    (directory / "00000000000000000000.seg").unlink()
    before = sorted(p.name for p in directory.iterdir())
    again = await start()
    bad = again.channels.get("bad")
    await bad.life.resolve()
    assert bad.state is State.FAILED
    with pytest.raises(MQError, match="missing"):
        await publish(again.channels.get("bad"), b"y")
    assert await publish(again.channels.get("good"), b"y") == 0
    assert sorted(p.name for p in directory.iterdir()) == before


async def test_damage_reaches_the_reader_with_its_range(start: StartBroker) -> None:
    """The frames before and after stay readable."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    for n in range(3):
        await publish_batch(channel, b"%d" % n * 50, b"x")
    path = log_of(channel).segments[0].path
    await broker.stop(5)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"1" * 50)] ^= 1
    path.write_bytes(raw)
    again = await start()
    channel = again.channels.get("a")
    assert await read(channel, 0) == [b"0" * 50, b"x"]
    with pytest.raises(DataLoss) as caught:
        await read(channel, 2)
    assert caught.value.details() == {"first_offset": 2, "next_offset": 4}
    assert await read(channel, 4) == [b"2" * 50, b"x"]


async def test_a_stopping_broker_answers_what_waits(
    start: StartBroker,
) -> None:
    """Pending publishes are acknowledged, waiting pulls get nothing, new work is refused."""
    broker = await start()
    channel = await broker.channels.create("a", ChannelConfig())
    await publish(channel, b"x")
    waiting = Waiting(channel, 1, wait_s=30)
    pending = asyncio.ensure_future(publish(channel, b"y"))
    await asyncio.sleep(0)
    await broker.stop(5)
    assert await pending == 1
    assert await waiting.contents() == []
    with pytest.raises(Unavailable):
        await publish(channel, b"z")
    again = await start()
    assert await read(again.channels.get("a"), 0) == [b"x", b"y"]
    assert log_of(again.channels.get("a")).notices == []


async def test_many_channels_commit_side_by_side(start: StartBroker) -> None:
    """A hundred channels, all dirty at once, each with its own offsets."""
    broker = await start()
    channels = [await broker.channels.create(f"c{n}", ChannelConfig()) for n in range(100)]
    offsets = await asyncio.gather(*(publish(c, b"x") for c in channels for _ in range(3)))
    assert sorted(offsets) == [0] * 100 + [1] * 100 + [2] * 100
