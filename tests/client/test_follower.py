"""A subscription's decisions: where to pull, what to skip, when to give up."""

from __future__ import annotations

import pytest

from mq.client.backoff import Backoff
from mq.client.follower import Follower, FollowOptions
from mq.client.methods import PULL
from mq.errors import ChannelNotFound, DataLoss, Internal, OffsetOutOfRange, Unavailable
from mq.pb import mq_pb2 as pb
from tests.client.test_batch import frame, response

BACKOFF = Backoff(0.5, 4.0, lambda: 1.0)
SKIP = FollowOptions(on_damage="skip", backoff=BACKOFF)
RAISE = FollowOptions(backoff=BACKOFF, max_wait_ms=20_000, call_timeout_s=5.0)


def request(follower: Follower) -> pb.PullRequest:
    """What the next pull asks."""
    return pb.PullRequest.FromString(follower.next_call().request)


def offsets(follower: Follower) -> list[int]:
    """The offsets of all batches pulled so far."""
    found: list[int] = []
    while (batch := follower.pop()) is not None:
        found += batch.offsets
    return found


def test_the_first_pull_finds_the_start() -> None:
    """It doesn't wait; from its answer on the position is an offset, and pulls wait."""
    follower = Follower("c", "latest", RAISE)
    first = follower.next_call()
    assert (first.method, first.timeout_s) == (PULL, 5.0)
    assert request(follower).position == pb.OFFSET_LATEST
    assert request(follower).max_wait_ms == 0
    follower.answered(response(start=7, following=7))
    assert follower.located
    assert (follower.position, request(follower).offset) == (7, 7)
    assert request(follower).max_wait_ms == 20_000
    assert follower.next_call().timeout_s == 25.0


def test_batches_are_cut_to_the_position() -> None:
    """A batch that begins before the start is cut, and one that was had is left out."""
    follower = Follower("c", 2, RAISE)
    follower.answered(response(frame(0, [b"0", b"1", b"2"]), start=2, following=3))
    follower.answered(
        response(frame(0, [b"0", b"1", b"2"]), frame(3, [b"3"]), start=3, following=4)
    )
    assert offsets(follower) == [2, 3]
    assert (follower.position, request(follower).offset) == (4, 4)


def test_a_lost_broker_is_waited_for() -> None:
    """Delays grow and start over after an answer; the next pull is the same one."""
    follower = Follower("c", 5, RAISE)
    assert [follower.failed(Unavailable("gone"), now) for now in range(5)] == [0.5, 1, 2, 4, 4]
    assert request(follower).offset == 5
    follower.answered(response(start=5, following=5))
    assert follower.failed(Unavailable("gone"), 9.0) == 0.5


def test_waiting_can_be_bounded() -> None:
    """After reconnect_timeout_s the error is raised; iterating again begins a new wait."""
    follower = Follower("c", 0, FollowOptions(reconnect_timeout_s=10.0, backoff=BACKOFF))
    follower.failed(Unavailable("gone"), 100.0)
    follower.failed(Unavailable("gone"), 109.0)
    with pytest.raises(Unavailable):
        follower.failed(Unavailable("gone"), 110.0)
    assert follower.failed(Unavailable("gone"), 200.0) == 0.5


@pytest.mark.parametrize(
    "error", (ChannelNotFound("none"), OffsetOutOfRange("trimmed", 3, 9), DataLoss("bad", 0, 2))
)
def test_what_waiting_does_not_help_is_raised(error: Exception) -> None:
    """Refusals are the consumer's to decide on; the position stays."""
    follower = Follower("c", 0, RAISE)
    with pytest.raises(type(error)):
        follower.failed(error, 0.0)  # type: ignore[arg-type]
    assert request(follower).offset == 0


def test_damage_that_the_broker_reports_is_skipped_and_counted() -> None:
    """Only what was still wanted counts, and the next pull begins behind it."""
    follower = Follower("c", 4, SKIP)
    assert follower.failed(DataLoss("bad", first_offset=2, next_offset=9), 0.0) == 0.0
    assert (follower.skipped, request(follower).offset) == (5, 9)


def test_damage_at_a_start_that_is_no_offset_is_skipped() -> None:
    """A damaged beginning doesn't keep a subscription from starting."""
    follower = Follower("c", "beginning", SKIP)
    assert follower.failed(DataLoss("bad", first_offset=2, next_offset=9), 0.0) == 0.0
    assert (follower.skipped, request(follower).offset) == (7, 9)


def test_a_skip_that_leads_nowhere_is_raised() -> None:
    """Damage whose end isn't ahead would be met for ever: it is raised."""
    follower = Follower("c", 9, SKIP)
    with pytest.raises(DataLoss):
        follower.failed(DataLoss("bad", first_offset=9, next_offset=9), 0.0)


def damaged_middle() -> bytes:
    """Three batches, the second of which doesn't match its CRC."""
    middle = frame(2, [b"2", b"3"])
    middle.records_crc ^= 1
    return response(frame(0, [b"0", b"1"]), middle, frame(4, [b"4"]), following=5)


def test_a_bad_crc_is_skipped_and_counted() -> None:
    """The good batches around it come."""
    follower = Follower("c", 0, SKIP)
    follower.answered(damaged_middle())
    assert offsets(follower) == [0, 1, 4]
    assert follower.skipped == 2


def test_a_bad_crc_is_raised_until_it_is_left_behind() -> None:
    """Iterating again raises again; seeking past it goes on."""
    follower = Follower("c", 0, RAISE)
    follower.answered(damaged_middle())
    assert follower.pop() is not None
    with pytest.raises(DataLoss):
        follower.pop()
    with pytest.raises(DataLoss) as caught:
        follower.pop()
    assert follower.position == caught.value.first_offset == 2
    follower.seek(caught.value.next_offset)
    assert (follower.pop(), request(follower).offset) == (None, 4)
    assert request(follower).max_bytes == 1 << 20


def test_an_answer_that_is_none_is_refused() -> None:
    """Bytes that are no PullResponse raise the project's error."""
    with pytest.raises(Internal):
        Follower("c", 0, RAISE).answered(b"\x0a\x7f")
