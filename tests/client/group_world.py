"""A broker's side of groups in memory: the broker's own state machine, and batches in a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import crc32c

from mq.broker.groups import Group, GroupConfig, Plan, Refusal
from mq.client.group_core import GroupCall, GroupCore
from mq.client.group_options import GroupOptions
from mq.client.group_types import group_info
from mq.client.methods import ACK, EXTEND, FETCH, NACK, RELEASE
from mq.errors import DataLoss, MQError
from mq.pb import mq_pb2 as pb

CHANNEL, GROUP = "orders", "workers"
START_MS = 1_700_000_000_000

_MODES = {1: pb.GROUP_MODE_SHARED, 2: pb.GROUP_MODE_KEY_ORDERED, 3: pb.GROUP_MODE_EXCLUSIVE}
_REFUSALS = {
    Refusal.EXPIRED: pb.REFUSAL_EXPIRED,
    Refusal.OTHER: pb.REFUSAL_OTHER_CONSUMER,
    Refusal.ALREADY: pb.REFUSAL_ALREADY_ACKED,
    Refusal.NEVER: pb.REFUSAL_NEVER_DELIVERED,
    Refusal.FENCED: pb.REFUSAL_FENCED,
    Refusal.PENDING: pb.REFUSAL_PENDING,
}


def frame_of(base: int, contents: Sequence[bytes], keys: Sequence[bytes] = ()) -> pb.RecordBatch:
    """A batch as the broker stores it."""
    records = pb.Records(contents=contents, keys=keys).SerializeToString()
    return pb.RecordBatch(
        base_offset=base,
        last_offset_delta=len(contents) - 1,
        record_count=len(contents),
        append_time_ns=START_MS * 1_000_000,
        records_crc=crc32c.crc32c(records),
        records=records,
    )


@dataclass
class SimBroker:
    """One channel, one group, a clock that is told, and calls that are answered at once."""

    config: GroupConfig = field(default_factory=GroupConfig)
    now_s: float = 0.0
    frames: list[pb.RecordBatch] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    damaged: list[tuple[int, int]] = field(default_factory=list)
    group: Group = field(default_factory=Group)
    waiting: dict[GroupCore, GroupCall] = field(default_factory=dict)
    """The fetches that wait for something."""

    def __post_init__(self) -> None:
        self.confirm(self.group.create(self.config, 0, self.now_ms))

    @property
    def now_ms(self) -> int:
        """The broker's clock."""
        return START_MS + int(self.now_s * 1000)

    @property
    def end(self) -> int:
        """One past the last offset."""
        return len(self.keys)

    def confirm(self, plan: Plan) -> Plan:
        """Make a plan durable at once."""
        if plan.events:
            self.group.confirm(plan, self.now_ms)
        return plan

    def publish(self, count: int, keys: Sequence[bytes] = ()) -> None:
        """Store a batch; contents say their offset."""
        contents = [b"%d" % (self.end + index) for index in range(count)]
        self.frames.append(frame_of(self.end, contents, keys))
        self.keys += keys or [b""] * count

    def restart(self) -> None:
        """Forget what a restart forgets."""
        self.group = Group.recover(self.group.to_snapshot(), ())

    def pass_time(self, now_s: float) -> None:
        """Let leases lapse, and waits end."""
        self.now_s = now_s
        while True:
            due = self.group.next_event_ms(self.now_ms)
            if due is None or due > self.now_ms:
                return
            if not self.confirm(self.group.expire(self.now_ms)).events:
                return

    @property
    def done(self) -> bool:
        """Whether every message is."""
        return self.group.floor == self.end

    # ---- Calls ------------------------------------------------------------

    def call(self, method: str, request: bytes) -> bytes:
        """Answer a call.

        Raises:
            MQError: As the broker would.
        """
        handlers: dict[str, Callable[[bytes], bytes]] = {
            FETCH: self._fetch,
            ACK: self._ack,
            NACK: self._nack,
            EXTEND: self._extend,
            RELEASE: self._release,
        }
        return handlers[method](request)

    def _fetch(self, data: bytes) -> bytes:
        request = pb.FetchRequest.FromString(data)
        consumer, epoch = request.consumer, request.epoch
        if self.config.mode == 3 and not epoch:
            epoch = self.confirm(self.group.join(consumer, self.now_ms)).epoch
            if not epoch:
                return pb.FetchResponse().SerializeToString()
        begin = self.group.read_offset
        self.confirm(self.group.advance(self.end, self.now_ms, (), self.keys[begin:]))
        found = self.group.fetch(
            consumer, self.now_ms, request.max_records, request.lease_ms, epoch
        )
        deliveries = sorted(found)
        for first, following in self.damaged:
            for index, delivery in enumerate(deliveries):
                if delivery.first < following and first < delivery.next:
                    rest = [(d.first, d.next) for d in deliveries[index + 1 :]]
                    return self._meet_damage(consumer, deliveries[:index], delivery, rest, epoch)
        return self._answer(deliveries, epoch)

    def _meet_damage(
        self,
        consumer: str,
        before: Sequence[tuple[int, int, int]],
        met: tuple[int, int, int],
        rest: list[tuple[int, int]],
        epoch: int,
    ) -> bytes:
        if before:
            self.group.hand_back(consumer, [met[:2], *rest], self.now_ms, epoch)
            return self._answer(before, epoch)
        first, following = next(d for d in self.damaged if d[0] < met[1] and met[0] < d[1])
        if met[0] < first:
            self.group.hand_back(consumer, [(first, met[1]), *rest], self.now_ms, epoch)
            return self._answer([(met[0], first, met[2])], epoch)
        back = [(following, met[1])] if following < met[1] else []
        if back or rest:
            self.group.hand_back(consumer, [*back, *rest], self.now_ms, epoch)
        raise DataLoss("damaged", met[0], following)

    def _answer(self, deliveries: Sequence[tuple[int, int, int]], epoch: int) -> bytes:
        return pb.FetchResponse(
            batches=[
                frame
                for frame in self.frames
                if any(
                    frame.base_offset < following
                    and first <= frame.base_offset + frame.last_offset_delta
                    for first, following, _ in deliveries
                )
            ],
            deliveries=[
                pb.Delivery(first_offset=first, next_offset=following, delivery_count=count)
                for first, following, count in deliveries
            ],
            epoch=epoch,
            active=True,
        ).SerializeToString()

    def _ack(self, data: bytes) -> bytes:
        request = pb.AckRequest.FromString(data)
        ranges = [(each.first_offset, each.next_offset) for each in request.ranges]
        return self._outcomes(
            self.confirm(self.group.ack(request.consumer, ranges, self.now_ms, request.epoch))
        )

    def _nack(self, data: bytes) -> bytes:
        request = pb.NackRequest.FromString(data)
        ranges = [(each.first_offset, each.next_offset) for each in request.ranges]
        delay_ms = request.delay_ms if request.HasField("delay_ms") else None
        plan = self.group.nack(
            request.consumer, ranges, self.now_ms, delay_ms, request.reason, request.epoch
        )
        return self._outcomes(self.confirm(plan))

    def _extend(self, data: bytes) -> bytes:
        request = pb.ExtendRequest.FromString(data)
        ranges = [(each.first_offset, each.next_offset) for each in request.ranges]
        outcomes = self.group.extend(
            request.consumer, ranges, self.now_ms, request.lease_ms, request.epoch
        )
        return self._outcomes(Plan(outcomes=outcomes))

    def _release(self, data: bytes) -> bytes:
        request = pb.ReleaseRequest.FromString(data)
        ranges = [(each.first_offset, each.next_offset) for each in request.ranges]
        if ranges:
            self.group.hand_back(request.consumer, ranges, self.now_ms, request.epoch)
        else:
            self.confirm(self.group.release(request.consumer, self.now_ms, request.epoch))
        return b""

    def _outcomes(self, plan: Plan) -> bytes:
        return pb.AckResponse(
            refused=[
                pb.RefusedRange(
                    first_offset=each.first,
                    next_offset=each.next,
                    refusal=_REFUSALS[each.refusal],
                )
                for each in plan.outcomes
                if each.refusal is not None
            ]
        ).SerializeToString()

    def core(self, consumer: str = "one", **options: Any) -> GroupCore:
        """A consumer of the group, as it is once it has been entered."""
        core = GroupCore(CHANNEL, GROUP, GroupOptions(consumer, **options))
        config = pb.GroupConfig(
            mode=_MODES[self.config.mode],
            lease_ms=self.config.lease_ms,
            session_ms=self.config.session_ms,
        )
        core.started(group_info(pb.GroupInfo(channel=CHANNEL, name=GROUP, config=config)))
        return core


