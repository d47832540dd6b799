"""PublishBatch: all of a batch or none of it, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crc32c import crc32c

from mq.log.producers import WINDOW
from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import (
    Rpc,
    batch_request,
    messages,
    records_of,
    refused,
)
from tests.helpers.server import ServerProcess

MIB = 1 << 20
HEADERS = [pb.Headers(entries=[pb.Header(key="k", value=b"\xff\0")]), pb.Headers()]


def test_a_batch_is_answered_with_where_it_is(rpc: Rpc, channel: str) -> None:
    """Base offset, count, time and the durability reached; offsets go on from batch to batch."""
    first = rpc.publish_batch(channel, [b"a", b"", b"c"])
    single = rpc.publish(channel, b"d")
    second = rpc.publish_batch(channel, [b"e"], durability=pb.DURABILITY_SYNCED)
    assert (first.base_offset, first.record_count, first.duplicate) == (0, 3, False)
    assert (single.offset, second.base_offset) == (3, 4)
    assert 0 < first.append_time_ns <= single.append_time_ns <= second.append_time_ns
    assert first.durability == second.durability == pb.DURABILITY_SYNCED
    assert rpc.contents(channel) == [b"a", b"", b"c", b"d", b"e"]


def test_the_records_are_stored_as_they_came(rpc: Rpc, channel: str) -> None:
    """Keys, headers, the CRC and the producer's numbers come back, to the byte."""
    records = records_of([b"a", b"b"], keys=[b"\0", b""], headers=HEADERS)
    rpc.publish_batch(channel, (), records=records, producer_id=1 << 63, sequence=(1 << 64) - 1)
    batch = rpc.pull(channel).batches[0]
    assert batch.records == records
    assert batch.records_crc == crc32c(records)
    assert (batch.producer_id, batch.sequence) == (1 << 63, (1 << 64) - 1)
    assert (batch.base_offset, batch.last_offset_delta, batch.record_count) == (0, 1, 2)


def test_old_subscribers_see_batches(rpc: Rpc, channel: str) -> None:
    """Each record of a batch is a message to Subscribe, an empty one too."""
    rpc.publish_batch(channel, [b"a", b"", b"c"])
    found = messages(rpc.subscribe(channel), 3)
    assert [message.content for message in found] == [b"a", b"", b"c"]
    assert len({message.id for message in found}) == 3


def test_written_is_enough_if_asked_for(rpc: Rpc, channel: str) -> None:
    """A publisher that asks for no more may be answered before the sync; readers wait for it."""
    answer = rpc.publish_batch(channel, [b"a"], durability=pb.DURABILITY_WRITTEN)
    assert answer.durability in (pb.DURABILITY_WRITTEN, pb.DURABILITY_SYNCED)
    assert rpc.pull(channel, offset=0, max_wait_ms=20_000).records() == [(0, b"a")]


def test_a_channels_durability_is_the_default(rpc: Rpc, fresh_name: str) -> None:
    """What a channel is configured to holds for who doesn't say, in batches and singly."""
    rpc.create(fresh_name, durability=pb.DURABILITY_WRITTEN)
    answer = rpc.publish_batch(fresh_name, [b"a"])
    assert answer.durability == pb.DURABILITY_WRITTEN
    asked = rpc.publish_batch(fresh_name, [b"b"], durability=pb.DURABILITY_SYNCED)
    assert asked.durability == pb.DURABILITY_SYNCED
    assert rpc.publish(fresh_name, b"c").offset == 2


# ---- What is refused, with nothing written ------------------------------------------------

GOOD = records_of([b"a", b"b"])
# A message's name, the fields it changes, the reason.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("wrong CRC", {"records_crc": crc32c(GOOD) ^ 1}, "bad-checksum"),
    ("CRC zero", {"records_crc": 0}, "bad-checksum"),
    ("no records", {"records": b""}, "invalid-argument"),
    ("garbage", {"records": b"\xff\xff\xff"}, "invalid-argument"),
    ("a cut message", {"records": GOOD[:-1]}, "invalid-argument"),
    ("a wrong wire type", {"records": b"\x08\x01"}, "invalid-argument"),
    ("no contents", {"records": records_of([], keys=[b"k"])}, "invalid-argument"),
    ("too few keys", {"records": records_of([b"a", b"b"], keys=[b"k"])}, "invalid-argument"),
    ("too many headers", {"records": records_of([b"a"], headers=HEADERS)}, "invalid-argument"),
    ("offsets", {"records": records_of([b"a"], offset_deltas=[0])}, "invalid-argument"),
    ("unknown durability", {"durability": 3}, "invalid-argument"),
    ("negative durability", {"durability": -1}, "invalid-argument"),
    ("no channel", {"channel": ""}, "invalid-argument"),
    ("a bad channel", {"channel": "../x"}, "invalid-argument"),
]


