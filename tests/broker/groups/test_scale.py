"""A group with a million of everything. Run with ``-m bench -s`` for the figures."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.broker.groups import Group, GroupConfig, Mode
from mq.broker.groups.ranges import Range
from tests.broker.groups.shell import START_MS, Shell

MILLION = 1_000_000
LONG_MS = 3_600_000


def resident_mb() -> float:
    """How much memory the process has, MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measure(what: str, count: int, work: Callable[[], object]) -> None:
    """Print what one of ``count`` took, in processor time."""
    begin = time.process_time()
    work()
    took_us = (time.process_time() - begin) * 1e6 / count
    print(f"{what:44} {took_us:10.1f} us")  # noqa: T201


def ack(shell: Shell, ranges: list[Range]) -> None:
    """Acknowledge, without a journal."""
    group = shell.group
    plan = group.ack("ann", ranges, shell.now_ms)
    group.confirm(plan, shell.now_ms)


def lease(shell: Shell, messages: int, at_once: int = 500) -> None:
    """Have so many in flight."""
    for _ in range(messages // at_once):
        shell.group.fetch("ann", shell.now_ms, at_once, LONG_MS)


def every_other_acked(messages: int) -> Shell:
    """A group with half of its messages acknowledged, none beside another."""
    shell = Shell(end=messages)
    lease(shell, messages)
    for first in range(0, messages, 500):
        ack(shell, [(o, o + 1) for o in range(first + 1, first + 500, 2)])
    return shell


def test_memory_follows_ranges_not_messages() -> None:
    """A million in flight or done in whole ranges are a few numbers."""
    shell = Shell(end=MILLION)
    lease(shell, MILLION)
    assert shell.stats.in_flight == MILLION
    ack(shell, [(0, MILLION // 2 + 7)])
    assert shell.stats.behind == MILLION // 2 - 7
    assert len(shell.group.to_snapshot()) < 300


def test_ten_thousand_single_messages_settle_in_any_order() -> None:
    """Nothing is left of them but the floor."""
    shell = every_other_acked(20_000)
    again = Group.recover(shell.group.to_snapshot(), [])
    assert again.stats(20_000, START_MS).behind == 10_000
    rest = list(range(0, 20_000, 2))
    random.Random(1).shuffle(rest)
    for offset in rest:
        ack(shell, [(offset, offset + 1)])
    assert shell.group.floor == 20_000
    assert shell.stats.in_flight == 0


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_fetch_and_ack() -> None:
    """Ranges of 500, in order and with a million in flight."""
    shell = Shell(end=1 << 40)

    def in_order() -> None:
        for _ in range(10_000):
            first, following, _ = shell.group.fetch("ann", shell.now_ms, 500, LONG_MS)[0]
            ack(shell, [(first, following)])

    measure("fetch + ack of 500, in order", 10_000, in_order)
    floor = shell.group.floor
    lease(shell, MILLION)
    order = list(range(floor, floor + MILLION, 500))
    random.Random(1).shuffle(order)

    def at_random() -> None:
        for first in order:
            ack(shell, [(first, first + 500)])
            lease(shell, 500)

    measure("fetch + ack of 500, 1e6 in flight", len(order), at_random)


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_million_single_ranges() -> None:
    """Every other message acknowledged: a million leased, a million done, none together."""
    before_mb = resident_mb()
    shells: list[Shell] = []
    measure(
        "ack of one of 250 ranges", MILLION, lambda: shells.append(every_other_acked(2 * MILLION))
    )
    shell = shells[0]
    used_mb = resident_mb() - before_mb
    print(f"memory {used_mb:.0f} MB")  # noqa: T201
    assert used_mb < 300
    some = random.Random(1).sample(range(0, 2 * MILLION, 2), 50_000)

    def ack_some() -> None:
        for offset in some:
            ack(shell, [(offset, offset + 1)])

    measure("ack of one", len(some), ack_some)
    snapshot: list[bytes] = []
    measure("snapshot", 1, lambda: snapshot.append(shell.group.to_snapshot()))
    print(f"snapshot {len(snapshot[0]) / 1e6:.1f} MB")  # noqa: T201
    measure("recovery", 1, lambda: Group.recover(snapshot[0], []))


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_million_delayed_messages() -> None:
    """Each with a time of its own."""
    before_mb = resident_mb()
    shell = Shell(end=0)
    order = random.Random(1)

    def delay() -> None:
        for first in range(0, MILLION, 1_000):
            times = ((o, order.randrange(1, MILLION)) for o in range(first, first + 1_000))
            shell.advance(first + 1_000, [(o, o + 1, START_MS + t, None) for o, t in times])

    measure("a delayed message", MILLION, delay)
    shell.journal.clear()
    print(f"memory {resident_mb() - before_mb:.0f} MB")  # noqa: T201
    measure("fetch that finds nothing, the first", 1, shell.fetch)
    measure("fetch that finds nothing, the second", 1, shell.fetch)
    snapshot: list[bytes] = []
    measure("snapshot", 1, lambda: snapshot.append(shell.group.to_snapshot()))
    print(f"snapshot {len(snapshot[0]) / 1e6:.1f} MB")  # noqa: T201
    measure("recovery", 1, lambda: Group.recover(snapshot[0], []))
    shell.now_ms += MILLION
    measure("fetch of 500, all due", 1_000, lambda: lease(shell, 500_000))


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_messages_with_keys() -> None:
    """In batches of 500, five thousand keys."""
    shell = Shell(GroupConfig(mode=Mode.KEY_ORDERED))
    order = random.Random(1)
    keys = [b"key-%d" % order.randrange(5_000) for _ in range(500)]

    def go_on() -> None:
        for _ in range(200):
            shell.advance(shell.group.read_offset + 500, (), keys)
            ack(shell, [each[:2] for each in shell.fetch(count=500)])

    measure("advance + fetch + ack of 500 with keys", 200, go_on)
    before_mb = resident_mb()
    for first in range(0, 100_000, 500):
        keys = [b"key-%d" % offset for offset in range(first, first + 500)]
        shell.advance(shell.group.read_offset + 500, (), keys)
    per_key = (resident_mb() - before_mb) * 10
    print(f"memory {per_key:.0f} bytes a message known")  # noqa: T201
