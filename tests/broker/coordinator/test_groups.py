"""Consumer groups of a running broker: leases, acks, redelivery, death, restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from crc32c import crc32c

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.coordinator.records import attributes_of, find_record
from mq.broker.coordinator.runner import Fetched, GroupRunner
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.plan import Refusal
from mq.broker.model import ChannelConfig, Durability
from mq.broker.store import Append
from mq.errors import (
    DataLoss,
    DiskFull,
    FailedPrecondition,
    Fenced,
    GroupNotFound,
    InvalidArgument,
    MQError,
    OffsetOutOfRange,
    Unavailable,
)
from mq.pb import mq_pb2 as pb
from tests.broker.conftest import StartBroker
from tests.broker.help import log_of, publish_batch, raised

SECOND_NS = 1_000_000_000


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the broker does on its own, with a limit."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 the broker has no event for tests
            await asyncio.sleep(0.005)


async def publish_records(channel: Channel, columns: pb.Records) -> None:
    """Publish a batch with any columns."""
    data = columns.SerializeToString()
    append = Append(data, len(columns.contents), crc32c(data), attributes=attributes_of(columns))
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.publish_batch(append, Durability.SYNCED, lambda outcome, _: done.set_result(outcome))
    raised(await asyncio.wait_for(done, 20))


async def make(
    broker: Broker, count: int = 0, config: GroupConfig | None = None, name: str = "jobs"
) -> tuple[Channel, GroupRunner]:
    """A channel with messages ``0``, ``1``, … and a group ``workers`` at its beginning."""
    channel = await broker.channels.create(name, ChannelConfig())
    if count:
        await publish_batch(channel, *(b"%d" % n for n in range(count)))
    groups = await broker.groups.of(channel)
    return channel, await groups.create("workers", config or GroupConfig(), 0)


async def take(
    runner: GroupRunner, consumer: str = "c", count: int = 100, wait_s: float = 0, **more: int
) -> Fetched:
    """Fetch with the usual limits."""
    more.setdefault("max_bytes", 1 << 20)
    return await asyncio.wait_for(
        runner.fetch(consumer, max_records=count, wait_s=wait_s, **more), 20
    )


async def take_all(runner: GroupRunner) -> dict[int, int]:
    """Fetch until nothing is left: delivery counts by offset."""
    counts: dict[int, int] = {}
    while (fetched := await take(runner, "all", 10_000)).deliveries:
        contents(fetched)
        for first, after, count in fetched.deliveries:
            counts |= dict.fromkeys(range(first, after), count)
    return counts


def contents(fetched: Fetched) -> list[bytes]:
    """The contents of what was leased."""
    data = b"".join(fetched.frames)
    found = []
    for first, after, _ in fetched.deliveries:
        for offset in range(first, after):
            record = find_record(data, offset)
            assert record is not None, f"offset {offset} was leased and not sent"
            found.append(record.content)
    return found


def ranges(fetched: Fetched) -> list[tuple[int, int]]:
    """The offsets that were leased."""
    return [(first, after) for first, after, _ in fetched.deliveries]


async def test_consumers_share_a_channel(start: StartBroker) -> None:
    """Each message goes to one of them, in offset order."""
    _, group = await make(await start(), 10)
    one = await take(group, "one", 4)
    two = await take(group, "two", 100)
    assert contents(one) == [b"0", b"1", b"2", b"3"]
    assert contents(two) == [b"4", b"5", b"6", b"7", b"8", b"9"]
    assert (await take(group, "one")).deliveries == []
    assert await group.ack("one", ranges(one)) == ((0, 4, None),)
    assert group.group.floor == 4


async def test_acknowledgements_go_on_while_publishes_are_refused(start: StartBroker) -> None:
    """With too little room on the disk: they are what lets retention make some."""
    broker = await start()
    channel, group = await make(broker, 10)
    broker.shared.disk._free_bytes_min = 1 << 62
    with pytest.raises(DiskFull):
        await publish_batch(channel, b"x")
    fetched = await take(group)
    assert await group.ack("c", ranges(fetched)) == ((0, 10, None),)
    assert group.group.floor == 10


async def test_a_waiting_fetch_is_answered_by_a_publish(start: StartBroker) -> None:
    """One waiter a message, without polling."""
    channel, group = await make(await start())
    waiting = [asyncio.ensure_future(take(group, f"c{n}", 1, wait_s=15)) for n in range(3)]
    await until(lambda: len(group._waiting) == 3)
    await publish_batch(channel, b"a", b"b", b"c")
    got = sorted(c for fetched in await asyncio.gather(*waiting) for c in contents(fetched))
    assert got == [b"a", b"b", b"c"]


async def test_a_fetch_that_is_given_up_takes_nothing_along(start: StartBroker) -> None:
    """The next consumer gets what its place in the queue would have had."""
    channel, group = await make(await start())
    first = asyncio.ensure_future(take(group, "first", 1, wait_s=15))
    await until(lambda: len(group._waiting) == 1)
    second = asyncio.ensure_future(take(group, "second", 1, wait_s=15))
    await until(lambda: len(group._waiting) == 2)
    first.cancel()
    await publish_batch(channel, b"a")
    assert contents(await second) == [b"a"]


async def test_a_lapsed_lease_goes_to_the_next(start: StartBroker) -> None:
    """With its delivery counted; the late acknowledgement is refused."""
    _, group = await make(await start(), 3)
    late = await take(group, "late", lease_ms=20)
    again = await take(group, "quick", wait_s=15)
    assert contents(again) == [b"0", b"1", b"2"]
    assert [d.delivery_count for d in again.deliveries] == [2]
    (refused,) = await group.ack("late", ranges(late))
    assert refused.refusal is Refusal.OTHER
    assert await group.ack("quick", ranges(again)) == ((0, 3, None),)


async def test_a_nacked_message_comes_back_after_its_delay(start: StartBroker) -> None:
    """And a wait of no length means at once."""
    _, group = await make(await start(), 2)
    await take(group, "c", 1)
    await group.nack("c", [(0, 1)], 0, "try again")
    assert (await take(group, "c", 1)).deliveries == [(0, 1, 2)]
    await group.nack("c", [(0, 1)], 30, "later")
    assert contents(await take(group, "c", 5)) == [b"1"]
    assert (await take(group, "d", 5, wait_s=15)).deliveries == [(0, 1, 3)]


async def test_a_release_is_not_counted(start: StartBroker) -> None:
    """A consumer that closes in order hands all back, as if it had never been."""
    _, group = await make(await start(), 3)
    await take(group, "c")
    await group.release("c")
    assert (await take(group, "d")).deliveries == [(0, 3, 1)]


async def test_a_part_can_be_handed_back(start: StartBroker) -> None:
    """Uncounted, and only what the consumer has; the rest stays leased to it."""
    _, group = await make(await start(), 6)
    await take(group, "c", 4)
    await take(group, "d", 2)
    group.hand_back("c", [(1, 3), (4, 6), (9, 12)])
    assert (await take(group, "e")).deliveries == [(1, 3, 1)]
    assert all(o.refusal is None for o in await group.ack("c", [(0, 1), (3, 4)]))
    assert all(o.refusal is None for o in await group.ack("d", [(4, 6)]))


async def test_a_fenced_consumer_hands_nothing_back(start: StartBroker) -> None:
    """Not even under the name that it had: that may be in use again."""
    _, group = await make(await start(), 2, GroupConfig(mode=Mode.EXCLUSIVE))
    old = await take(group, "c", 1)
    new = await take(group, "c", 1)
    group.hand_back("c", [(0, 2)], old.epoch)
    held = new.deliveries[0]
    (outcome,) = await group.ack("c", [(held.first, held.next)], new.epoch)
    assert outcome.refusal is None


async def test_acknowledgements_survive_a_restart_and_leases_don_t(start: StartBroker) -> None:
    """What was leased is delivered again, what was acknowledged is not."""
    broker = await start()
    channel, group = await make(broker, 10)
    await take(group, "c", 6)
    await group.ack("c", [(0, 2), (4, 5)])
    await group.nack("c", [(3, 4)], 0, "")
    await broker.stop(5)
    again = await start()
    groups = await again.groups.of(again.channels.get(channel.name))
    recovered = groups.get("workers")
    deliveries = await take_all(recovered)
    assert sorted(deliveries) == [2, 3, 5, 6, 7, 8, 9]
    assert deliveries[3] == 2


async def test_a_snapshot_stands_for_the_journal_before_it(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is trimmed, and the groups come back the same."""
    monkeypatch.setattr("mq.broker.coordinator.groups._SNAPSHOT_EVERY_BYTES", 2000)
    broker = await start()
    channel, group = await make(broker, 3000)
    await broker.channels.configure(channel.name, ChannelConfig(segment_bytes=1 << 16))
    hidden = (await broker.groups.of(channel)).journal.log
    await take(group, "c", 3000)
    for n in range(0, 3000, 2):
        await group.ack("c", [(n, n + 1)])
    await until(lambda: not hidden.queue.busy)
    await broker.stop(5)
    again = await start()
    groups = await again.groups.of(again.channels.get(channel.name))
    recovered = groups.get("workers")
    assert recovered.group.stats(3000, 0).acked == 1500
    assert recovered.group.stats(3000, 0).behind == 1500
    assert len(await take_all(recovered)) == 1500


