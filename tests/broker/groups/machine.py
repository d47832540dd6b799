"""A group and its model, called alike; the journal may refuse, the broker crash at any time.

What must never happen, whatever is called, delayed, refused by the journal or
lost in a crash: a message with two consumers at once, a message lost, a
message delivered after its acknowledgement was durable, a later one of a key
before an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mq.broker.groups import Group, GroupConfig, Mode, Plan, Refusal
from mq.broker.groups.codec import decode_entry, encode_entry
from mq.broker.groups.ranges import append_range, merged
from mq.errors import FailedPrecondition, Fenced, OffsetOutOfRange, Unavailable
from tests.broker.groups.model import (
    ACKED,
    InFlight,
    Model,
    Record,
    Verdicts,
    verdicts_of,
)

RECORDS_MAX = 60
START_MS = 1_000_000
CONSUMERS = ("ann", "bob", "cid")

consumers = st.sampled_from(CONSUMERS)
some_ranges = st.lists(
    st.tuples(st.integers(0, RECORDS_MAX), st.integers(1, 9)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=4,
)
# None: whatever the consumer has.
chosen = st.none() | some_ranges
leases_ms = st.sampled_from((100, 1_000))
delays_ms = st.none() | st.sampled_from((0, 50, 700))
configs = st.builds(
    GroupConfig,
    max_deliveries=st.sampled_from((0, 2, 3)),
    backoff_min_ms=st.just(40),
    backoff_max_ms=st.just(300),
    session_ms=st.just(500),
    expired_to_dead=st.booleans(),
)
records = st.builds(
    Record,
    st.sampled_from((None, b"a", b"b", b"c")),
    st.sampled_from((0, 0, 0, 0, 30, 600)),
    st.sampled_from((0, 0, 0, 0, 60, 900)),
)


def nothing() -> None:
    """No effect."""


def note(text: str) -> None:
    """Count, for Hypothesis's statistics, how often something was come across."""
    if currently_in_test_context():
        event(text)


