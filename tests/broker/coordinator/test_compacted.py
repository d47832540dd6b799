"""Consumer groups of a compacted channel: nothing that is gone is handed out, or waited for."""

from __future__ import annotations

import random

import pytest

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.coordinator.runner import Fetched, GroupRunner
from mq.broker.groups.config import GroupConfig, Mode
from mq.log.log import Log
from tests.broker.conftest import StartBroker
from tests.broker.help import log_of
from tests.broker.test_compaction import COMPACTED, fill, pass_over, publish_keyed, read
from tests.log.batches import UnsyncedFiles

MODES = (Mode.SHARED, Mode.KEY_ORDERED)


async def make(broker: Broker, mode: Mode = Mode.SHARED) -> tuple[Channel, GroupRunner]:
    """A channel with much that is superseded, and a group at its beginning."""
    channel = await broker.channels.create("facts", COMPACTED)
    await fill(channel, random.Random(1), 60)
    groups = await broker.groups.of(channel)
    return channel, await groups.create("workers", GroupConfig(mode=mode, max_deliveries=3), 0)


async def take(runner: GroupRunner, count: int) -> Fetched:
    """Fetch up to so many records."""
    return await runner.fetch("c", max_records=count, max_bytes=1 << 20, wait_s=0)


def offsets(fetched: Fetched) -> list[int]:
    """The offsets that were leased."""
    return [o for first, following, _ in fetched.deliveries for o in range(first, following)]


async def finish(runner: GroupRunner, count: int = 7) -> list[int]:
    """Fetch and acknowledge until there is nothing left; the offsets."""
    found: list[int] = []
    while (fetched := await take(runner, count)).deliveries:
        found += offsets(fetched)
        outcomes = await runner.ack("c", [(d.first, d.next) for d in fetched.deliveries])
        assert all(outcome.refusal is None for outcome in outcomes)
    return found


def check_done(runner: GroupRunner, channel: Channel) -> None:
    """The group is behind by nothing, and holds nothing back."""
    end = channel.durable_offset
    stats = runner.group.stats(end, 0)
    assert (stats.in_flight, stats.waiting, stats.dead) == (0, 0, 0)
    assert runner.group.floor == runner.group.retain_offset == end


async def left_in(channel: Channel) -> list[int]:
    """The offsets that have a record."""
    return [record.offset for record in await read(channel)]


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_gone_is_not_handed_out(start: StartBroker, mode: Mode) -> None:
    """And counts as done, so that nothing waits for it."""
    broker = await start(UnsyncedFiles())
    channel, group = await make(broker, mode)
    await pass_over(channel)
    left = await left_in(channel)
    assert len(left) < channel.durable_offset
    assert sorted(await finish(group)) == left
    check_done(group, channel)


@pytest.mark.parametrize("mode", MODES)
async def test_what_goes_after_the_group_knew_of_it_is_not_handed_out(
    start: StartBroker, mode: Mode
) -> None:
    """Some is done by then, some is leased, some is waiting for its next delivery."""
    broker = await start(UnsyncedFiles())
    channel, group = await make(broker, mode)
    done = offsets(await take(group, 5))
    await group.ack("c", [(o, o + 1) for o in done])
    failed = offsets(await take(group, 5))
    await group.nack("c", [(o, o + 1) for o in failed], 0, "later")
    leased = offsets(await take(group, 5))
    await pass_over(channel)
    outcomes = await group.ack("c", [(o, o + 1) for o in leased])
    assert all(outcome.refusal is None for outcome in outcomes)
    rest = await finish(group)
    left = await left_in(channel)
    settled = {*done, *leased}
    assert sorted(rest) == [o for o in left if o not in settled]
    check_done(group, channel)


@pytest.mark.parametrize("mode", MODES)
async def test_gaps_are_remembered_after_a_restart(start: StartBroker, mode: Mode) -> None:
    """In the middle of it, and after a seek back to the beginning."""
    broker = await start(UnsyncedFiles())
    channel, group = await make(broker, mode)
    before = offsets(await take(group, 30))
    await group.ack("c", [(o, o + 1) for o in before])
    await pass_over(channel)
    some = offsets(await take(group, 10))
    await group.ack("c", [(o, o + 1) for o in some])
    left = await left_in(channel)
    await broker.stop(5)
    broker = await start(UnsyncedFiles())
    channel = broker.channels.get("facts")
    await channel.life.ready()
    group = (await broker.groups.of(channel)).get("workers")
    rest = await finish(group)
    assert sorted(rest) == [o for o in left if o not in {*before, *some}]
    check_done(group, channel)
    await group.seek(0)
    assert sorted(await finish(group)) == left
    check_done(group, channel)


async def test_a_long_gap_is_passed_at_once(start: StartBroker) -> None:
    """One entry of the journal, however many records are gone."""
    broker = await start(UnsyncedFiles())
    channel = await broker.channels.create("facts", COMPACTED)
    for _ in range(40):
        await publish_keyed(channel, *((b"one", b"x" * 30) for _ in range(100)))
    group = await (await broker.groups.of(channel)).create("workers", GroupConfig(), 0)
    await pass_over(channel)
    log: Log = log_of(channel)
    first = await take(group, 10)
    assert first.deliveries[0].first >= log.segments[-1].base_offset - 1
    assert group.group.floor == first.deliveries[0].first