async def test_too_often_delivered_is_dead_once(start: StartBroker) -> None:
    """With its content, key and headers, and what became of it."""
    broker = await start()
    channel, group = await make(broker, 0, GroupConfig(max_deliveries=2))
    header = pb.Headers(entries=[pb.Header(key="trace", value=b"7")])
    await publish_records(channel, pb.Records(contents=[b"poison"], keys=[b"k"], headers=[header]))
    for _ in range(2):
        fetched = await take(group, "c", wait_s=15)
        await group.nack("c", ranges(fetched), 0, "can't parse")
    await until(lambda: broker.channels.find("jobs.dead") is not None)
    dead = broker.channels.get("jobs.dead")
    await until(lambda: dead.durable_offset == 1 and not group.group.dead_letters(1))
    data, _ = await dead.reads.frames(0, 1 << 20)
    record = find_record(data, 0)
    assert record is not None
    assert (record.content, record.key) == (b"poison", b"k")
    headers = dict(record.headers)
    assert headers["trace"] == b"7"
    assert headers["mq-dead-channel"] == b"jobs"
    assert headers["mq-dead-offset"] == b"0"
    assert headers["mq-dead-deliveries"] == b"2"
    assert headers["mq-dead-reason"] == b"can't parse"
    assert (await take(group, "c")).deliveries == []


