"""Pull: where it begins, how much it answers, how long it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import LIMIT_S, Pulled, Rpc, refused, wait_until
from tests.helpers.server import ServerProcess

DAY_NS = 86_400 * 10**9
# Longer than any test: whoever waits so long is answered by an event, or never.
LONG_MS = 600_000


def request(channel: str, **fields: Any) -> bytes:
    """A serialized PullRequest."""
    return pb.PullRequest(channel=channel, **fields).SerializeToString()


@pytest.fixture
def stored(rpc: Rpc, channel: str) -> list[pb.PublishBatchResponse]:
    """Ten frames of three records: "0" to "29"."""
    return [
        rpc.publish_batch(channel, [b"%d" % n for n in range(first, first + 3)])
        for first in range(0, 30, 3)
    ]


def numbers(pulled: Pulled) -> list[int]:
    """Offsets of the records pulled, each holding its own number."""
    for offset, content in pulled.records():
        assert content == b"%d" % offset
    return [offset for offset, _ in pulled.records()]


# ---- Where it begins ------------------------------------------------------------------


@pytest.mark.usefixtures("stored")
def test_from_an_offset(rpc: Rpc, channel: str) -> None:
    """From every offset, also within a frame and at the end, exactly what follows it."""
    for offset in range(31):
        pulled = rpc.pull(channel, offset=offset)
        assert numbers(pulled) == list(range(offset, 30))
        answer = pulled.answer
        assert (answer.start_offset, answer.next_offset) == (offset, 30)
        assert (answer.log_start_offset, answer.durable_offset) == (0, 30)
        if offset < 30:
            assert pulled.batches[0].base_offset == offset // 3 * 3


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("start", [{}, {"position": pb.OFFSET_BEGINNING}], ids=["absent", "given"])
def test_from_the_beginning(rpc: Rpc, channel: str, start: dict[str, Any]) -> None:
    """It is where a pull begins that doesn't say."""
    assert numbers(rpc.pull(channel, **start)) == list(range(30))


@pytest.mark.usefixtures("stored")
def test_from_latest(rpc: Rpc, channel: str) -> None:
    """Nothing that is there, and everything from there on."""
    pulled = rpc.pull(channel, position=pb.OFFSET_LATEST)
    assert (pulled.answer.start_offset, pulled.answer.next_offset) == (30, 30)
    rpc.publish(channel, b"30")
    assert numbers(rpc.pull(channel, offset=pulled.answer.next_offset)) == [30]


def test_from_a_time(rpc: Rpc, channel: str, stored: list[pb.PublishBatchResponse]) -> None:
    """The first record appended at or after the time; all of them for a time before any."""
    for each in stored:
        same = next(s for s in stored if s.append_time_ns == each.append_time_ns)
        pulled = rpc.pull(channel, time_ns=each.append_time_ns)
        assert pulled.answer.start_offset == same.base_offset
        later = rpc.pull(channel, time_ns=each.append_time_ns + 1).answer.start_offset
        after = [s.base_offset for s in stored if s.append_time_ns > each.append_time_ns]
        assert later == (after[0] if after else 30)
    for early in (-1, 0, 1, stored[0].append_time_ns - DAY_NS, -(1 << 63)):
        assert numbers(rpc.pull(channel, time_ns=early)) == list(range(30))


@pytest.mark.parametrize("position", [pb.OFFSET_UNKNOWN, 3])
def test_from_nowhere(rpc: Rpc, channel: str, position: int) -> None:
    """A position without a meaning is refused."""
    with refused("INVALID_ARGUMENT"):
        rpc.raw("Pull", request(channel, position=position))


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("offset", [31, 1 << 32, (1 << 64) - 1])
def test_after_the_end(rpc: Rpc, channel: str, offset: int) -> None:
    """OUT_OF_RANGE, with both ends of the log for programs and people, even if it may wait."""
    for wait_ms in (0, LONG_MS):
        with refused("OUT_OF_RANGE", "offset-out-of-range") as refusal:
            rpc.pull(channel, offset=offset, max_wait_ms=wait_ms)
        assert refusal.metadata["mq-log-start-offset"] == "0"
        assert refusal.metadata["mq-next-offset"] == "30"
        assert "30" in refusal.message


