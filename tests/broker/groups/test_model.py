"""The group against a model with one object a message, over random interleavings."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings

from mq.broker.groups import GroupConfig, Mode
from mq.broker.groups.ranges import Range
from tests.broker.groups.machine import CONSUMERS, RECORDS_MAX, GroupMachine
from tests.broker.groups.model import Record

TestGroup = GroupMachine.TestCase
# Half of what the profile asks for: an example is a story of some length.
TestGroup.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=40, deadline=None
)

# What is called, and how often compared with the others.
WEIGHTS = {
    "confirm": 10,
    "abandon": 1,
    "publish": 3,
    "advance": 2,
    "join": 3,
    "fetch": 8,
    "ack": 6,
    "nack": 5,
    "extend": 2,
    "hand_back": 2,
    "release": 2,
    "pass_time": 4,
    "expire": 3,
    "seek": 0.3,
    "trim": 1,
    "commit": 1,
    "configure": 1,
    "publish_letters": 2,
    "take_snapshot": 1,
    "crash": 1,
}


class Walk:
    """A random story, likelier than Hypothesis's to be about messages in flight."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = GroupMachine()

    def run(self) -> None:
        count = self.random.choice((10, 40, 80, 200))
        self.machine.begin(self.mode(), self.config(), self.random.randint(0, 20))
        self.check()
        for name in self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count):
            if name not in {"confirm", "abandon"} or self.machine.in_flight:
                getattr(self.machine, name)(*self.arguments(name))
                self.check()
        self.machine.teardown()

    def check(self) -> None:
        self.machine.they_agree()
        self.machine.the_timer_misses_nothing()
        self.machine.a_fetch_is_woken_if_it_would_find_something()

    def arguments(self, name: str) -> tuple[Any, ...]:
        choice, number = self.random.choice, self.random.randint
        consumer, stale = choice(CONSUMERS), self.random.random() < 0.15
        end = len(self.machine.channel)
        lease_ms = choice((100, 1_000))
        delay_ms = choice((None, 0, 50, 700))
        mode = self.mode() if self.random.random() < 0.3 else None
        possible: dict[str, tuple[Any, ...]] = {
            "confirm": (number(1, 4),),
            "publish": ([self.record() for _ in range(number(1, 8))],),
            "advance": (number(1, RECORDS_MAX),),
            "join": (consumer,),
            "fetch": (consumer, choice((1, 3, 10, 100)), lease_ms, stale),
            "ack": (consumer, self.ranges(), stale),
            "nack": (consumer, self.ranges(), delay_ms, stale),
            "extend": (consumer, self.ranges(), lease_ms),
            "hand_back": (consumer, self.ranges()),
            "release": (consumer, stale),
            "pass_time": (choice((1, 40, 100, 100, 500, 1_000)),),
            "seek": (number(-1, end + 1),),
            "trim": (number(0, 4),),
            "commit": (min(number(0, end + 1), number(0, end + 1)),),
            "configure": (self.config(), mode),
            "publish_letters": (number(1, 3),),
            "crash": (number(0, 5), choice((True, False)), choice((True, False))),
        }
        return possible.get(name, ())

    def mode(self) -> Mode:
        return self.random.choice(list(Mode))

    def config(self) -> GroupConfig:
        return GroupConfig(
            max_deliveries=self.random.choice((0, 2, 3)),
            backoff_min_ms=40,
            backoff_max_ms=300,
            session_ms=500,
            expired_to_dead=self.random.random() < 0.5,
        )

    def record(self) -> Record:
        choice = self.random.choice
        return Record(
            choice((None, b"a", b"b", b"c")),
            choice((0, 0, 0, 0, 30, 600)),
            choice((0, 0, 0, 0, 60, 900)),
        )

    def ranges(self) -> list[Range] | None:
        """None: what the consumer has."""
        if self.random.random() < 0.6:
            return None
        firsts = [self.random.randint(0, RECORDS_MAX) for _ in range(self.random.randint(1, 4))]
        return [(first, first + self.random.randint(1, 9)) for first in firsts]


def walk(seeds: range) -> None:
    """Run these stories, and name the one that fails."""
    for seed in seeds:
        try:
            Walk(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}: replay with Walk({seed}).run()")
            raise


@pytest.mark.parametrize("part", range(4))
def test_walks(part: int) -> None:
    """Fixed seeds, so that what passes today passes tomorrow."""
    walk(range(part * 30, part * 30 + 30))


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_many_walks() -> None:
    """Other seeds at each run; a failure names its seed."""
    first = random.SystemRandom().randrange(1 << 40)
    walk(range(first, first + 20_000))
