"""A consumer group, one object a message: slow, and plain enough to be believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.events import Acked, Dead, Event, Expired, Failed
from mq.broker.groups.plan import Plan, Refusal


class Record(NamedTuple):
    """What a publisher said."""

    key: bytes | None
    not_before_ms: int
    expires_at_ms: int


@dataclass
class Message:
    """What the group knows of one message; the second half is forgotten in a crash."""

    done: bool = False
    failures: int = 0
    not_before_ms: int = 0
    expires_at_ms: int = 0

    consumer: str = ""
    deadline_ms: int = 0
    locked: bool = False
    given_back: bool = False
    seen: bool = False

    @property
    def held(self) -> bool:
        return bool(self.consumer) or self.locked

    def free(self) -> None:
        self.consumer, self.locked, self.given_back = "", False, False

    def forget(self) -> None:
        self.free()
        self.seen = self.failures > 0 or self.not_before_ms > 0


class Verdict(NamedTuple):
    """What is decided about one message."""

    kind: str
    deliveries: int = 0
    not_before_ms: int = 0
    reason: str = ""


ACKED, EXPIRED = Verdict("acked"), Verdict("expired")
Verdicts = dict[int, Verdict]


def verdicts_of(events: Iterable[Event]) -> Verdicts:
    """The same as events tell it, in their order."""
    found: Verdicts = {}
    for event in events:
        for first, following, verdict in _runs_of(event):
            for offset in range(first, following):
                assert offset not in found, "decided twice"
                found[offset] = verdict
    return found


def _runs_of(event: Event) -> list[tuple[int, int, Verdict]]:
    match event:
        case Acked(ranges):
            return [(*each, ACKED) for each in ranges]
        case Expired(ranges):
            return [(*each, EXPIRED) for each in ranges]
        case Failed(runs):
            return [(f, n, Verdict("failed", count, time_ms)) for f, n, count, time_ms in runs]
        case Dead(dead):
            return [(f, n, Verdict("dead", count, 0, reason)) for f, n, count, reason in dead]
        case _:
            return []


@dataclass
class InFlight:
    """A plan that is not settled: what it does to the durable half, and then to the other."""

    plan: Plan
    data: bytes
    durable: Callable[[], None]
    confirmed: Callable[[], None]
    abandoned: Callable[[], None]
    barrier: bool = False


@dataclass
class Model:
    """The group. Its methods say what the real one has to answer."""

    config: GroupConfig = field(default_factory=GroupConfig)
    base: int = 0
    durable_end: int = 0
    messages: defaultdict[int, Message] = field(default_factory=lambda: defaultdict(Message))
    totals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    letters: list[tuple[int, int, int, str]] = field(default_factory=list)
    next_sequence: int = 0
    epoch: int = 0
    active: str = ""

    end: int = 0
    log_start: int = 0
    keys: dict[int, bytes | None] = field(default_factory=dict)
    last_seen_ms: dict[str, int] = field(default_factory=dict)
    # A cell for each life of a consumer: it begins with 0 when it comes back.
    acked_by: dict[str, list[int]] = field(default_factory=dict)

    # ---- Looking ---------------------------------------------------------

    @property
    def floor(self) -> int:
        offset = self.base
        while self.messages[offset].done:
            offset += 1
        return offset

    @property
    def known_end(self) -> int:
        return max(self.end, self.durable_end)

    def undone(self) -> list[int]:
        return [o for o in range(self.floor, self.known_end) if not self.messages[o].done]

    def at_limit(self, message: Message) -> bool:
        return 0 < self.config.max_deliveries <= message.failures

    def has_expired(self, message: Message, now_ms: int) -> bool:
        return 0 < message.expires_at_ms <= now_ms

    def is_doomed(self, message: Message, now_ms: int) -> bool:
        over = self.at_limit(message) and message.not_before_ms <= now_ms
        return not message.held and (over or self.has_expired(message, now_ms))

    def is_available(self, offset: int, now_ms: int) -> bool:
        message = self.messages[offset]
        return (
            self.log_start <= offset < self.end
            and not message.held
            and message.not_before_ms <= now_ms
            and not self.is_doomed(message, now_ms)
        )

    def deliverable(self, now_ms: int) -> list[int]:
        """In the order in which they are handed out."""
        if self.config.mode is Mode.KEY_ORDERED:
            return self.deliverable_by_key(now_ms)
        # A delayed message may be due beyond the end after a restart: it has been read.
        found = [o for o in self.undone() if self.is_available(o, now_ms)]
        return sorted(found, key=lambda o: (not self.messages[o].seen, o))

    def deliverable_by_key(self, now_ms: int) -> list[int]:
        # A key is taken by a lease, and by any earlier message that is not handed out now.
        leased = [o for o in self.undone() if self.messages[o].consumer]
        taken = {self.keys.get(o) for o in leased}
        found = []
        for offset in self.undone():
            key = self.keys.get(offset)
            if self.is_available(offset, now_ms) and not (key and key in taken):
                found.append(offset)
            else:
                taken.add(key)
        return found

    def held_by(self, consumer: str) -> list[int]:
        """What it has leased; not what it gave back while it was locked."""
        messages = ((o, self.messages[o]) for o in self.undone())
        return [o for o, m in messages if m.consumer == consumer and not m.given_back]

    # ---- Calls -------------------------------------------------------------

    def touch(self, consumer: str, now_ms: int) -> None:
        self.last_seen_ms[consumer] = now_ms
        self.acked_by.setdefault(consumer, [0])

    def is_fenced(self, consumer: str, epoch: int) -> bool:
        exclusive = self.config.mode is Mode.EXCLUSIVE
        return exclusive and (consumer, epoch) != (self.active, self.epoch)

    def lease(self, offset: int, consumer: str, deadline_ms: int) -> int:
        """Hand out; returns the delivery count."""
        message = self.messages[offset]
        message.consumer, message.deadline_ms, message.seen = consumer, deadline_ms, True
        return message.failures + 1

    def answer(self, consumer: str, offset: int, epoch: int, now_ms: int) -> Refusal | None:
        """What an ack, nack or extension of one message is answered."""
        if self.is_fenced(consumer, epoch):
            return Refusal.FENCED
        message = self.messages[offset]
        if offset < self.base or message.done:
            return Refusal.ALREADY
        if message.consumer:
            if message.consumer != consumer or message.given_back:
                return Refusal.OTHER
            return Refusal.PENDING if message.locked else None
        if message.failures or 0 < message.not_before_ms <= now_ms:
            return Refusal.EXPIRED
        return Refusal.EXPIRED if message.seen and not message.not_before_ms else Refusal.NEVER

    def failure(self, offset: int, reason: str, delay_ms: int | None, now_ms: int) -> Verdict:
        """What becomes of a message whose delivery failed."""
        message = self.messages[offset]
        count = message.failures + 1
        if 0 < self.config.max_deliveries <= count:
            return Verdict("dead", count, reason=reason)
        if self.has_expired(message, now_ms):
            return self.expiry(count)
        if delay_ms is None:
            doubled = self.config.backoff_min_ms * 2 ** (count - 1)
            delay_ms = min(doubled, self.config.backoff_max_ms)
        return Verdict("failed", count, now_ms + delay_ms if delay_ms else 0)

    def expiry(self, count: int) -> Verdict:
        to_dead = self.config.expired_to_dead
        return Verdict("dead", count, reason="the message expired") if to_dead else EXPIRED

    def doom(self, offset: int) -> Verdict:
        message = self.messages[offset]
        if self.at_limit(message):
            reason = f"it failed {message.failures} times, as often as is allowed by now"
            return Verdict("dead", message.failures, reason=reason)
        return self.expiry(message.failures)

    def expire(self, now_ms: int) -> Verdicts:
        """What is to be decided on account of time."""
        found: Verdicts = {}
        for offset in self.undone():
            message = self.messages[offset]
            if message.consumer and not message.locked and message.deadline_ms <= now_ms:
                found[offset] = self.failure(offset, "the lease expired", 0, now_ms)
            elif self.is_doomed(message, now_ms):
                found[offset] = self.doom(offset)
        idle = now_ms - self.config.session_ms
        for consumer in [c for c, seen in self.last_seen_ms.items() if seen < idle]:
            if consumer != self.active and not self.held_by(consumer):
                self.forget_consumer(consumer)
        return found

    def may_join(self, consumer: str, now_ms: int) -> bool:
        if self.active in {"", consumer}:
            return True
        if self.active not in self.last_seen_ms:
            self.touch(self.active, now_ms)
            return False
        silent = now_ms - self.last_seen_ms[self.active]
        return not self.held_by(self.active) and silent >= self.config.session_ms

    def give_back(self, consumer: str) -> None:
        for offset in self.held_by(consumer):
            message = self.messages[offset]
            if message.locked:
                message.given_back = True
            else:
                message.free()
        self.forget_consumer(consumer)

    def forget_consumer(self, consumer: str) -> None:
        self.last_seen_ms.pop(consumer, None)
        self.acked_by.pop(consumer, None)

    # ---- What plans do, once they are durable -----------------------------

    def lock(self, verdicts: Verdicts) -> None:
        for offset in verdicts:
            self.messages[offset].locked = True

    def unlock(self, verdicts: Verdicts) -> None:
        for offset in verdicts:
            message = self.messages[offset]
            message.locked = False
            if message.given_back:
                message.free()

    def apply(self, verdicts: Verdicts) -> None:
        for offset, verdict in verdicts.items():
            if offset >= self.floor:
                self.durable_end = max(self.durable_end, offset + 1)
                self.apply_one(offset, self.messages[offset], verdict)

    def apply_one(self, offset: int, message: Message, verdict: Verdict) -> None:
        assert not message.done, "decided after it was done"
        if verdict.kind == "failed":
            message.failures, message.not_before_ms = verdict.deliveries, verdict.not_before_ms
            self.totals["redelivered"] += 1
            return
        message.done = True
        self.totals[verdict.kind] += 1
        if verdict.kind == "dead":
            letter = (self.next_sequence, offset, verdict.deliveries, verdict.reason)
            self.letters.append(letter)
            self.next_sequence += 1

    def settle(self, verdicts: Verdicts) -> None:
        for offset in verdicts:
            self.messages[offset].free()

    def skip_to(self, offset: int, total: str) -> None:
        """Commit or trim: all below is done."""
        for below in range(self.floor, offset):
            message = self.messages[below]
            if not message.done:
                message.done = True
                message.free()
                self.totals[total] += 1
        self.base = max(self.base, offset)
        self.durable_end = max(self.durable_end, offset)

    def begin_at(self, offset: int) -> None:
        """Seek."""
        self.messages.clear()
        self.base = self.durable_end = offset

    def forget(self, consumers: bool) -> None:
        """The overlay is built anew."""
        for message in self.messages.values():
            message.forget()
        keyed = self.config.mode is Mode.KEY_ORDERED
        self.end = self.floor if keyed else self.durable_end
        self.keys.clear()
        if consumers:
            self.last_seen_ms.clear()
            self.acked_by.clear()

    def publish_letters(self, next_sequence: int) -> None:
        self.letters = [letter for letter in self.letters if letter[0] >= next_sequence]

    def schedule(self, begin: int, following: int, records: list[Record], now_ms: int) -> None:
        """Note the delays and expiries of new records."""
        for offset in range(max(begin, self.floor), following):
            record, message = records[offset], self.messages[offset]
            message.not_before_ms = record.not_before_ms if record.not_before_ms > now_ms else 0
            message.expires_at_ms = record.expires_at_ms
        self.durable_end = max(self.durable_end, following)

    def learn(self, begin: int, following: int, records: list[Record]) -> None:
        for offset in range(begin, following):
            self.keys[offset] = records[offset].key
            message = self.messages[offset]
            message.seen = message.seen or message.not_before_ms > 0
            # In the order of keys there is no telling who was seen.
            message.seen = message.seen or self.config.mode is Mode.KEY_ORDERED
        self.end = max(self.end, following)

    def next_event_ms(self, now_ms: int) -> int | None:
        """The first time at which something has to be decided, or can be handed out."""
        times = []
        for offset in self.undone():
            message = self.messages[offset]
            if message.consumer and not message.locked:
                times.append(message.deadline_ms)
            elif self.is_doomed(message, now_ms):
                times.append(now_ms)
            elif not message.held:
                later = (message.not_before_ms, message.expires_at_ms)
                times += [time_ms for time_ms in later if time_ms > now_ms]
        return min(times, default=None)

    def stats(self, end_offset: int, now_ms: int) -> dict[str, Any]:
        undone = [o for o in range(self.floor, end_offset) if not self.messages[o].done]
        waiting = [
            o
            for o in self.undone()
            if not self.messages[o].held
            and self.messages[o].not_before_ms > now_ms
            and not self.has_expired(self.messages[o], now_ms)
        ]
        return {
            "behind": len(undone),
            "in_flight": sum(bool(self.messages[o].consumer) for o in undone),
            "waiting": len(waiting),
            "redelivered": self.totals["redelivered"],
            "acked": self.totals["acked"],
            "dead": self.totals["dead"],
            "dead_unpublished": len(self.letters),
            "expired": self.totals["expired"],
            "trimmed": self.totals["trimmed"],
            "oldest_offset": undone[0] if undone else None,
        }