@pytest.mark.usefixtures("stored")
def test_a_time_in_the_future(rpc: Rpc, channel: str) -> None:
    """OUT_OF_RANGE says how far ahead it is: such a wait could be long."""
    for time_ns in (time.time_ns() + DAY_NS, (1 << 63) - 1):
        with refused("OUT_OF_RANGE", "offset-out-of-range") as refusal:
            rpc.pull(channel, time_ns=time_ns, max_wait_ms=LONG_MS)
        assert "latest" in refusal.message


def test_an_empty_channel(rpc: Rpc, channel: str) -> None:
    """There is nothing from anywhere, and only offset 0 is within the log."""
    for start in ({}, {"offset": 0}, {"position": pb.OFFSET_LATEST}, {"time_ns": 1}):
        pulled = rpc.pull(channel, **start)
        assert pulled.records() == []
        assert pulled.answer == pb.PullResponse(
            start_offset=0, next_offset=0, log_start_offset=0, durable_offset=0
        )
    with refused("OUT_OF_RANGE"):
        rpc.pull(channel, offset=1)


def test_an_unknown_channel(rpc: Rpc, fresh_name: str) -> None:
    """NOT_FOUND, whatever else is asked."""
    for start in ({}, {"offset": 5}, {"time_ns": 1}, {"position": pb.OFFSET_LATEST}):
        with refused("NOT_FOUND", "channel-not-found"):
            rpc.pull(fresh_name, max_wait_ms=LONG_MS, **start)


# ---- How much it answers --------------------------------------------------------------


@pytest.mark.usefixtures("stored")
def test_max_records(rpc: Rpc, channel: str) -> None:
    """At least as many as asked for, to the end of the frame with the last of them."""
    for offset in range(30):
        for wanted in (1, 2, 3, 4, 29, 30, (1 << 32) - 1):
            pulled = rpc.pull(channel, offset=offset, max_records=wanted)
            last = min(offset + wanted, 30) - 1
            assert pulled.answer.next_offset == last // 3 * 3 + 3
            assert numbers(pulled) == list(range(offset, pulled.answer.next_offset))


