"""The bytes of journal entries and snapshots."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.broker.groups import Group, GroupConfig, Mode
from mq.broker.groups.codec import decode_entry, encode_entry
from mq.broker.groups.events import (
    Acked,
    Activated,
    Committed,
    Configured,
    Dead,
    DeadPublished,
    DeadRun,
    Entry,
    Event,
    Expired,
    Failed,
    FailedRun,
    Gone,
    Scheduled,
    ScheduledRun,
    Sought,
    Trimmed,
)
from mq.broker.groups.ledger import Ledger
from mq.broker.groups.ranges import OFFSET_MAX
from mq.broker.groups.snapshot import read_snapshot, write_snapshot
from mq.errors import DataDirError
from tests.broker.groups.shell import START_MS, Shell

offsets = st.integers(0, OFFSET_MAX)
counts = st.integers(0, 1 << 40)
pairs = st.tuples(offsets, offsets).filter(lambda p: p[0] != p[1]).map(lambda p: tuple(sorted(p)))


def runs(make: type[tuple[object, ...]], *rest: st.SearchStrategy[object]) -> st.SearchStrategy:
    """Tuples of one kind, in any order."""
    run = st.tuples(pairs, *rest).map(lambda t: make(*t[0], *t[1:]))
    return st.lists(run, max_size=5).map(tuple)


ranges = st.lists(pairs, max_size=5).map(lambda found: tuple(sorted(found)))
events = st.one_of(
    st.builds(Acked, ranges),
    st.builds(Expired, ranges),
    st.builds(Gone, ranges),
    st.builds(Failed, runs(FailedRun, counts, counts)),
    st.builds(Dead, runs(DeadRun, counts, st.text(max_size=9))),
    st.builds(Scheduled, offsets, runs(ScheduledRun, counts, counts)),
    st.builds(DeadPublished, offsets),
    st.builds(Committed, offsets),
    st.builds(Trimmed, offsets),
    st.builds(Sought, offsets),
    st.builds(Activated, counts, st.text(max_size=9)),
    st.builds(
        Configured,
        st.builds(GroupConfig, st.sampled_from(Mode), counts, dead_letter_channel=st.text()),
    ),
)

# Entries that format 1 has written. Never regenerate them.
GOLDEN: tuple[tuple[Entry, str], ...] = (
    (Entry(1, (Acked(((0, 500),)),)), "0101010100f403"),
    (Entry(300, (Acked(((7, 8), (10, 12))),)), "01ac0201020e010402"),
    (Entry(2, (Failed((FailedRun(5, 6, 3, 1_000),)),)), "010202010a0103e807"),
    (
        Entry(3, (Dead((DeadRun(9, 10, 4, "no"), DeadRun(2, 3, 1, "é"))),)),
        "010303021201 0402 6e6f 0f01 0102 c3a9",
    ),
    (Entry(4, (DeadPublished(128),)), "0104048001"),
    (Entry(5, (Expired(((1, 2),)),)), "010505010201"),
    (Entry(6, (Scheduled(50, (ScheduledRun(8, 9, 7, 0),)),)), "0106063201100107 00"),
    (Entry(7, (Committed(1), Trimmed(2), Sought(3))), "0107 0701 0802 0903"),
    (Entry(8, (Activated(2, "ann"),)), "0108 0b02 03616e6e"),
    (Entry(9, (Scheduled(50, ()), Gone(((7, 9),)))), "0109 063200 0c010e02"),
)
# A snapshot that format 1 has written: `stored` below. Never regenerate it.
GOLDEN_SNAPSHOT = (
    "010603320000b3017b226261636b6f66665f6d61785f6d73223a36303030302c226261636b6f66665f6d696e5f"
    "6d73223a313030302c22646561645f6c65747465725f6368616e6e656c223a22222c22657870697265645f746f"
    "5f64656164223a66616c73652c226b65795f77696e646f77223a3130303030302c226c656173655f6d73223a33"
    "303030302c226d61785f64656c69766572696573223a322c226d6f6465223a312c2273657373696f6e5f6d7322"
    "3a33303030307d05020100000101120102026e6f0801080301010202010a020408200000000000000000010000"
    "00000000000200fc440f0000000000c8550f0000000802000100010003000401041402080103040c0000000001"
    "00000068650f000402000100"
)


def stored() -> Shell:
    """A group with something of everything."""
    shell = Shell(GroupConfig(max_deliveries=2), end=0)
    shell.advance(50, [(20, 22, START_MS + 5_000, START_MS + 9_000), (30, 31, None, 1)])
    shell.fetch(count=12)
    shell.ack((0, 3), (5, 7))
    for _ in range(2):
        shell.nack((9, 10), reason="no")
        shell.fetch(count=1)
    shell.nack((3, 4), delay_ms=700)
    return shell


@given(st.integers(1, 1 << 62), st.lists(events, max_size=4).map(tuple))
def test_an_entry_reads_back_as_it_was_written(number: int, found: tuple[Event, ...]) -> None:
    """Any events, and the same bytes again."""
    data = encode_entry(number, found)
    assert decode_entry(data) == Entry(number, found)
    assert encode_entry(*decode_entry(data)) == data


@pytest.mark.parametrize(("entry", "golden"), GOLDEN)
def test_entries_are_the_bytes_of_format_1(entry: Entry, golden: str) -> None:
    """Written and read."""
    assert encode_entry(*entry).hex() == golden.replace(" ", "")
    assert decode_entry(bytes.fromhex(golden)) == entry


def test_a_snapshot_is_the_bytes_of_format_1() -> None:
    """Written and read."""
    group = stored().group
    assert group.to_snapshot().hex() == GOLDEN_SNAPSHOT
    again = Group.recover(bytes.fromhex(GOLDEN_SNAPSHOT), [])
    assert again.dead_letters(9) == group.dead_letters(9)
    assert again.config == group.config
    assert again.stats(50, START_MS)[2:-1] == group.stats(50, START_MS)[2:-1]


@given(st.binary(max_size=40))
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    """With this error and no other, unless they are an entry by chance."""
    for read in (decode_entry, read_snapshot):
        with contextlib.suppress(DataDirError):
            read(data)


def test_a_cut_entry_is_refused_at_every_byte() -> None:
    """Unless it was cut between two events."""
    found = (Acked(((5, 9), (300, 301))), Dead((DeadRun(1, 2, 3, "why"),)))
    data = encode_entry(300, found)
    whole = {encode_entry(300, found[:n]) for n in range(3)}
    for size in range(len(data)):
        if data[:size] not in whole:
            with pytest.raises(DataDirError):
                decode_entry(data[:size])


def test_a_cut_snapshot_is_refused_at_every_byte() -> None:
    """And one with bytes left over."""
    data = stored().group.to_snapshot()
    for size in range(len(data)):
        with pytest.raises(DataDirError):
            read_snapshot(data[:size])
    with pytest.raises(DataDirError):
        read_snapshot(data + b"\0")


def test_a_newer_format_is_refused() -> None:
    """The message names both formats."""
    entry, snapshot = encode_entry(1, ()), Group().to_snapshot()
    with pytest.raises(DataDirError, match="format 2"):
        decode_entry(b"\2" + entry[1:])
    with pytest.raises(DataDirError, match="format 2"):
        read_snapshot(b"\2" + snapshot[1:])


def test_settings_of_a_later_version_are_left_out() -> None:
    """And those it does not have are the default."""
    assert GroupConfig.from_bytes(b'{"mode":2,"colour":"red"}') == GroupConfig(Mode.KEY_ORDERED)


@pytest.mark.parametrize("values", ("few", "many"))
def test_a_snapshot_of_many_ranges_reads_back(values: str) -> None:
    """However wide its columns, and however many different marks."""
    order = random.Random(3)
    ledger = Ledger()
    for first in range(1, 5_000, 2):
        mark = 1 if values == "few" else order.randrange(1 << 50) << 1
        ledger.marks.set(first * (1 << order.randrange(3)), first * 8 + 9, mark)
        ledger.expiries.set(first, first + 1, order.randrange(1, 1 << 45))
    data = write_snapshot(ledger)
    again = read_snapshot(data)
    assert write_snapshot(again) == data
    limit = 50_000
    assert again.marks.runs(0, limit) == ledger.marks.runs(0, limit)
    assert again.expiries.runs(0, limit) == ledger.expiries.runs(0, limit)
    done = sum(n - f for f, n, mark in ledger.marks.runs(0, limit) if mark == 1)
    assert again.done_above_floor == done


def test_settings_have_a_place_in_the_snapshot() -> None:
    """All of them."""
    config = GroupConfig(Mode.EXCLUSIVE, 3, 4, 5, 6, 7, True, 8, "tomb")
    assert {f.name for f in dataclasses.fields(config) if getattr(config, f.name) == f.default} == (
        set()
    )
    assert Shell(config).group.config == GroupConfig.from_bytes(config.to_bytes()) == config