async def test_a_dead_letter_published_before_a_crash_is_not_published_again(
    start: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal doesn't know that it was; the dead-letter channel does."""
    broker = await start()
    channel, group = await make(broker, 20, GroupConfig(max_deliveries=1))
    monkeypatch.setattr(
        group.group, "dead_done", lambda *_: (_ for _ in ()).throw(Unavailable("crash"))
    )
    fetched = await take(group, "c")
    await group.nack("c", ranges(fetched), 0, "bad")
    dead_name = f"{channel.name}.dead"
    await until(
        lambda: (d := broker.channels.find(dead_name)) is not None and d.durable_offset == 8
    )
    await broker.stop(5)
    again = await start()
    groups = await again.groups.of(again.channels.get(channel.name))
    recovered = groups.get("workers")
    dead = again.channels.get(dead_name)
    await until(lambda: not recovered.group.dead_letters(1))
    assert dead.durable_offset == 20
    offsets = []
    for offset in range(20):
        record = find_record((await dead.reads.frames(offset, 1, 1))[0], offset)
        assert record is not None
        offsets.append(int(dict(record.headers)["mq-dead-offset"]))
    assert offsets == list(range(20))


async def test_redriven_letters_come_back(start: StartBroker) -> None:
    """With the headers they had, and each once."""
    broker = await start()
    channel, group = await make(broker, 3, GroupConfig(max_deliveries=1))
    fetched = await take(group, "c")
    await group.nack("c", ranges(fetched), 0, "bad")
    await until(lambda: not group.group.dead_letters(1))
    assert await broker.groups.redrive(channel, group, 2) == 2
    assert await broker.groups.redrive(channel, group, 0) == 1
    assert await broker.groups.redrive(channel, group, 0) == 0
    again = await take(group, "c")
    assert contents(again) == [b"0", b"1", b"2"]
    record = find_record(b"".join(again.frames), 3)
    assert record is not None
    assert record.headers == ()


async def test_delayed_and_expired_messages(start: StartBroker) -> None:
    """Not before their time, and not after it; others go ahead."""
    channel, group = await make(await start())
    await publish_records(
        channel,
        pb.Records(
            contents=[b"later", b"now", b"gone"],
            deliver_after_ms=[1000, 0, 0],
            expires_after_ms=[0, 0, 1],
        ),
    )
    await asyncio.sleep(0.005)
    assert contents(await take(group, "c", wait_s=15)) == [b"now"]
    assert contents(await take(group, "c", wait_s=15)) == [b"later"]
    await until(lambda: group.group.stats(9, 0).expired == 1)


async def test_messages_of_a_key_go_one_after_another(start: StartBroker) -> None:
    """To one consumer at a time; other keys and keyless ones are not held up."""
    channel, group = await make(await start(), 0, GroupConfig(mode=Mode.KEY_ORDERED))
    await publish_records(
        channel, pb.Records(contents=[b"a1", b"b1", b"a2", b"x"], keys=[b"a", b"b", b"a", b""])
    )
    one = await take(group, "one", 1)
    two = await take(group, "two", 10)
    assert contents(one) == [b"a1"]
    assert contents(two) == [b"b1", b"x"]
    assert (await take(group, "three")).deliveries == []
    await group.ack("one", ranges(one))
    assert contents(await take(group, "three")) == [b"a2"]


async def test_an_exclusive_group_has_one_active_consumer(start: StartBroker) -> None:
    """The other stands by, takes over on release, and the first is fenced."""
    _, group = await make(await start(), 4, GroupConfig(mode=Mode.EXCLUSIVE))
    one = await take(group, "one", 1)
    assert one.active
    standby = await take(group, "two")
    assert not standby.active
    assert standby.deliveries == []
    waiting = asyncio.ensure_future(take(group, "two", wait_s=15))
    await until(lambda: bool(group._waiting))
    await group.release("one", one.epoch)
    two = await waiting
    assert contents(two) == [b"0", b"1", b"2", b"3"]
    assert two.epoch > one.epoch
    (refused,) = await group.ack("one", [(0, 1)], one.epoch)
    assert refused.refusal is Refusal.FENCED
    with pytest.raises(Fenced):
        await take(group, "one", epoch=one.epoch)


async def test_what_is_too_much_for_one_answer_stays_for_the_next(start: StartBroker) -> None:
    """Limited by bytes, at least one frame; the rest is not leased, and not counted."""
    channel, group = await make(await start())
    for n in range(5):
        await publish_batch(channel, bytes([n]) * 1000)
    first = await take(group, "c", 5, max_bytes=2500)
    assert ranges(first) == [(0, 3)]
    rest = await take(group, "d", 5)
    assert [tuple(d) for d in rest.deliveries] == [(3, 5, 1)]


async def test_retention_waits_for_the_groups_and_they_go_with_it(start: StartBroker) -> None:
    """Held until acknowledged if the channel says so; otherwise the group is trimmed."""
    broker = await start(segment_bytes=1 << 16)
    config = ChannelConfig(retention_bytes=1 << 16, retain_unacknowledged=True)
    channel = await broker.channels.create("jobs", config)
    groups = await broker.groups.of(channel)
    group = await groups.create("workers", GroupConfig(), 0)
    for _ in range(30):
        await publish_batch(channel, bytes(10_000))
    await until(lambda: not channel.queue.busy)
    assert channel.log_start_offset == 0
    fetched = await take(group, "c", 20, max_bytes=10 << 20)
    await group.ack("c", ranges(fetched))
    await channel.upkeep.purge(None, dry_run=False)
    assert 0 < channel.log_start_offset <= 20
    await channel.upkeep.purge(30, dry_run=False)
    assert (await take(group, "c", 30)).deliveries == []
    assert group.group.floor == 30


async def test_retention_after_a_restart_asks_the_groups_first(start: StartBroker) -> None:
    """Nothing unacknowledged goes before the groups are recovered."""
    broker = await start()
    config = ChannelConfig(retention_ms=1, retain_unacknowledged=True)
    channel = await broker.channels.create("jobs", config)
    groups = await broker.groups.of(channel)
    await groups.create("workers", GroupConfig(), 0)
    await publish_batch(channel, b"x")
    await broker.stop(5)
    again = await start(retention_interval_s=0.01)
    channel = again.channels.get("jobs")
    await until(lambda: again.groups.in_use(channel) and len(log_of(channel).segments) == 2)
    await asyncio.sleep(0.05)
    assert channel.log_start_offset == 0


async def test_damage_is_told_to_the_consumer_that_has_it(start: StartBroker) -> None:
    """It keeps the lease, acknowledges, and goes on; others are not held up."""
    broker = await start()
    channel, _ = await make(broker)
    for n in range(3):
        await publish_batch(channel, b"%d" % n * 50)
    path = log_of(channel).segments[0].path
    await broker.stop(5)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"1" * 50)] ^= 1
    path.write_bytes(raw)
    again = await start()
    channel = again.channels.get("jobs")
    group = (await again.groups.of(channel)).get("workers")
    first = await take(group, "c")
    assert contents(first) == [b"0" * 50]
    with pytest.raises(DataLoss) as caught:
        await take(group, "c")
    assert (caught.value.first_offset, caught.value.next_offset) == (1, 2)
    assert contents(await take(group, "d")) == [b"2" * 50]
    assert await group.ack("c", [(1, 2)]) == ((1, 2, None),)