class GroupMachine(RuleBasedStateMachine):
    """Both groups, the channel, and the journal between decision and durability."""

    @initialize(mode=st.sampled_from(Mode), config=configs, count=st.integers(0, 20))
    def begin(self, mode: Mode, config: GroupConfig, count: int) -> None:
        self.now_ms = START_MS
        self.channel: list[Record] = []
        self.journal: list[bytes] = []
        self.in_flight: list[InFlight] = []
        self.snapshot: tuple[bytes, int] | None = None
        self.published_letters: list[tuple[int, int]] = []
        self.epochs = dict.fromkeys(CONSUMERS, 0)
        self.group, self.model = Group(), Model()
        config = replace(config, mode=mode)
        plan = self.group.create(config, 0, self.now_ms)
        self.put(plan, partial(self.set_config, config), self.model_rebuilt, barrier=True)
        self.settle_all()
        self.extend_channel([Record(None, 0, 0)] * count)
        note(mode.name)

    # ---- Plans in flight ----------------------------------------------------

    @property
    def moving(self) -> bool:
        return any(item.barrier for item in self.in_flight)

    def put(
        self,
        plan: Plan,
        durable: Callable[[], None],
        confirmed: Callable[[], None] = nothing,
        abandoned: Callable[[], None] = nothing,
        barrier: bool = False,
    ) -> None:
        """A plan goes to the journal; one without events is over."""
        if plan.events:
            data = plan.to_bytes()
            assert decode_entry(data) == (plan.number, plan.events)
            assert encode_entry(*decode_entry(data)) == data
            self.in_flight.append(InFlight(plan, data, durable, confirmed, abandoned, barrier))

    def put_verdicts(
        self,
        plan: Plan,
        expected: Verdicts,
        durable: Callable[[], None] = nothing,
        barrier: bool = False,
    ) -> None:
        """A plan that decides about messages, which both groups see the same way."""
        told = verdicts_of(plan.events)
        assert told == expected
        self.model.lock(told)

        def apply() -> None:
            durable()
            self.model.apply(told)

        self.put(
            plan,
            apply,
            lambda: self.model.settle(told),
            lambda: self.model.unlock(told),
            barrier,
        )

    @precondition(lambda self: self.in_flight)
    @rule(count=st.integers(1, 4))
    def confirm(self, count: int) -> None:
        """The journal has synced the oldest entries."""
        for item in self.in_flight[:count]:
            self.in_flight.pop(0)
            self.journal.append(item.data)
            self.group.confirm(item.plan, self.now_ms)
            item.durable()
            item.confirmed()

    @precondition(lambda self: self.in_flight)
    @rule()
    def abandon(self) -> None:
        """The journal has refused the oldest entry."""
        item = self.in_flight.pop(0)
        self.group.abandon(item.plan, self.now_ms)
        item.abandoned()

    def settle_all(self) -> None:
        self.confirm(len(self.in_flight))

    def refused(self, call: Callable[[], Any]) -> bool:
        """Whether nothing can be called, as the group is being moved."""
        if self.moving:
            with pytest.raises(Unavailable):
                call()
        return self.moving

    # ---- The channel ----------------------------------------------------------

    def extend_channel(self, batch: list[Record]) -> None:
        for record in batch[: RECORDS_MAX - len(self.channel)]:
            delay_until = self.now_ms + record.not_before_ms if record.not_before_ms else 0
            expires_at = self.now_ms + record.expires_at_ms if record.expires_at_ms else 0
            self.channel.append(Record(record.key, delay_until, expires_at))
        self.advance(RECORDS_MAX)

    @rule(batch=st.lists(records, min_size=1, max_size=12))
    def publish(self, batch: list[Record]) -> None:
        self.extend_channel(batch)

    @rule(count=st.integers(1, RECORDS_MAX))
    def advance(self, count: int) -> None:
        """The shell reads on."""
        group, model = self.group, self.model
        begin = group.read_offset
        if not self.moving:
            assert begin == max(model.end, model.floor)
        following = min(begin + count, len(self.channel))
        schedule = [
            (offset, offset + 1, record.not_before_ms or None, record.expires_at_ms or None)
            for offset, record in enumerate(self.channel)
        ]
        keyed = model.config.mode is Mode.KEY_ORDERED
        keys = [record.key for record in self.channel[begin:following]] if keyed else []
        call = partial(group.advance, following, self.now_ms, schedule, keys)
        if self.refused(call):
            return
        if group.advancing:
            with pytest.raises(Unavailable):
                call()
            return
        known = max(begin, model.known_end)
        plan = call()
        if following <= begin:
            assert not plan.events
        elif plan.events:
            now_ms = self.now_ms
            self.put(
                plan,
                lambda: model.schedule(known, following, self.channel, now_ms),
                lambda: model.learn(begin, following, self.channel),
            )
        else:
            model.learn(begin, following, self.channel)
            news = self.channel[known:following]
            assert not any(r.expires_at_ms or r.not_before_ms > self.now_ms for r in news)

    # ---- Consumers ------------------------------------------------------------

    def epoch_of(self, consumer: str, stale: bool) -> int:
        return max(0, self.epochs[consumer] - stale)

    @rule(consumer=consumers)
    def join(self, consumer: str) -> None:
        group, model = self.group, self.model
        call = partial(group.join, consumer, self.now_ms)
        if self.refused(call):
            return
        plan = call()
        model.touch(consumer, self.now_ms)
        if model.config.mode is not Mode.EXCLUSIVE:
            assert not plan.epoch
            assert not plan.events
            return
        if not model.may_join(consumer, self.now_ms):
            note("stands by")
            assert not plan.epoch
            assert not plan.events
            return
        assert plan.epoch == model.epoch + 1
        lapsed = {
            offset: model.failure(offset, "the lease expired", 0, self.now_ms)
            for offset in model.held_by(consumer)
            if not model.messages[offset].locked
        }
        self.put_verdicts(plan, lapsed, partial(self.activate, plan.epoch, consumer), barrier=True)

    def activate(self, epoch: int, consumer: str) -> None:
        self.model.epoch, self.model.active = epoch, consumer
        if consumer:
            self.epochs[consumer] = epoch

    @rule(
        consumer=consumers,
        count=st.sampled_from((1, 3, 10, 100)),
        lease_ms=leases_ms,
        stale=st.sampled_from((False, False, False, True)),
    )
    def fetch(self, consumer: str, count: int, lease_ms: int, stale: bool) -> None:
        group, model = self.group, self.model
        epoch = self.epoch_of(consumer, stale)
        call = partial(group.fetch, consumer, self.now_ms, count, lease_ms, epoch)
        if self.refused(call):
            return
        model.touch(consumer, self.now_ms)
        if model.is_fenced(consumer, epoch):
            with pytest.raises(Fenced):
                call()
            return
        deliveries = call()
        told = [(o, d.delivery_count) for d in deliveries for o in range(d.first, d.next)]
        expected = model.deliverable(self.now_ms)[:count]
        assert [o for o, _ in told] == expected
        for offset, delivery_count in told:
            assert not model.messages[offset].held
            assert model.lease(offset, consumer, self.now_ms + lease_ms) == delivery_count
        note(f"fetched {min(len(told), 2)}")

    def expected_outcomes(
        self, consumer: str, ranges: list[tuple[int, int]] | None, epoch: int
    ) -> tuple[list[tuple[int, int]], dict[int, Refusal | None]]:
        """Ranges for a call, and what each message is to be answered."""
        if ranges is None:
            ranges = []
            for offset in self.model.held_by(consumer) or [0]:
                append_range(ranges, offset, offset + 1)
        offsets = {offset for each in ranges for offset in range(*each)}
        answer = self.model.answer
        return ranges, {o: answer(consumer, o, epoch, self.now_ms) for o in sorted(offsets)}

    def check_outcomes(
        self, outcomes: tuple[Any, ...], expected: dict[int, Refusal | None]
    ) -> list[int]:
        """Each message was answered; returns those that were not refused."""
        told = {o: each.refusal for each in outcomes for o in range(each.first, each.next)}
        assert merged(each[:2] for each in outcomes) == merged((o, o + 1) for o in expected)
        for offset, refusal in told.items():
            same = {refusal, expected[offset]}
            # A new message that expired, or was trimmed, was passed over unseen.
            assert len(same) == 1 or same == {Refusal.EXPIRED, Refusal.NEVER}
            if refusal is not None:
                note(refusal.name)
        return [offset for offset, refusal in told.items() if refusal is None]

    @rule(consumer=consumers, ranges=chosen, stale=st.sampled_from((False, False, False, True)))
    def ack(self, consumer: str, ranges: list[tuple[int, int]] | None, stale: bool) -> None:
        epoch = self.epoch_of(consumer, stale)
        ranges, expected = self.expected_outcomes(consumer, ranges, epoch)
        call = partial(self.group.ack, consumer, ranges, self.now_ms, epoch)
        if self.refused(call):
            return
        self.model.touch(consumer, self.now_ms)
        plan = call()
        done = self.check_outcomes(plan.outcomes, expected)
        cell = self.model.acked_by[consumer]
        self.put_verdicts(plan, dict.fromkeys(done, ACKED))
        if done:
            item = self.in_flight[-1]
            settled = item.confirmed

            def confirmed() -> None:
                settled()
                cell[0] += len(done)

            item.confirmed = confirmed

    @rule(
        consumer=consumers,
        ranges=chosen,
        delay_ms=delays_ms,
        stale=st.sampled_from((False, False, False, True)),
    )
    def nack(
        self, consumer: str, ranges: list[tuple[int, int]] | None, delay_ms: int | None, stale: bool
    ) -> None:
        epoch = self.epoch_of(consumer, stale)
        ranges, expected = self.expected_outcomes(consumer, ranges, epoch)
        call = partial(self.group.nack, consumer, ranges, self.now_ms, delay_ms, "no", epoch)
        if self.refused(call):
            return
        self.model.touch(consumer, self.now_ms)
        plan = call()
        failed = self.check_outcomes(plan.outcomes, expected)
        verdicts = {o: self.model.failure(o, "no", delay_ms, self.now_ms) for o in failed}
        self.put_verdicts(plan, verdicts)

    @rule(consumer=consumers, ranges=chosen, lease_ms=leases_ms)
    def extend(self, consumer: str, ranges: list[tuple[int, int]] | None, lease_ms: int) -> None:
        epoch = self.epochs[consumer]
        ranges, expected = self.expected_outcomes(consumer, ranges, epoch)
        call = partial(self.group.extend, consumer, ranges, self.now_ms, lease_ms, epoch)
        if self.refused(call):
            return
        self.model.touch(consumer, self.now_ms)
        for offset in self.check_outcomes(call(), expected):
            self.model.messages[offset].deadline_ms = self.now_ms + lease_ms

    @rule(consumer=consumers, ranges=chosen)
    def hand_back(self, consumer: str, ranges: list[tuple[int, int]] | None) -> None:
        epoch = self.epochs[consumer]
        ranges, expected = self.expected_outcomes(consumer, ranges, epoch)
        outcomes = self.group.hand_back(consumer, ranges, self.now_ms, epoch)
        self.model.touch(consumer, self.now_ms)
        for offset in self.check_outcomes(outcomes, expected):
            self.model.messages[offset].free()

    @rule(consumer=consumers, stale=st.sampled_from((False, False, True)))
    def release(self, consumer: str, stale: bool) -> None:
        group, model = self.group, self.model
        epoch = self.epoch_of(consumer, stale)
        call = partial(group.release, consumer, self.now_ms, epoch)
        if self.refused(call):
            return
        model.touch(consumer, self.now_ms)
        active = model.config.mode is Mode.EXCLUSIVE and model.active == consumer
        if active and epoch != model.epoch:
            with pytest.raises(Fenced):
                call()
            return
        plan = call()
        model.give_back(consumer)
        assert bool(plan.events) == active
        self.put(plan, partial(self.activate, epoch, ""), barrier=True)

    # ---- Time -------------------------------------------------------------------

    @rule(passed_ms=st.sampled_from((1, 40, 100, 100, 500, 1_000)))
    def pass_time(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self.expire()

    @rule()
    def expire(self) -> None:
        plan = self.group.expire(self.now_ms)
        if self.moving:
            assert not plan.events
            assert self.group.next_event_ms(self.now_ms) is None
            return
        self.put_verdicts(plan, self.model.expire(self.now_ms))
        # Nothing is left to do now, so that a timer set by it does not spin.
        following_ms = self.group.next_event_ms(self.now_ms)
        assert following_ms is None or following_ms > self.now_ms

    # ---- The whole group -----------------------------------------------------------

    def model_rebuilt(self) -> None:
        self.model.forget(consumers=False)

    @rule(offset=st.integers(-1, RECORDS_MAX + 1))
    def seek(self, offset: int) -> None:
        call = partial(self.group.seek, offset, len(self.channel), self.now_ms)
        if self.refused(call):
            return
        if not self.model.log_start <= offset <= len(self.channel):
            with pytest.raises(OffsetOutOfRange):
                call()
            return
        plan = call()
        self.put(plan, partial(self.model.begin_at, offset), self.model_rebuilt, barrier=True)

    @rule(passed=st.integers(0, 8))
    def trim(self, passed: int) -> None:
        """Retention removes some records, done or not."""
        offset = min(self.model.log_start + passed, len(self.channel))
        self.model.log_start = offset
        self.call_trim()

    def call_trim(self) -> None:
        plan = self.group.trim(self.model.log_start, self.now_ms)
        skip = partial(self.model.skip_to, self.model.log_start, "trimmed")
        self.put(plan, skip, self.follow_floor)

    def follow_floor(self) -> None:
        self.model.end = max(self.model.end, self.model.floor)

    @rule(offset=st.integers(0, RECORDS_MAX + 1))
    def commit(self, offset: int) -> None:
        call = partial(self.group.commit, offset, len(self.channel), self.now_ms)
        if self.refused(call):
            return
        if any(self.model.messages[o].consumer for o in self.model.undone()):
            with pytest.raises(FailedPrecondition):
                call()
        elif offset > len(self.channel):
            with pytest.raises(OffsetOutOfRange):
                call()
        else:
            plan = call()
            assert bool(plan.events) == (offset > self.model.floor)
            self.put(plan, partial(self.model.skip_to, offset, "acked"), self.follow_floor)

    def set_config(self, config: GroupConfig) -> None:
        self.model.config = config

    @rule(config=configs, mode=st.none() | st.sampled_from(Mode))
    def configure(self, config: GroupConfig, mode: Mode | None) -> None:
        old = self.model.config.mode
        mode = mode or old
        config = replace(config, mode=mode)
        call = partial(self.group.configure, config, self.now_ms)
        if self.refused(call):
            return
        if mode is not old and any(self.model.messages[o].held for o in self.model.undone()):
            with pytest.raises(FailedPrecondition):
                call()
            return
        rebuilt = self.model_rebuilt if mode is not old else nothing
        self.put(call(), partial(self.set_config, config), rebuilt, barrier=mode is not old)

    @rule(limit=st.integers(1, 3))
    def publish_letters(self, limit: int) -> None:
        """The shell publishes some dead letters, and says so."""
        letters = self.group.dead_letters(limit)
        if letters:
            last = letters[-1]
            following = last.sequence + last.next - last.first
            for letter in letters:
                offsets = range(letter.first, letter.next)
                self.published_letters += enumerate(offsets, letter.sequence)
            plan = self.group.dead_done(following, self.now_ms)
            self.put(plan, partial(self.model.publish_letters, following))

    # ---- Crashes ------------------------------------------------------------------

    @rule()
    def take_snapshot(self) -> None:
        """It goes to the journal behind all that is in flight by now."""
        self.snapshot = (self.group.to_snapshot(), len(self.journal))
        oldest = self.in_flight[0].plan.number if self.in_flight else None
        assert self.group.unsettled_number == oldest

    @rule(written=st.integers(0, 5), from_snapshot=st.booleans(), whole_journal=st.booleans())
    def crash(self, written: int, from_snapshot: bool, whole_journal: bool) -> None:
        """Of what was in flight, some was written; nobody was told."""
        for item in self.in_flight[:written]:
            self.journal.append(item.data)
            item.durable()
        self.in_flight.clear()
        snapshot, first = None, 0
        if from_snapshot and self.snapshot is not None:
            snapshot, first = self.snapshot
            first = 0 if whole_journal else first
        self.group = Group.recover(snapshot, self.journal[first:])
        self.model.forget(consumers=True)
        if from_snapshot:
            assert Group.recover(None, self.journal).to_snapshot() == self.group.to_snapshot()
        again = Group.recover(self.group.to_snapshot(), [])
        assert again.to_snapshot() == self.group.to_snapshot()
        self.call_trim()

    # ---- What always holds ----------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "group"):
            return
        group, model = self.group, self.model
        assert group.floor == group.committed == model.floor
        assert group.config == model.config
        assert (group.epoch, group.active) == (model.epoch, model.active)
        letters = [
            (offset - each.first + each.sequence, offset, each.delivery_count, each.reason)
            for each in group.dead_letters(1_000)
            for offset in range(each.first, each.next)
        ]
        assert letters == model.letters
        assert group.retain_offset == min([model.floor, *(letter[1] for letter in letters)])
        end = max(len(self.channel), model.known_end)
        stats = group.stats(end, self.now_ms)._asdict()
        consumers = stats.pop("consumers")
        assert stats == model.stats(end, self.now_ms)
        assert {c.name: (c.acked, c.last_seen_ms) for c in consumers} == {
            name: (model.acked_by[name][0], seen) for name, seen in model.last_seen_ms.items()
        }
        assert {c.name: c.in_flight for c in consumers if c.in_flight} == {
            name: len(held) for name in model.last_seen_ms if (held := model.held_by(name))
        }

    @invariant()
    def the_timer_misses_nothing(self) -> None:
        if not hasattr(self, "group") or self.moving:
            return
        expected = self.model.next_event_ms(self.now_ms)
        if expected is not None:
            following_ms = self.group.next_event_ms(self.now_ms)
            assert following_ms is not None
            assert following_ms <= max(expected, self.now_ms)

    @invariant()
    def a_fetch_is_woken_if_it_would_find_something(self) -> None:
        if hasattr(self, "group"):
            expected = bool(self.model.deliverable(self.now_ms))
            assert self.group.deliverable(self.now_ms) == expected

    def teardown(self) -> None:
        """Nothing is lost: what is not done is delivered in the end."""
        if not hasattr(self, "group"):
            return
        for _ in range(3 * RECORDS_MAX):
            self.settle_all()
            self.call_trim()
            self.settle_all()
            self.pass_time(1_000)
            self.settle_all()
            self.advance(RECORDS_MAX)
            self.settle_all()
            if self.model.floor == len(self.channel):
                break
            self.join("ann")
            self.settle_all()
            self.fetch("ann", 100, 1_000, stale=False)
            self.ack("ann", None, stale=False)
            self.they_agree()
        assert self.model.floor == len(self.channel)
        assert self.group.stats(len(self.channel), self.now_ms).behind == 0
        # A sequence number is one message, however often it was published.
        assert len(set(self.published_letters)) == len({s for s, _ in self.published_letters})