@pytest.mark.usefixtures("stored")
def test_max_bytes(rpc: Rpc, channel: str) -> None:
    """No more frames than fit, but always one: following next_offset reads everything."""
    frame_bytes = len(pb.PullResponse(batches=rpc.pull(channel).batches[:1]).SerializeToString())
    for max_bytes in (1, frame_bytes - 1, frame_bytes, 3 * frame_bytes + 1, (1 << 32) - 1):
        found: list[int] = []
        while len(found) < 30:
            pulled = rpc.pull(channel, offset=len(found), max_bytes=max_bytes)
            assert len(pulled.batches) <= max(1, max_bytes // (frame_bytes - 20))
            assert len(pulled.batches) == 1 or pulled.size <= max_bytes + 64
            assert pulled.answer.next_offset > len(found)
            found += numbers(pulled)
        assert found == list(range(30))


def test_a_frame_larger_than_max_bytes(rpc: Rpc, channel: str) -> None:
    """It comes whole, and alone."""
    large = b"x" * 3_000_000
    for content in (b"before", large, b"after"):
        rpc.publish(channel, content)
    for max_bytes in (1, 1000, 0):
        pulled = rpc.pull(channel, offset=1, max_bytes=max_bytes)
        assert pulled.records()[0] == (1, large)
        assert pulled.answer.next_offset == 2
        assert rpc.pull(channel, offset=2, max_bytes=max_bytes).records() == [(2, b"after")]


def test_before_the_start(rpc: Rpc, fresh_name: str) -> None:
    """What was purged is OUT_OF_RANGE, with where the log begins now; the beginning is there."""
    rpc.create(fresh_name, segment_bytes=1 << 16)
    for first in range(0, 1000, 100):
        rpc.publish_batch(fresh_name, [b"%d" % n + bytes(300) for n in range(first, first + 100)])
    purge = pb.PurgeChannelRequest(channel=fresh_name, before_offset=500)
    answer = pb.PurgeChannelResponse.FromString(rpc.raw("PurgeChannel", purge.SerializeToString()))
    begin = answer.log_start_offset
    assert 0 < begin <= 500
    for offset in (0, begin - 1):
        with refused("OUT_OF_RANGE", "offset-out-of-range") as refusal:
            rpc.pull(fresh_name, offset=offset, max_wait_ms=LONG_MS)
        assert refusal.metadata["mq-log-start-offset"] == str(begin)
        assert refusal.metadata["mq-next-offset"] == "1000"
    for start in ({}, {"position": pb.OFFSET_BEGINNING}, {"time_ns": 1}, {"offset": begin}):
        pulled = rpc.pull(fresh_name, max_records=1, **start)
        assert pulled.answer.start_offset == pulled.answer.log_start_offset == begin
        assert pulled.records()[0] == (begin, b"%d" % begin + bytes(300))
    message = pb.Message.FromString(next(rpc.subscribe(fresh_name)))
    assert message.content == b"%d" % begin + bytes(300)


def test_across_segments(rpc: Rpc, fresh_name: str) -> None:
    """A pull goes on from one segment file into the next, and so does following it."""
    rpc.create(fresh_name, segment_bytes=1 << 16)
    for first in range(0, 1000, 100):
        rpc.publish_batch(fresh_name, [b"%d" % n + bytes(300) for n in range(first, first + 100)])
    assert rpc.describe(fresh_name).segment_count > 3
    found, offset, pulls = [], 0, 0
    while offset < 1000:
        pulled = rpc.pull(fresh_name, offset=offset, max_bytes=100_000)
        found += [content.rstrip(b"\0") for _, content in pulled.records()]
        offset, pulls = pulled.answer.next_offset, pulls + 1
    assert found == [b"%d" % n for n in range(1000)]
    assert 1 < pulls < 10


# ---- How long it waits ----------------------------------------------------------------


@pytest.mark.parametrize(
    "start", [{"offset": 0}, {}, {"position": pb.OFFSET_LATEST}, {"time_ns": 1}], ids=str
)
def test_a_waiting_pull_is_answered_by_a_publish(
    rpc: Rpc, channel: str, start: dict[str, Any]
) -> None:
    """The moment something is durable, wherever the wait began."""
    waiting = rpc.later("Pull", request(channel, max_wait_ms=LONG_MS, **start))
    rpc.wait_waiting(channel, 1)
    rpc.publish(channel, b"0")
    assert numbers(Pulled(waiting.result())) == [0]
    assert rpc.describe(channel).waiting_pulls == 0


def test_many_waiting_pulls_are_answered_by_one_publish(rpc: Rpc, channel: str) -> None:
    """All of them, each with what it asked for, and none from another channel."""
    rpc.publish(channel, b"0")
    waiting = [
        rpc.later("Pull", request(channel, offset=1, max_wait_ms=LONG_MS, max_bytes=1 + n % 3))
        for n in range(100)
    ]
    rpc.wait_waiting(channel, 100)
    rpc.publish_batch(channel, [b"1", b"2"])
    for each in waiting:
        assert numbers(Pulled(each.result())) == [1, 2]
    assert rpc.describe(channel).waiting_pulls == 0


@pytest.mark.usefixtures("stored")
def test_what_is_there_is_not_waited_for(rpc: Rpc, channel: str) -> None:
    """A pull that finds something answers with it, however much more it would take."""
    pulled = rpc.pull(channel, offset=29, max_records=100, max_wait_ms=LONG_MS)
    assert numbers(pulled) == [29]


def test_a_wait_ends_empty(rpc: Rpc, channel: str) -> None:
    """When nothing comes in max_wait_ms: an answer without records, to go on from."""
    rpc.publish(channel, b"0")
    answer = rpc.pull(channel, offset=1, max_wait_ms=20).answer
    assert answer == pb.PullResponse(
        start_offset=1, next_offset=1, log_start_offset=0, durable_offset=1
    )
    assert rpc.describe(channel).waiting_pulls == 0


def test_a_wait_ends_before_the_clients_deadline(rpc: Rpc, channel: str) -> None:
    """The broker knows when its client will give up, and answers before that."""
    raw = rpc.raw("Pull", request(channel, max_wait_ms=LONG_MS), timeout=3.0)
    assert Pulled(raw).records() == []


def test_a_cancelled_pull_is_forgotten(rpc: Rpc, channel: str) -> None:
    """Given up, or cut off with its connection, it waits no longer and takes nothing."""
    gone = Rpc(rpc.address)
    wait = request(channel, position=pb.OFFSET_LATEST, max_wait_ms=LONG_MS)
    cancelled = [rpc.later("Pull", wait) for _ in range(5)]
    cut_off = [gone.later("Pull", wait) for _ in range(5)]
    rpc.wait_waiting(channel, 10)
    for each in cancelled:
        each.cancel()
    rpc.wait_waiting(channel, 5)
    gone.close()
    rpc.wait_waiting(channel, 0)
    assert all(each.cancelled() for each in cancelled)
    assert all(each.code() is grpc.StatusCode.CANCELLED for each in cut_off)


@pytest.mark.parametrize("start", [{"time_ns": 1}, {"position": pb.OFFSET_LATEST}, {}], ids=str)
def test_pulls_cancelled_at_any_moment_are_forgotten(
    rpc: Rpc, channel: str, start: dict[str, Any]
) -> None:
    """Also while the broker still looks for where they begin."""
    wait = request(channel, max_wait_ms=LONG_MS, **start)
    for _ in range(15):
        rpc.later("Pull", wait).cancel()
    last = rpc.later("Pull", wait)
    wait_until(lambda: rpc.describe(channel).waiting_pulls == 1, "the last one waits alone")
    rpc.publish(channel, b"0")
    assert numbers(Pulled(last.result())) == [0]


def test_a_deleted_channel_ends_its_waits(rpc: Rpc, channel: str) -> None:
    """Whoever waits is told, pull or subscriber, each in the words of its contract."""
    waiting = rpc.later("Pull", request(channel, max_wait_ms=LONG_MS))
    stream = rpc.subscribe(channel)
    rpc.wait_waiting(channel, 2)
    rpc.delete(channel)
    assert waiting.exception().code() is grpc.StatusCode.NOT_FOUND
    with refused("FAILED_PRECONDITION", "channel-missing"):
        next(stream)


def test_readers_and_writers_side_by_side(rpc: Rpc, channel: str) -> None:
    """Followers see each record once and in order while four publishers write."""

    def publish(publisher: int) -> None:
        for number in range(100):
            rpc.publish(channel, b"%d %d" % (publisher, number))

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    followed = [_follow(rpc, channel, 400, start) for start in (0, 0)]
    for thread in threads:
        thread.join(LIMIT_S)
    assert followed[0] == followed[1]
    for publisher in range(4):
        own = [content for content in followed[0] if content.startswith(b"%d " % publisher)]
        assert own == [b"%d %d" % (publisher, number) for number in range(100)]


def _follow(rpc: Rpc, channel: str, count: int, offset: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        pulled = rpc.pull(channel, offset=offset, max_wait_ms=10_000)
        records = pulled.records()
        assert [at for at, _ in records] == list(range(offset, pulled.answer.next_offset))
        found += [content for _, content in records]
        offset = pulled.answer.next_offset
    return found


# ---- Damage ---------------------------------------------------------------------------


def test_damage_is_told_and_can_be_passed(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """A flipped byte is DATA_LOSS with the range it took; what lies around it is readable."""
    server = start()
    rpc = connect(server)
    rpc.create("c")
    rpc.create("other")
    for first in range(0, 30, 3):
        rpc.publish_batch("c", [b"record %d" % n for n in range(first, first + 3)])
    rpc.publish("other", b"sound")
    assert server.stop() == 0
    flip(server, b"record 13")
    server.start()
    rpc = connect(server)
    with refused("DATA_LOSS", "data-loss") as refusal:
        rpc.pull("c", offset=13)
    assert refusal.metadata["mq-first-offset"] == "12"
    assert refusal.metadata["mq-next-offset"] == "15"
    assert "15" in refusal.message
    assert _offsets(rpc.pull("c")) == list(range(12))
    assert _offsets(rpc.pull("c", offset=15)) == list(range(15, 30))
    assert [(d.first_offset, d.next_offset) for d in rpc.describe("c").damaged] == [(12, 15)]
    # A subscriber gets what precedes it, then the error; nothing is left out silently.
    stream = rpc.subscribe("c")
    before = [pb.Message.FromString(next(stream)).content for _ in range(12)]
    assert before == [b"record %d" % n for n in range(12)]
    with refused("DATA_LOSS", "data-loss"):
        next(stream)
    assert rpc.publish("c", b"record 30").offset == 30
    assert _offsets(rpc.pull("c", offset=28)) == [28, 29, 30]
    assert rpc.pull("other").records() == [(0, b"sound")]


def _offsets(pulled: Pulled) -> list[int]:
    for offset, content in pulled.records():
        assert content == b"record %d" % offset
    return [offset for offset, _ in pulled.records()]


def flip(server: ServerProcess, content: bytes) -> None:
    """Flip a bit of the first byte of ``content`` in the one segment that has it."""
    for path in server.data_dir.glob("channels/*/*.seg"):
        data = path.read_bytes()
        at = data.find(content)
        if at != -1:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([data[at] ^ 1]))
            return
    raise AssertionError(f"no segment has {content!r}")