async def test_lag_is_in_messages_bytes_and_seconds(start: StartBroker) -> None:
    """Of what is not acknowledged; nothing once all is."""
    now = [10**18]
    broker = await start(clock_ns=lambda: now[0])
    _, group = await make(broker, 10)
    now[0] += 7 * SECOND_NS
    lag = await group.meter.lag()
    assert lag.stats.behind == 10
    assert lag.bytes_behind > 10
    assert lag.seconds_behind == 7.0
    await group.ack("c", ranges(await take(group, "c")))
    lag = await group.meter.lag()
    assert (lag.stats.behind, lag.bytes_behind, lag.seconds_behind) == (0, 0, 0.0)


async def test_a_group_moves_and_commits(start: StartBroker) -> None:
    """Seek within the channel, commit without leases, and neither past an end."""
    _, group = await make(await start(), 10)
    await group.seek(7)
    assert contents(await take(group, "c")) == [b"7", b"8", b"9"]
    with pytest.raises(OffsetOutOfRange):
        await group.seek(11)
    with pytest.raises(FailedPrecondition, match="leased"):
        await group.commit(9)
    await group.seek(0)
    await group.commit(4)
    assert group.group.committed == 4


async def test_groups_are_made_once_listed_and_deleted(start: StartBroker) -> None:
    """A second creation finds the first; a deleted group is unknown, and can be made anew."""
    broker = await start()
    channel, group = await make(broker, 3)
    groups = await broker.groups.of(channel)
    assert await groups.create("workers", GroupConfig(), 2) is group
    made = await asyncio.gather(*(groups.create("b", GroupConfig(), 0) for _ in range(3)))
    assert made[0] is made[1] is made[2]
    assert [runner.name for runner in groups.runners] == ["b", "workers"]
    await groups.delete("workers")
    with pytest.raises(GroupNotFound):
        groups.get("workers")
    with pytest.raises(GroupNotFound):
        await take(group)
    await broker.stop(5)
    again = await start()
    recovered = await again.groups.of(again.channels.get(channel.name))
    assert [runner.name for runner in recovered.runners] == ["b"]


