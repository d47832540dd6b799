"""Calls as plans, driven by hand: what is asked, what is repeated, for how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mq.client import flows
from mq.client.backoff import Backoff
from mq.client.flows import CallPolicy, Flow, Invoke, Sleep, T
from mq.client.lanes import LanePool
from mq.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MQError,
    SequenceGap,
    Unavailable,
)
from mq.pb import mq_pb2 as pb
from tests.client.fake_broker import FakeBroker


class Clock:
    """A time that passes when a flow sleeps."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def policy(self, timeout_s: float = 10.0, retry_timeout_s: float = 10.0) -> CallPolicy:
        """Limits on this clock, with delays of 1, 2, 4, 4 … seconds."""
        return CallPolicy(timeout_s, retry_timeout_s, Backoff(1.0, 4.0, lambda: 1.0), self)


def drive(
    flow: Flow[T], clock: Clock, answer: Callable[[Invoke], bytes | MQError]
) -> tuple[T, list[Invoke]]:
    """Run a flow against a function, on a clock."""
    calls: list[Invoke] = []
    outcome: bytes | MQError | None = None
    while True:
        try:
            if outcome is None:
                step = next(flow)
            elif isinstance(outcome, MQError):
                step = flow.throw(outcome)
            else:
                step = flow.send(outcome)
        except StopIteration as stop:
            return stop.value, calls
        if isinstance(step, Sleep):
            clock.now += step.seconds
            outcome = b""
        else:
            calls.append(step)
            outcome = answer(step)


def publish(clock: Clock, lanes: LanePool, content: bytes = b"x") -> Flow[object]:
    """A publish of one message, on that clock."""
    return flows.publish(clock.policy(), lanes, "c", content, None, None, None)


def new_lanes() -> LanePool:
    """Lanes with the ids 1, 2, 3 and so on."""
    ids = iter(range(1, 100))
    return LanePool(lambda: next(ids))


def lane_of(call: Invoke) -> tuple[int, int]:
    """Producer id and sequence of a publish."""
    request = pb.PublishBatchRequest.FromString(call.request)
    return request.producer_id, request.sequence


def test_a_call_is_repeated_with_the_same_bytes() -> None:
    """While the broker is away the call is made again, with what time is left."""
    clock = Clock()
    errors: list[MQError] = [Unavailable("gone"), DeadlineExceeded("late")]
    flow = flows.call(clock.policy(), "m", b"request", wait_s=2.0)
    answer, calls = drive(flow, clock, lambda _: errors.pop(0) if errors else b"answer")
    assert answer == b"answer"
    assert [(call.request, call.timeout_s) for call in calls] == [
        (b"request", 12.0),
        (b"request", 11.0),
        (b"request", 9.0),
    ]


@pytest.mark.parametrize(
    ("policy", "attempts"),
    (((10.0, 10.0), 4), ((10.0, 2.0), 2), ((2.0, 10.0), 2), ((10.0, 0.0), 1)),
)
def test_repetition_has_an_end(policy: tuple[float, float], attempts: int) -> None:
    """Either limit ends it, with the last attempt's error."""
    clock = Clock()
    calls: list[Invoke] = []

    def answer(call: Invoke) -> MQError:
        calls.append(call)
        return Unavailable(f"attempt {len(calls)}")

    with pytest.raises(Unavailable, match=f"attempt {attempts}"):
        drive(flows.call(clock.policy(*policy), "m", b""), clock, answer)


def test_a_refusal_is_not_repeated() -> None:
    """What can't help is raised at once."""
    clock = Clock()
    with pytest.raises(ChannelNotFound):
        drive(flows.describe_channel(clock.policy(), "c"), clock, lambda _: ChannelNotFound("no"))
    assert clock.now == 50.0


def test_publishes_reuse_their_lane() -> None:
    """One after the other they are one producer; at the same time they are several."""
    clock, lanes, broker = Clock(), new_lanes(), FakeBroker()
    broker.create("c")

    def answer(call: Invoke) -> bytes:
        return broker.call(call.method, call.request)

    seen = [lane_of(drive(publish(clock, lanes), clock, answer)[1][0]) for _ in range(2)]
    first, second = publish(clock, lanes), publish(clock, lanes)
    together = [next(first), next(second)]
    assert seen == [(1, 1), (1, 2)]
    assert [lane_of(call) for call in together if isinstance(call, Invoke)] == [(1, 3), (2, 1)]


def test_a_publish_that_failed_leaves_its_lane() -> None:
    """Whether its sequence was used isn't known, so the lane isn't used again."""
    clock, lanes = Clock(), new_lanes()
    with pytest.raises(InvalidArgument):
        drive(publish(clock, lanes), clock, lambda _: InvalidArgument("bad"))
    publishing = publish(clock, lanes)
    call = next(publishing)
    assert isinstance(call, Invoke)
    assert lane_of(call) == (2, 1)


def test_a_broker_that_lost_a_lane_gets_another() -> None:
    """A gap in a lane means that the broker lost what it had stored: another lane is taken."""
    clock, lanes, broker = Clock(), new_lanes(), FakeBroker()
    channel = broker.create("c")

    def answer(call: Invoke) -> bytes | MQError:
        try:
            return broker.call(call.method, call.request)
        except MQError as error:
            return error

    for _ in range(3):
        drive(publish(clock, lanes), clock, answer)
    channel.forget_last(1)
    _, calls = drive(publish(clock, lanes, b"new"), clock, answer)
    assert [lane_of(call) for call in calls] == [(1, 4), (2, 1)]
    assert channel.contents() == [b"x", b"x", b"new"]


def test_a_gap_in_a_new_lane_is_raised() -> None:
    """A broker that finds gaps everywhere is not asked for ever."""
    clock = Clock()
    with pytest.raises(SequenceGap):
        drive(publish(clock, new_lanes()), clock, lambda _: SequenceGap("gap", 1))


def test_a_list_is_read_to_its_last_page() -> None:
    """Pages are asked for until there are no more."""
    clock, broker = Clock(), FakeBroker()
    for name in ("a", "b1", "b2", "b3", "c"):
        broker.create(name)
    channels, calls = drive(
        flows.list_channels(clock.policy(), "b"), clock, lambda c: broker.call(c.method, c.request)
    )
    assert [channel.name for channel in channels] == ["b1", "b2", "b3"]
    assert len(calls) == 2


@pytest.mark.parametrize(
    "flow",
    (
        flows.describe_channel(CallPolicy(), "c"),
        flows.pull(CallPolicy(), "c", 0, 0, 0, 0),
        flows.publish_batch(CallPolicy(), new_lanes(), "c", [b"x"], None, None, None),
    ),
)
def test_an_answer_that_is_none_is_refused(flow: Flow[object]) -> None:
    """Bytes that are no such message raise the project's error."""
    with pytest.raises(Internal):
        drive(flow, Clock(), lambda _: b"\x0a\x7f")