def exchange(core: GroupCore, broker: SimBroker, limit: int = 100) -> list[str]:
    """Make all calls that are due, and answer them; returns the methods answered, in order.

    A fetch that finds nothing waits, as it does at a broker, until a later exchange.
    """
    answered: list[str] = []
    for _ in range(limit):
        call = broker.waiting.pop(core, None)
        if call is not None and not core.expects(call):
            call = None  # given up since
        call = call or core.next_call(broker.now_s)
        if call is None:
            return answered
        method = call.invoke.method
        try:
            response = broker.call(method, call.invoke.request)
        except MQError as error:
            core.failed(call, error, broker.now_s)
        else:
            if method == FETCH and not pb.FetchResponse.FromString(response).deliveries:
                request = pb.FetchRequest.FromString(call.invoke.request)
                if broker.now_s < call.sent_s + request.max_wait_ms / 1000:
                    broker.waiting[core] = call
                    if (other := core.next_call(broker.now_s)) is None:
                        return answered
                    answer(core, broker, other)
                    answered.append(other.invoke.method.rpartition("/")[2])
                    continue
            core.answered(call, response, broker.now_s)
        answered.append(method.rpartition("/")[2])
    raise AssertionError(f"it never comes to rest: {answered}")


def answer(core: GroupCore, broker: SimBroker, call: GroupCall) -> None:
    """Have a call answered, or refused."""
    try:
        response = broker.call(call.invoke.method, call.invoke.request)
    except MQError as error:
        core.failed(call, error, broker.now_s)
    else:
        core.answered(call, response, broker.now_s)