@pytest.mark.parametrize("name", ("", "../x", "a b", "x" * 256))
async def test_a_bad_group_name_is_refused(start: StartBroker, name: str) -> None:
    """As for channels."""
    broker = await start()
    channel, _ = await make(broker)
    with pytest.raises(InvalidArgument):
        await (await broker.groups.of(channel)).create(name, GroupConfig(), 0)


async def test_a_start_past_the_end_is_refused_and_nothing_is_made(start: StartBroker) -> None:
    """The error says where the channel is."""
    broker = await start()
    channel, _ = await make(broker, 3)
    groups = await broker.groups.of(channel)
    with pytest.raises(OffsetOutOfRange):
        await groups.create("late", GroupConfig(), 4)
    assert [runner.name for runner in groups.runners] == ["workers"]


async def test_dead_letters_to_its_own_channel_are_refused(start: StartBroker) -> None:
    """They would come back for ever."""
    broker = await start()
    channel, group = await make(broker)
    groups = await broker.groups.of(channel)
    with pytest.raises(InvalidArgument, match="own channel"):
        await groups.configure(group, GroupConfig(dead_letter_channel="jobs"))


async def test_dead_letters_to_what_can_be_no_channel_are_refused(start: StartBroker) -> None:
    """They would wait for ever, and nobody but the broker's log would tell."""
    broker = await start()
    channel, group = await make(broker)
    groups = await broker.groups.of(channel)
    nowhere = GroupConfig(dead_letter_channel="no such name!")
    with pytest.raises(InvalidArgument, match="can't be a channel name"):
        await groups.create("others", nowhere, 0)
    with pytest.raises(InvalidArgument, match="can't be a channel name"):
        await groups.configure(group, nowhere)
    assert [runner.name for runner in groups.runners] == ["workers"]


