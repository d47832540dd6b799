"""Publishes that wait for a commit, and who is told what."""

from __future__ import annotations

from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from mq.broker.model import Durability
from mq.broker.pending import Batch, Done, Outcome, Singles, content_prefix
from mq.errors import DiskFull
from mq.log.log import Append, Appended
from mq.pb import mq_pb2 as pb

Told = list[tuple[str, Outcome, Durability]]


def teller(told: Told, name: str) -> Done:
    """A callback that notes what it was told."""
    return lambda outcome, reached: told.append((name, outcome, reached))


@given(st.lists(st.binary(max_size=300), min_size=1))
def test_single_messages_make_one_batch_in_order(contents: list[bytes]) -> None:
    """What is written parses as Records with the messages as they came."""
    singles = Singles()
    for content in contents:
        assert singles.add(content, Durability.SYNCED, lambda *_: None)
    append = singles.to_append()
    assert list(pb.Records.FromString(append.records).contents) == contents
    assert append.record_count == len(contents)
    assert append.records_crc == crc32c(append.records)
    assert len(append.records) == singles.size


def test_large_contents_have_a_prefix_that_parses() -> None:
    """Each length of varint, at its edges."""
    for size in (0x7F, 0x80, 0x3FFF, 0x4000, 1 << 20):
        records = pb.Records.FromString(content_prefix(size) + bytes(size))
        assert [len(c) for c in records.contents] == [size]


def test_a_full_frame_takes_no_more() -> None:
    """The message after a mebibyte begins another frame; a lone large one is taken."""
    singles = Singles()
    assert singles.add(bytes(2 << 20), Durability.SYNCED, lambda *_: None)
    assert not singles.add(b"x", Durability.SYNCED, lambda *_: None)


def test_each_publisher_is_told_its_own_offset_once() -> None:
    """The one that asked for WRITTEN first, the one that asked for SYNCED after the sync."""
    told: Told = []
    singles = Singles()
    singles.add(b"a", Durability.SYNCED, teller(told, "a"))
    singles.add(b"b", Durability.WRITTEN, teller(told, "b"))
    outcome = Appended(10, 2, 5)
    singles.answer(outcome, Durability.WRITTEN)
    assert told == [("b", Appended(11, 1, 5), Durability.WRITTEN)]
    singles.answer(outcome, Durability.SYNCED)
    assert told[1:] == [("a", Appended(10, 1, 5), Durability.SYNCED)]
    singles.answer(outcome, Durability.SYNCED)
    assert len(told) == 2


def test_a_failure_reaches_all_who_were_not_told() -> None:
    """At the first word of it, whatever they waited for."""
    told: Told = []
    singles = Singles()
    singles.add(b"a", Durability.SYNCED, teller(told, "a"))
    singles.add(b"b", Durability.WRITTEN, teller(told, "b"))
    batch = Batch(Append(b"", 1, 0), Durability.SYNCED, teller(told, "c"))
    error = DiskFull("full")
    singles.answer(error, Durability.WRITTEN)
    batch.answer(error, Durability.WRITTEN)
    assert sorted(name for name, _, _ in told) == ["a", "b", "c"]


def test_a_batch_is_answered_once() -> None:
    """Not before its sync, and not again after."""
    told: Told = []
    batch = Batch(Append(b"", 1, 0), Durability.SYNCED, teller(told, "a"))
    batch.answer(Appended(0, 1, 5), Durability.WRITTEN)
    assert told == []
    batch.answer(Appended(0, 1, 5), Durability.SYNCED)
    batch.answer(Appended(0, 1, 5), Durability.SYNCED)
    assert len(told) == 1