@pytest.mark.parametrize(
    ("changed", "reason"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_bad_batch_is_refused(
    rpc: Rpc, channel: str, changed: dict[str, Any], reason: str
) -> None:
    """An INVALID_ARGUMENT says why; nothing is written, and its sequence is not used up."""
    request = batch_request(**{"channel": channel, "contents": (), "records": GOOD} | changed)
    request.producer_id = 7
    with refused("INVALID_ARGUMENT", reason):
        rpc.raw("PublishBatch", request.SerializeToString())
    assert rpc.describe(channel).durable_offset == 0
    good = rpc.publish_batch(channel, [b"good"], producer_id=7, sequence=0)
    assert (good.base_offset, good.duplicate) == (0, False)


def test_unknown_columns_are_kept(rpc: Rpc, channel: str) -> None:
    """Fields of Records that this version does not know are stored for those who do."""
    records = GOOD + b"\x82\x01\x03new"
    rpc.publish_batch(channel, (), records=records)
    assert rpc.pull(channel).batches[0].records == records


def test_the_crc_may_be_left_to_the_broker(rpc: Rpc, channel: str) -> None:
    """Without one, the broker computes it; zero is only wrong when it is given."""
    request = pb.PublishBatchRequest(channel=channel, records=GOOD)
    rpc.raw("PublishBatch", request.SerializeToString())
    assert rpc.pull(channel).batches[0].records_crc == crc32c(GOOD)


def test_an_unknown_channel_is_not_found(rpc: Rpc, fresh_name: str) -> None:
    """The new calls say NOT_FOUND, and what to do."""
    with refused("NOT_FOUND", "channel-not-found") as refusal:
        rpc.publish_batch(fresh_name, [b"a"])
    assert "create" in refusal.message


@pytest.mark.parametrize("limit", [120, 4096])
def test_the_size_limit_is_exact(rpc: Rpc, fresh_name: str, limit: int) -> None:
    """A message or batch of the channel's limit is taken, one byte more is not."""
    rpc.create(fresh_name, max_message_bytes=limit)
    overhead = len(records_of([b"x" * limit])) - limit
    records, one_more = (records_of([b"x" * (size - overhead)]) for size in (limit, limit + 1))
    assert (len(records), len(one_more)) == (limit, limit + 1)
    rpc.publish_batch(fresh_name, (), records=records)
    rpc.publish(fresh_name, b"x" * limit)
    with refused("RESOURCE_EXHAUSTED", "message-too-large") as refusal:
        rpc.publish_batch(fresh_name, (), records=one_more)
    assert "max_message_bytes" in refusal.message
    with refused("RESOURCE_EXHAUSTED", "message-too-large"):
        rpc.publish(fresh_name, b"x" * (limit + 1))
    assert rpc.describe(fresh_name).durable_offset == 2


def test_a_bad_batch_fails_alone(rpc: Rpc, fresh_name: str) -> None:
    """Among many that arrive together, good ones are stored, each of them whole."""
    rpc.create(fresh_name, max_message_bytes=1000)
    good: list[Any] = []
    bad: list[Any] = []
    for number in range(100):
        content = [b"%d" % number] * 3
        # Each a producer of its own: calls in flight together may overtake each other.
        batch = batch_request(fresh_name, content, producer_id=number + 1, sequence=0)
        good.append(rpc.later("PublishBatch", batch))
        wrong = [
            batch_request(fresh_name, content, records_crc=number),
            batch_request("unknown", content),
            batch_request(fresh_name, [b"x" * 1001]),
            batch_request(fresh_name, content, durability=9),
            pb.PublishBatchRequest(channel=fresh_name, records=b"\xff"),
        ]
        bad.append(rpc.later("PublishBatch", wrong[number % len(wrong)]))
    answers = [pb.PublishBatchResponse.FromString(call.result()) for call in good]
    assert {call.exception().code().name for call in bad} == {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "RESOURCE_EXHAUSTED",
    }
    assert sorted(answer.base_offset for answer in answers) == list(range(0, 300, 3))
    found = rpc.contents(fresh_name)
    for number, answer in enumerate(answers):
        at = answer.base_offset
        assert found[at : at + 3] == [b"%d" % number] * 3


# ---- Once only ------------------------------------------------------------------------


def test_a_repeat_is_answered_as_the_first_time(rpc: Rpc, channel: str) -> None:
    """The same producer and sequence with the same records are written once."""
    first = rpc.publish_batch(channel, [b"a", b"b"], producer_id=5, sequence=0)
    rpc.publish(channel, b"between")
    again = rpc.publish_batch(channel, [b"a", b"b"], producer_id=5, sequence=0)
    assert not first.duplicate
    assert again.duplicate
    again.duplicate = False
    assert again == first
    assert rpc.contents(channel) == [b"a", b"b", b"between"]


def test_repeats_sent_together_are_written_once(rpc: Rpc, channel: str) -> None:
    """Also while the first of them is not answered yet."""
    request = batch_request(channel, [b"a"], producer_id=5, sequence=3)
    calls = [rpc.later("PublishBatch", request) for _ in range(20)]
    answers = [pb.PublishBatchResponse.FromString(call.result()) for call in calls]
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 19
    assert {answer.base_offset for answer in answers} == {0}
    assert rpc.contents(channel) == [b"a"]


def test_a_client_that_goes_before_its_answer_may_repeat(rpc: Rpc, channel: str) -> None:
    """Whether its batch was written or not, after the repeat it is there once."""
    for sequence in range(20):
        request = batch_request(channel, [b"%d" % sequence], producer_id=5, sequence=sequence)
        gone = Rpc(rpc.address)
        gone.later("PublishBatch", request)
        gone.close()
        rpc.raw("PublishBatch", request.SerializeToString())
    assert rpc.contents(channel) == [b"%d" % n for n in range(20)]


def test_producers_and_channels_count_for_themselves(
    rpc: Rpc, channel: str, fresh_name: str
) -> None:
    """A sequence belongs to one producer in one channel; producer 0 is none."""
    other = rpc.create(f"{fresh_name}-other")
    for name, producer_id in ((channel, 1), (channel, 2), (other, 1), (channel, 0), (channel, 0)):
        answer = rpc.publish_batch(name, [b"a"], producer_id=producer_id, sequence=0)
        assert not answer.duplicate
    assert len(rpc.contents(channel)) == 4


def test_a_gap_is_refused_with_the_sequence_expected(rpc: Rpc, channel: str) -> None:
    """A batch whose predecessor is missing waits for it; a producer may begin anywhere."""
    rpc.publish_batch(channel, [b"a"], producer_id=5, sequence=10)
    with refused("FAILED_PRECONDITION", "sequence-gap") as refusal:
        rpc.publish_batch(channel, [b"c"], producer_id=5, sequence=12)
    assert refusal.metadata["mq-expected-sequence"] == "11"
    rpc.publish_batch(channel, [b"b"], producer_id=5, sequence=11)
    rpc.publish_batch(channel, [b"c"], producer_id=5, sequence=12)
    assert rpc.contents(channel) == [b"a", b"b", b"c"]


def test_the_same_sequence_with_other_records_is_refused(rpc: Rpc, channel: str) -> None:
    """Two batches under one number are a bug of the producer, and told so."""
    rpc.publish_batch(channel, [b"a"], producer_id=5, sequence=0)
    with refused("INVALID_ARGUMENT"):
        rpc.publish_batch(channel, [b"other"], producer_id=5, sequence=0)
    assert rpc.contents(channel) == [b"a"]


def test_a_repeat_from_long_ago_is_refused(rpc: Rpc, channel: str) -> None:
    """The last batches of a producer are remembered; an older one is not guessed about."""
    for sequence in range(WINDOW + 1):
        rpc.publish_batch(channel, [b"%d" % sequence], producer_id=5, sequence=sequence)
    assert rpc.publish_batch(channel, [b"1"], producer_id=5, sequence=1).duplicate
    with refused("FAILED_PRECONDITION", "sequence-too-old"):
        rpc.publish_batch(channel, [b"0"], producer_id=5, sequence=0)
    assert len(rpc.contents(channel)) == WINDOW + 1


def test_a_repeat_is_known_after_a_restart(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """After an orderly stop and after kill -9 a repeat still gets the first receipt."""
    server = start()
    rpc = connect(server)
    rpc.create("c")
    receipts = [rpc.publish_batch("c", [b"0", b"1"], producer_id=5, sequence=0)]
    for kill in (False, True):
        number = len(receipts)
        server.restart(kill=kill)
        rpc = connect(server)
        for sequence, receipt in enumerate(receipts):
            content = [b"%d" % (2 * sequence), b"%d" % (2 * sequence + 1)]
            again = rpc.publish_batch("c", content, producer_id=5, sequence=sequence)
            assert again.duplicate
            assert again.base_offset == receipt.base_offset
            assert again.append_time_ns == receipt.append_time_ns
        content = [b"%d" % (2 * number), b"%d" % (2 * number + 1)]
        with refused("FAILED_PRECONDITION", "sequence-gap"):
            rpc.publish_batch("c", content, producer_id=5, sequence=number + 1)
        receipts.append(rpc.publish_batch("c", content, producer_id=5, sequence=number))
    assert rpc.contents("c") == [b"%d" % n for n in range(6)]