async def test_deleting_a_channel_deletes_its_groups(start: StartBroker) -> None:
    """A channel of the same name begins without any."""
    broker = await start()
    channel, group = await make(broker, 3)
    waiting = asyncio.ensure_future(take(group, "c", 1, wait_s=0))
    await waiting
    await broker.channels.delete(channel.name)
    with pytest.raises(MQError):
        await take(group)
    assert list((broker.data_path / "groups").iterdir()) == []
    _, again = await make(broker, 1)
    assert contents(await take(again)) == [b"0"]


async def test_a_stopping_broker_ends_waiting_fetches(start: StartBroker) -> None:
    """With an error that says to come back."""
    broker = await start()
    _, group = await make(broker)
    waiting = asyncio.ensure_future(take(group, "c", wait_s=15))
    await until(lambda: bool(group._waiting))
    broker.refuse()
    with pytest.raises(Unavailable):
        await waiting


async def test_many_consumers_get_every_message_once(start: StartBroker) -> None:
    """Twenty consumers, many fetches in flight, no message twice within its lease."""
    broker = await start()
    channel, group = await make(broker)
    for n in range(40):
        await publish_batch(channel, *(b"%d" % (n * 50 + m) for m in range(50)))
    got: list[bytes] = []

    async def consume(name: str) -> None:
        while (fetched := await take(group, name, 17)).deliveries:
            got.extend(contents(fetched))
            assert all(o.refusal is None for o in await group.ack(name, ranges(fetched)))

    await asyncio.gather(*(consume(f"c{n}") for n in range(20)))
    assert sorted(map(int, got)) == list(range(2000))
    assert group.group.floor == 2000
