"""The producer against the broker's rule, under lost, late and reordered calls."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from mq.client.accumulator import BatchLimits
from mq.client.backoff import Backoff
from mq.client.outgoing import Handle
from mq.client.producer_core import ProducerCore, ProducerOptions
from mq.client.window import Delivery
from mq.errors import (
    ChannelReadOnly,
    DeadlineExceeded,
    DiskFull,
    MessageTooLarge,
    MQError,
    Overloaded,
    Unavailable,
)
from mq.pb import mq_pb2 as pb
from tests.client.fake_broker import BAD_CONTENT, FakeChannel

ROUNDS_MAX = 2_000


@dataclass(eq=False)
class Attempt:
    """One call: its request on the way there, then its answer on the way back."""

    delivery: Delivery
    request: bytes
    given_up: bool = False


@dataclass
class World:
    """A producer, a broker, and a network between them that does what it likes."""

    channel: FakeChannel
    core: ProducerCore[Handle]
    now: float = 0.0
    sent: list[tuple[bytes, Handle]] = field(default_factory=list)
    requests: list[Attempt] = field(default_factory=list)
    answers: list[tuple[Attempt, bytes | MQError]] = field(default_factory=list)
    waiting: list[Attempt] = field(default_factory=list)
    refuse_next: MQError | None = None

    def send(self, bad: bool) -> None:
        content = (BAD_CONTENT if bad else b"good") + b"-%d" % len(self.sent)
        handle = self.core.append(content)
        if handle is None:
            handle = self.core.append_record(content, b"", b"", self.now)
        if handle is not None:
            self.sent.append((content, handle))
        self.pump()

    def pump(self) -> None:
        while (delivery := self.core.next_delivery(self.now)) is not None:
            attempt = Attempt(delivery, delivery.request)
            self.waiting.append(attempt)
            self.requests.append(attempt)
        wake_at = self.core.wake_at_s
        assert wake_at is None or wake_at > self.now, "the producer spins"

    def arrive(self, index: int) -> None:
        """A request reaches the broker, in whatever order, maybe long after it was given up."""
        if self.requests:
            attempt = self.requests.pop(index % len(self.requests))
            self.answers.append((attempt, self._handle(attempt)))

    def _handle(self, attempt: Attempt) -> bytes | MQError:
        if self.refuse_next is not None:
            error, self.refuse_next = self.refuse_next, None
            return error
        try:
            request = pb.PublishBatchRequest.FromString(attempt.request)
            return self.channel.publish(request).SerializeToString()
        except MQError as error:
            return error

    def answer(self, index: int) -> None:
        """An answer reaches the producer, unless it has given that call up."""
        if not self.answers:
            return
        attempt, outcome = self.answers.pop(index % len(self.answers))
        if attempt.given_up:
            return
        self.waiting.remove(attempt)
        if isinstance(outcome, MQError):
            self.core.failed(attempt.delivery, outcome, self.now)
        else:
            self.core.succeeded(attempt.delivery, outcome, self.now)
        self.pump()

    def give_up(self, index: int, error: MQError) -> None:
        """A call ends without an answer; its request may arrive all the same, or never."""
        if self.waiting:
            attempt = self.waiting.pop(index % len(self.waiting))
            attempt.given_up = True
            self.core.failed(attempt.delivery, error, self.now)
            self.pump()

    def lose_request(self, index: int) -> None:
        """A request never arrives, and its call ends in time."""
        if self.requests:
            attempt = self.requests.pop(index % len(self.requests))
            if not attempt.given_up:
                self.give_up(self.waiting.index(attempt), Unavailable("lost"))

    def lose_answer(self, index: int) -> None:
        """A call is carried out, and nobody hears of it."""
        if self.answers:
            attempt, _ = self.answers.pop(index % len(self.answers))
            if not attempt.given_up:
                self.give_up(self.waiting.index(attempt), DeadlineExceeded("no answer"))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.pump()

    def settle(self, chance: random.Random) -> None:
        """The network behaves from now on; what is on its way arrives."""
        self.core.hurry()
        late: list[Attempt] = []
        if chance.random() < 0.5:
            late = [attempt for attempt in self.requests if attempt.given_up]
            self.requests = [attempt for attempt in self.requests if not attempt.given_up]
        for _ in range(ROUNDS_MAX):
            self.pump()
            if not self.core.pending():
                break
            if self.requests or self.answers:
                self.arrive(0)
                self.answer(0)
            else:
                wake_at = self.core.wake_at_s
                assert wake_at is not None, "the producer waits for nothing"
                self.now = wake_at
        assert not self.core.pending(), "the producer never came to an end"
        self.requests += late
        if chance.random() < 0.5:
            chance.shuffle(self.requests)
        while self.requests:
            self.arrive(0)

    def check(self) -> dict[bytes, bool]:
        """What must always hold; returns whether each message was acknowledged."""
        stored = self.channel.contents()
        doubled = [content for content, count in Counter(stored).items() if count > 1]
        assert not doubled, "stored twice"
        acknowledged: dict[bytes, bool] = {}
        last_offset = -1
        for content, handle in self.sent:
            try:
                receipt = handle._batch.record_receipt(handle._index)
            except MQError:
                acknowledged[content] = False
                continue
            acknowledged[content] = True
            assert stored[receipt.offset] == content, "the receipt names another message"
            assert receipt.offset > last_offset, "the order was not kept"
            last_offset = receipt.offset
        return acknowledged


def new_world(
    *, batch_records: int, max_in_flight: int, delivery_timeout_s: float, content_first: bool
) -> World:
    """A world in which chance is in the hands of the test."""
    ids = iter(range(1, 1_000_000))
    options = ProducerOptions(
        BatchLimits(linger_s=0.001, batch_bytes=200, batch_records=batch_records),
        max_in_flight=max_in_flight,
        delivery_timeout_s=delivery_timeout_s,
        backoff=Backoff(0.05, 2.0, lambda: 0.5),
        new_producer_id=lambda: next(ids),
    )
    channel = FakeChannel("c", checks_content_first=content_first)
    return World(channel, ProducerCore("c", options, Handle))


REFUSALS = (
    Overloaded("busy"),
    DiskFull("full"),
    ChannelReadOnly("a sync failed"),
    MessageTooLarge("the limit was lowered, and raised again"),
)

# How often each thing happens, relative to the others. Drawn for a whole story, so
# that there are stories of a slow network, of a torn one, of a hurried sender.
weights = st.fixed_dictionaries(
    {
        "send": st.sampled_from([1, 4]),
        "burst": st.sampled_from([0, 1]),
        "arrive": st.sampled_from([1, 3, 9]),
        "arrive_first": st.sampled_from([0, 3, 9]),
        "answer": st.sampled_from([1, 3, 9]),
        "give_up": st.sampled_from([0, 1, 3]),
        "lose_request": st.sampled_from([0, 1, 3]),
        "lose_answer": st.sampled_from([0, 1, 3]),
        "pass_time": st.sampled_from([1, 3]),
    }
)
STEPS = 150


def play(world: World, chance: random.Random, odds: dict[str, int]) -> None:
    """Let things happen as chance has it, then let them settle."""
    for kind in chance.choices(list(odds), list(odds.values()), k=STEPS):
        number = chance.randrange(1000)
        match kind:
            case "send":
                world.send(bad=False)
            case "send_bad":
                world.send(bad=True)
            case "burst":
                for _ in range(20):
                    world.send(bad=False)
            case "refuse":
                world.refuse_next = REFUSALS[number % len(REFUSALS)]
            case "give_up":
                world.give_up(number, Unavailable("connection lost"))
            case "arrive_first":
                world.arrive(0)
            case "pass_time":
                world.pass_time(number / 1000)
            case _:
                getattr(world, kind)(number)
    world.settle(chance)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**64),
    odds=weights,
    batch_records=st.integers(1, 3),
    max_in_flight=st.integers(1, 16),
)
def test_no_loss_whatever_the_network_does(
    seed: int, odds: dict[str, int], batch_records: int, max_in_flight: int
) -> None:
    """Lost, late and reordered calls: each message is stored once, in order, acknowledged."""
    world = new_world(
        batch_records=batch_records,
        max_in_flight=max_in_flight,
        delivery_timeout_s=1e9,
        content_first=False,
    )
    play(world, random.Random(seed), odds)
    acknowledged = world.check()
    assert all(acknowledged.values())
    assert len(world.channel.contents()) == len(world.sent)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**64),
    odds=weights,
    batch_records=st.integers(1, 4),
    max_in_flight=st.integers(1, 16),
    content_first=st.booleans(),
)
def test_a_bad_message_fails_alone(
    seed: int,
    odds: dict[str, int],
    batch_records: int,
    max_in_flight: int,
    content_first: bool,
) -> None:
    """A message that the broker refuses takes no other with it, and the order still holds."""
    world = new_world(
        batch_records=batch_records,
        max_in_flight=max_in_flight,
        delivery_timeout_s=1e9,
        content_first=content_first,
    )
    play(world, random.Random(seed), odds | {"send_bad": 1})
    acknowledged = world.check()
    assert {content for content, good in acknowledged.items() if not good} == {
        content for content, _ in world.sent if content.startswith(BAD_CONTENT)
    }


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**64),
    odds=weights,
    batch_records=st.integers(1, 4),
    max_in_flight=st.integers(1, 16),
    delivery_timeout_s=st.sampled_from([0.3, 1.0, 10.0]),
    content_first=st.booleans(),
)
def test_nothing_is_doubled_when_batches_fail(
    seed: int,
    odds: dict[str, int],
    batch_records: int,
    max_in_flight: int,
    delivery_timeout_s: float,
    content_first: bool,
) -> None:
    """Refusals and time running out: some fail, but none is doubled, and order holds."""
    world = new_world(
        batch_records=batch_records,
        max_in_flight=max_in_flight,
        delivery_timeout_s=delivery_timeout_s,
        content_first=content_first,
    )
    play(world, random.Random(seed), odds | {"send_bad": 1, "refuse": 1})
    acknowledged = world.check()
    event(f"failed: {min(5, sum(not good for good in acknowledged.values()))}")
