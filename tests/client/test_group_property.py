"""Consumers against the broker's own state machine, over any interleaving and any fault."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mq.broker.groups import GroupConfig, Mode
from mq.client.backoff import Backoff
from mq.client.group_core import GroupCall, GroupCore
from mq.client.group_parcel import Piece
from mq.client.group_settlement import Settlement, Verb
from mq.client.group_supply import Portion
from mq.errors import LeaseLost, MQError, Unavailable
from tests.client.group_world import SimBroker, exchange

CONSUMERS = 3
KEYS = (b"", b"a", b"b", b"c")
LEASE_MS = 2000
# A third of what the profile says: an example is a long story.
FEWER = settings(max_examples=settings().max_examples // 3)
QUICK = Backoff(first_s=0.05, limit_s=0.2, random=lambda: 1.0)


class World:
    """Some consumers, one broker, calls on their way, and what the application knows."""

    linger_s = 0.005

    def __init__(
        self, mode: Mode, rng: random.Random, *, whole: bool, lease_ms: int = LEASE_MS
    ) -> None:
        self.rng = rng
        self.whole = whole
        config = GroupConfig(mode=mode, lease_ms=lease_ms, session_ms=LEASE_MS, backoff_min_ms=100)
        self.broker = SimBroker(config)
        self.cores = [self._consumer(index) for index in range(CONSUMERS)]
        self.names = CONSUMERS
        self.flying: list[tuple[GroupCore, GroupCall]] = []
        self.held: list[tuple[GroupCore, Portion]] = []
        self.said: list[tuple[GroupCore, Settlement, range]] = []
        self.processed: Counter[int] = Counter()
        self.acked: dict[int, set[Piece]] = {}

    def _consumer(self, index: int) -> GroupCore:
        return self.broker.core(
            f"c{index}",
            max_records=self.rng.choice((1, 3, 8)),
            backoff=QUICK,
            prefetch=self.rng.random() < 0.7,
            ack_linger_s=self.linger_s,
        )

    # ---- Steps ------------------------------------------------------------

    def step(self) -> None:
        """Something happens."""
        actions = {
            self.publish: 2,
            self.pump: 8,
            self.land: 10,
            self.lose_call: 1,
            self.hand_out: 8,
            self.settle: 8,
            self.wait: 4,
            self.restart: 0.3,
            self.crash: 0.3,
            self.stop: 0.1,
        }
        (action,) = self.rng.choices(list(actions), list(actions.values()))
        action()
        self.look()

    def publish(self) -> None:
        """A batch."""
        count = self.rng.randint(1, 6)
        self.broker.publish(count, self.rng.choices(KEYS, k=count))

    def pump(self) -> None:
        """A consumer makes its calls."""
        core = self.rng.choice(self.cores)
        while (call := core.next_call(self.broker.now_s)) is not None:
            self.flying.append((core, call))

    def land(self) -> None:
        """A call is answered."""
        if self.flying:
            core, call = self.flying.pop(self.rng.randrange(len(self.flying)))
            self._answer(core, call)

    def _answer(self, core: GroupCore, call: GroupCall) -> None:
        try:
            response = self.broker.call(call.invoke.method, call.invoke.request)
        except MQError as error:
            core.failed(call, error, self.broker.now_s)
        else:
            core.answered(call, response, self.broker.now_s)

    def lose_call(self) -> None:
        """A call gets lost, before the broker has it or after."""
        if not self.flying:
            return
        core, call = self.flying.pop(self.rng.randrange(len(self.flying)))
        if self.rng.random() < 0.5:
            with contextlib.suppress(MQError):
                self.broker.call(call.invoke.method, call.invoke.request)
        core.failed(call, Unavailable("lost"), self.broker.now_s)

    def hand_out(self) -> None:
        """The application takes something."""
        core = self.rng.choice(self.cores)
        portion = core.pop(self.broker.now_s, whole=self.whole)
        if portion is None:
            return
        self.take(core, portion)

    def take(self, core: GroupCore, portion: Portion) -> None:
        """The application has these now. They came before they were acknowledged by anyone.

        They may have been acknowledged since they came: a lease that lapsed, or
        that a restart of the broker forgot, is not always known to be lost.
        """
        for offset in self._offsets(portion):
            assert offset not in self.acked or portion.parcel in self.acked[offset]
            self.processed[offset] += 1
        self.held.append((core, portion))

    def settle(self) -> None:
        """The application says something about what it has."""
        if not self.held:
            return
        core, portion = self.held.pop(self.rng.randrange(len(self.held)))
        (verb,) = self.rng.choices(list(Verb), (8, 1, 1))
        settlement = core.settle(portion, verb, self.broker.now_s)
        if self.rng.random() < 0.5:
            core.hurry_if_alone()
        self.said.append((core, settlement, self._offsets(portion)))

    def wait(self) -> None:
        """Time passes."""
        self.broker.pass_time(self.broker.now_s + self.rng.choice((0.01, 0.1, 0.5, 3.0)))

    def restart(self) -> None:
        """The broker is killed and started again."""
        self.broker.restart()
        flying, self.flying = self.flying, []
        for core, call in flying:
            core.failed(call, Unavailable("it was killed"), self.broker.now_s)

    def crash(self) -> None:
        """A consumer is killed, and another takes its place."""
        self._replace(self.rng.randrange(len(self.cores)))

    def stop(self) -> None:
        """A consumer closes in order."""
        index = self.rng.randrange(len(self.cores))
        core = self.cores[index]
        core.stop(self.broker.now_s)
        core.hurry()
        while (call := core.next_call(self.broker.now_s)) is not None:
            self._answer(core, call)
        goodbye = core.goodbye()
        with contextlib.suppress(MQError):  # fenced, say
            self.broker.call(goodbye.method, goodbye.request)
        self._replace(index)

    def _replace(self, index: int) -> None:
        gone = self.cores[index]
        self.cores[index] = self._consumer(self.names)
        self.names += 1
        self.flying = [each for each in self.flying if each[0] is not gone]
        self.held = [each for each in self.held if each[0] is not gone]

    def look(self) -> None:
        """Learn what became of what was said."""
        told, self.said = self.said, []
        for core, settlement, offsets in told:
            if not settlement.done:
                self.said.append((core, settlement, offsets))
            elif settlement.verb is Verb.ACK:
                with contextlib.suppress(LeaseLost):
                    settlement.check(offsets[0], offsets[-1] + 1)
                    for offset in offsets:
                        self.acked.setdefault(offset, self._buffered())

    def _buffered(self) -> set[Piece]:
        """What has arrived, and was not handed out yet."""
        return {piece for core in self.cores for piece in core._supply._pieces}

    @staticmethod
    def _offsets(portion: Portion) -> range:
        return range(portion.parcel.bounds[portion.low], portion.parcel.bounds[portion.high])

    # ---- The end ----------------------------------------------------------

    def drain(self) -> None:
        """No more faults: everything is processed and acknowledged in the end."""
        for _ in range(3000):
            if self.broker.done:
                return
            self.broker.pass_time(self.broker.now_s + 0.2)
            while self.flying:
                self._answer(*self.flying.pop(0))
            for core in self.cores:
                exchange(core, self.broker)
                portion = core.pop(self.broker.now_s, whole=self.whole)
                if portion is not None:
                    self.take(core, portion)
            for core, portion in self.held:
                settlement = core.settle(portion, Verb.ACK, self.broker.now_s)
                self.said.append((core, settlement, self._offsets(portion)))
            self.held.clear()
            self.look()
        raise AssertionError(f"never done: {self.broker.group.floor} of {self.broker.end}")


@pytest.mark.parametrize("mode", tuple(Mode))
@pytest.mark.parametrize("whole", (False, True), ids=("messages", "batches"))
@FEWER
@given(seed=st.integers(0, 2**64 - 1))
def test_nothing_is_lost_and_nothing_comes_after_its_ack(
    mode: Mode, whole: bool, seed: int
) -> None:
    """Whatever fails and whoever dies: all is processed, and what was acknowledged is over."""
    world = World(mode, random.Random(seed), whole=whole)
    for _ in range(world.rng.randint(20, 150)):
        world.step()
    world.drain()
    assert sorted(world.processed) == list(range(world.broker.end))
    for core in world.cores:
        stats = core.stats
        assert min(stats) >= 0


class SteadyWorld(World):
    """Acknowledgements are sent before time passes, which it does in large steps."""

    linger_s = 0.0


@FEWER
@given(seed=st.integers(0, 2**64 - 1))
def test_without_faults_everything_comes_once(seed: int) -> None:
    """However slow the application is: leases are prolonged in time."""
    world = SteadyWorld(Mode.SHARED, random.Random(seed), whole=False)
    for _ in range(world.rng.randint(20, 100)):
        world.rng.choice((world.publish, world.hand_out, world.hand_out))()
        world.broker.pass_time(world.broker.now_s + world.rng.choice((0.01, 0.2, 0.6)))
        if world.rng.random() < 0.3 and world.held:
            core, portion = world.held.pop(world.rng.randrange(len(world.held)))
            core.settle(portion, Verb.ACK, world.broker.now_s)
        for core in world.cores:
            exchange(core, world.broker)
    world.drain()
    assert set(world.processed.values()) <= {1}
    assert all(core.stats.lost == core.stats.redelivered == 0 for core in world.cores)


class KeyWorld(World):
    """An application that works on one message at a time, and minds the order of keys."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(Mode.KEY_ORDERED, rng, whole=False, lease_ms=1_000_000)
        self.fine: set[int] = set()

    def hand_out(self) -> None:
        """Take a message where nothing else is in hand: all before it of its key went well."""
        core = self.rng.choice(self.cores)
        if any(owner is core for owner, _ in self.held):
            return
        portion = core.pop(self.broker.now_s, whole=False)
        if portion is None:
            return
        (offset,) = self._offsets(portion)
        key = self.broker.keys[offset]
        earlier = {each for each in range(offset) if self.broker.keys[each] == key}
        assert not key or earlier <= self.fine, f"{offset} before {earlier - self.fine}"
        self.held.append((core, portion))

    def settle(self) -> None:
        """Most go well, some fail, some are handed back."""
        if not self.held:
            return
        core, portion = self.held.pop()
        (verb,) = self.rng.choices(list(Verb), (6, 2, 1))
        core.settle(portion, verb, self.broker.now_s)
        if verb is Verb.ACK:
            self.fine |= set(self._offsets(portion))


@FEWER
@given(seed=st.integers(0, 2**64 - 1))
def test_keys_stay_in_order(seed: int) -> None:
    """Whatever fails or is handed back: nothing overtakes an earlier message of its key."""
    world = KeyWorld(random.Random(seed))
    for _ in range(world.rng.randint(50, 300)):
        action = world.rng.choice(
            (world.publish, *[world.pump, world.land, world.hand_out, world.settle] * 4, world.wait)
        )
        action()
    for _ in range(2000):
        if world.broker.done:
            break
        world.wait()
        for step in (world.pump, world.land, world.hand_out, world.settle):
            step()
    assert world.broker.done
