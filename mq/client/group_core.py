"""One consumer of a group without its I/O: what to fetch, to settle, to prolong.

A shell asks `next_call` for calls to make whenever something has happened or
`wake_at_s` has come, and reports how they ended. What is handed out comes from
`pop`, and what the caller says about it goes to `settle`.

After a call that ended without the broker's word, what is held is **in doubt**:
a broker that restarted has forgotten all leases, and others may have the
messages. Nothing is handed out then until the broker, asked to prolong the
leases, has said which of them still hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from mq.client.arguments import check_channel, to_limit
from mq.client.flows import Invoke
from mq.client.group_fetching import Fetching
from mq.client.group_flows import check_group
from mq.client.group_holding import Holding
from mq.client.group_options import GroupOptions, GroupStats
from mq.client.group_parcel import LOST, SETTLED, Damage, Parcel, open_fetch
from mq.client.group_settlement import Lane, Settlement, Verb, merged, offset_ranges, parse_refused
from mq.client.group_supply import Portion, Supply
from mq.client.group_types import GroupInfo
from mq.client.methods import EXTEND, FETCH, RELEASE
from mq.errors import DataLoss, DeadlineExceeded, Fenced, Internal, MQError, Unavailable
from mq.pb import mq_pb2 as pb

_LEASE_MS_DEFAULT = 30_000
# Leases are prolonged when this part of them is over.
_EXTEND_AFTER = 0.5
_REASON_CHARS_MAX = 512


@dataclass(slots=True, eq=False)
class GroupCall:
    """A call to make: it settles something, prolongs the leases of parcels, or fetches."""

    invoke: Invoke
    sent_s: float
    epoch: int
    settlement: Settlement | None = None
    parcels: list[Parcel] = field(default_factory=list)


class GroupCore:
    """The state of one consumer.

    Attributes:
        epoch: Of an exclusive group: of this consumer's activity; 0: it stands by.
        active: Whether it may be handed messages.
        stopped: Whether it will be handed no more.
    """

    def __init__(self, channel: str, group: str, options: GroupOptions) -> None:
        self.channel = check_channel(channel)
        self.group = check_group(group)
        self.options = options
        self.info: GroupInfo | None = None
        self.epoch = 0
        self.active = False
        self.stopped = False
        self._holding = Holding()
        self._supply = Supply()
        self._fetching = Fetching(options)
        self._acks = Lane(Verb.ACK, options.ack_linger_s)
        self._nacks = Lane(Verb.NACK, 0.0)
        self._releases = Lane(Verb.RELEASE, 0.0)
        self._lease_s = _LEASE_MS_DEFAULT / 1000
        self._generation = 0
        # The calls that are out; of each kind there is one at a time.
        self._fetch_call: GroupCall | None = None
        self._extend_call: GroupCall | None = None
        self._doubt = False
        self._extend_not_before_s = 0.0
        self._failures = 0
        self._failing_since_s = 0.0
        # What the next one who asks for something is told.
        self._error: MQError | None = None
        self._failed: list[Settlement] = []
        self._delivered = self._redelivered = self._acked = self._nacked = 0
        self._refused = self._skipped = self._fenced = 0

    def started(self, info: GroupInfo) -> None:
        """The group is there, and is like this."""
        self.info = info
        lease_ms = self.options.lease_ms or info.config.lease_ms or _LEASE_MS_DEFAULT
        self._lease_s = lease_ms / 1000
        self._supply.key_ordered = info.config.mode == "key_ordered"
        self.active = info.config.mode != "exclusive"
        if not self.active:
            self._fetching.session_ms = info.config.session_ms

    @property
    def key_ordered(self) -> bool:
        """Whether messages of one key go to one consumer at a time, in order."""
        return self._supply.key_ordered

    @property
    def in_doubt(self) -> bool:
        """Whether what is held may have been lost."""
        return self._doubt and bool(self._holding)

    @property
    def stats(self) -> GroupStats:
        """What was done so far."""
        return GroupStats(
            self._delivered,
            self._redelivered,
            self._acked,
            self._nacked,
            self._holding.lost + self._refused,
            self._skipped,
            self._fenced,
            self._holding.buffered,
            self._holding.out,
        )

    # ---- Calls to make ----------------------------------------------------

    def next_call(self, now: float) -> GroupCall | None:
        """The next call to make, now; None until something happens or `wake_at_s`."""
        for lane in (self._acks, self._nacks, self._releases):
            settlement = lane.next(now)
            if settlement is not None:
                return self._settle_call(settlement, now)
        if _is_due(self._extend_due_at_s, now):
            call = self._new_extend_call(now)
            if call is not None:
                return call
        if _is_due(self._fetch_due_at_s, now):
            return self._new_fetch_call(now)
        return None

    def expects(self, call: GroupCall) -> bool:
        """Whether the outcome of a call still matters; not that of a fetch after `stop`."""
        return call.settlement is not None or call in {self._fetch_call, self._extend_call}

    @property
    def stirred(self) -> bool:
        """Whether there may be a call to make after something was handed out."""
        low = 2 * self._holding.buffered <= self.options.max_records
        return (low and self._fetch_call is None) or self._releases.due_at_s is not None

    @property
    def wake_at_s(self) -> float | None:
        """When to ask `next_call` again if nothing happens before."""
        lanes = (self._acks, self._nacks, self._releases)
        times = [lane.due_at_s for lane in lanes]
        times += [self._extend_due_at_s, self._fetch_due_at_s]
        return min((each for each in times if each is not None), default=None)

    @property
    def _extend_due_at_s(self) -> float | None:
        first_end_s = self._holding.first_end_s
        if self._extend_call is not None or first_end_s is None:
            return None
        due_at_s = 0.0 if self._doubt else first_end_s - self._lease_s * (1 - _EXTEND_AFTER)
        return max(due_at_s, self._extend_not_before_s)

    @property
    def _fetch_due_at_s(self) -> float | None:
        busy = self._fetch_call is not None or self._error is not None
        # What was acknowledged must not come again before that is told.
        unsure = self.in_doubt or self._acks.repeating
        if self.stopped or busy or unsure:
            return None
        return self._fetching.due_at_s(self._holding.buffered)

    def _settle_call(self, settlement: Settlement, now: float) -> GroupCall:
        request = settlement.encode(self.channel, self.group, self.options.consumer, self.epoch)
        invoke = Invoke(settlement.verb.value, request, self.options.call_timeout_s)
        return GroupCall(invoke, now, self.epoch, settlement)

    def _new_extend_call(self, now: float) -> GroupCall | None:
        limit_s = self.options.work_limit_s
        if limit_s is not None and self._holding.let_go(now - limit_s):
            self._stand_back(now)
        parcels, ranges = self._holding.to_extend()
        if not parcels:
            return None
        # What was settled, and was not sent yet, must not lapse either.
        ranges += self._acks.queued_ranges() + self._nacks.queued_ranges()
        request = pb.ExtendRequest(
            channel=self.channel,
            group=self.group,
            consumer=self.options.consumer,
            ranges=offset_ranges(merged(ranges)),
            epoch=self.epoch,
            lease_ms=round(self._lease_s * 1000),
        )
        invoke = Invoke(EXTEND, request.SerializeToString(), self.options.call_timeout_s)
        self._extend_call = GroupCall(invoke, now, self.epoch, parcels=parcels)
        return self._extend_call

    def _stand_back(self, now: float) -> None:
        """Leave to others what nobody here takes; what was let go as well, if it comes back."""
        for portion in self._supply.take_all():
            self.settle(portion, Verb.RELEASE, now)
        self._fetch_call = None
        self._fetching.forget_caller()

    def _new_fetch_call(self, now: float) -> GroupCall:
        wait_ms = self._fetching.wait_ms(now)
        request = pb.FetchRequest(
            channel=self.channel,
            group=self.group,
            consumer=self.options.consumer,
            max_records=self.options.max_records - self._holding.buffered,
            max_bytes=self.options.max_bytes,
            max_wait_ms=wait_ms,
            lease_ms=round(self._lease_s * 1000),
            epoch=self.epoch,
        )
        timeout_s = wait_ms / 1000 + self.options.call_timeout_s
        invoke = Invoke(FETCH, request.SerializeToString(), timeout_s)
        self._fetch_call = GroupCall(invoke, now, self.epoch)
        return self._fetch_call

    # ---- How calls ended --------------------------------------------------

    def answered(self, call: GroupCall, response: bytes, now: float) -> None:
        """A call was answered with this serialized response."""
        try:
            if call.settlement is not None:
                self._settled(call, call.settlement, response, now)
            elif call.parcels:
                self._extended(call, response)
            else:
                self._fetched(call, response, now)
        except Internal as error:
            self.failed(call, error, now)

    def failed(self, call: GroupCall, error: MQError, now: float) -> None:
        """A call ended with this error."""
        if isinstance(error, (Unavailable, DeadlineExceeded)):
            self._doubt = True
        if call.settlement is not None:
            self._settling_failed(call.settlement, error, now)
        elif call is self._extend_call:
            self._extend_call = None
            self._extending_failed(call, error, now)
        elif call is self._fetch_call:
            self._fetch_call = None
            self._fetching_failed(call, error, now)

    def _fetched(self, call: GroupCall, response: bytes, now: float) -> None:
        try:
            answer = pb.FetchResponse.FromString(response)
        except DecodeError as error:
            raise Internal(f"the answer to a fetch is no FetchResponse: {error}") from None
        if call is not self._fetch_call:
            delivered = [(each.first_offset, each.next_offset) for each in answer.deliveries]
            self._say_unasked(self._releases, delivered, now)
            return
        self._fetch_call = None
        self._failures = 0
        self.epoch, self.active = answer.epoch, answer.active
        if answer.deliveries:
            self._receive(answer, now)
        else:
            self._fetching.got_nothing(call.sent_s, now, self._holding.buffered)

    def _receive(self, answer: pb.FetchResponse, now: float) -> None:
        self._generation += 1
        self._fetching.got_something()
        pieces, empty = open_fetch(self.channel, answer, self._generation)
        parcels = [piece for piece in pieces if isinstance(piece, Parcel)]
        if not self._holding:
            self._doubt = False
        self._holding.receive(parcels, now + self._lease_s)
        self._supply.add(pieces)
        self._say_unasked(self._acks, empty, now)

    def _say_unasked(self, lane: Lane, ranges: list[tuple[int, int]], now: float) -> None:
        """Settle what was not handed out, and of which nobody wants to know."""
        if ranges:
            settlement = Settlement(lane.verb, now, quiet=True)
            settlement.urgent = True
            for first, following in ranges:
                settlement.add(first, following)
            lane.put(settlement)

    def _extended(self, call: GroupCall, response: bytes) -> None:
        refused = parse_refused(response)
        if call is not self._extend_call:
            return
        self._extend_call = None
        self._failures = 0
        self._doubt = False
        for first, following, refusal in refused:
            if refusal != "pending":
                self._holding.lose(first, following, refusal, call.parcels)
        self._holding.extended(call.parcels, call.sent_s + self._lease_s)
        if any(refusal == "fenced" for _, _, refusal in refused):
            self._on_fenced(call)

    def _extending_failed(self, call: GroupCall, error: MQError, now: float) -> None:
        if isinstance(error, Fenced):
            self._on_fenced(call)
        elif error.retriable:
            self._extend_not_before_s = now + self._note_failure(error, now)
        else:
            # The group is gone, or the channel: whoever fetches is told so.
            self._holding.lose_all("unknown")

    def _fetching_failed(self, call: GroupCall, error: MQError, now: float) -> None:
        if isinstance(error, Fenced):
            self._on_fenced(call)
        elif isinstance(error, DataLoss) and self.options.on_damage == "skip":
            self._say_unasked(self._acks, [(error.first_offset, error.next_offset)], now)
        elif error.retriable:
            self._fetching.pause(now + self._note_failure(error, now))
        else:
            self._error = error

    def _note_failure(self, error: MQError, now: float) -> float:
        """A call that may succeed later has failed; returns for how long to wait."""
        self._failures += 1
        if self._failures == 1:
            self._failing_since_s = now
        limit_s = self.options.reconnect_timeout_s
        if limit_s is not None and now - self._failing_since_s >= limit_s:
            self._failures = 0
            self._error = error
        return self.options.backoff.delay_s(max(self._failures, 1))

    def _settled(
        self, call: GroupCall, settlement: Settlement, response: bytes, now: float
    ) -> None:
        lane = self._lane(settlement.verb)
        if settlement is not lane.in_flight:
            return
        if not settlement.answered(response):
            lane.again(now + self.options.backoff.delay_s(settlement.failures + 1))
            return
        lane.landed()
        if settlement.quiet:
            if settlement.verb is Verb.ACK:
                self._skipped += settlement.settled_count
            return
        self._refused += settlement.refused_count
        if settlement.verb is Verb.ACK:
            self._acked += settlement.settled_count
        elif settlement.verb is Verb.NACK:
            self._nacked += settlement.settled_count
        if any(refusal == "fenced" for _, _, refusal in settlement.lost):
            self._on_fenced(call)

    def _settling_failed(self, settlement: Settlement, error: MQError, now: float) -> None:
        lane = self._lane(settlement.verb)
        if settlement is not lane.in_flight:
            return
        limit_s = self.options.reconnect_timeout_s
        late = limit_s is not None and now - settlement.created_s >= limit_s
        # Handing back is a courtesy: the leases end by themselves.
        if error.retriable and not late and settlement.verb is not Verb.RELEASE:
            settlement.uncertain = True
            lane.again(now + self.options.backoff.delay_s(settlement.failures + 1))
            return
        lane.landed()
        settlement.fail(error)
        if settlement.verb is not Verb.RELEASE:
            self._failed.append(settlement)

    def _lane(self, verb: Verb) -> Lane:
        if verb is Verb.ACK:
            return self._acks
        return self._nacks if verb is Verb.NACK else self._releases

    def _on_fenced(self, call: GroupCall) -> None:
        """Another consumer was active when this was answered: let go of all, and stand by."""
        if not call.epoch or call.epoch != self.epoch:
            return  # known already
        self._fenced += 1
        self.epoch, self.active = 0, False
        self._holding.lose_all("fenced")
        for lane in (self._acks, self._nacks, self._releases):
            for settlement in lane.take_all():
                settlement.lose("fenced")
                self._refused += 0 if settlement.quiet else settlement.refused_count

    # ---- Handing out ------------------------------------------------------

    def pop(self, now: float, *, whole: bool) -> Portion | None:
        """The next message, or as many as are together; None where there is none yet.

        Raises:
            MQError: What is next is damaged, or the broker refuses to give more.
        """
        portion = self._next_portion(now, whole=whole)
        self._fetching.asked(got=portion is not None)
        if portion is not None:
            parcel, low, high = portion
            self._holding.hand_out(parcel, low, high, now)
            self._delivered += high - low
            if parcel.delivery_count > 1:
                self._redelivered += high - low
        elif self._error is not None and (self.in_doubt or not self._holding.buffered):
            error, self._error = self._error, None
            raise error.with_traceback(None)
        return portion

    def _next_portion(self, now: float, *, whole: bool) -> Portion | None:
        while not (self.stopped or self.in_doubt):
            found = self._supply.peek(whole=whole)
            if isinstance(found, Damage):
                self._supply.drop(found)
                self._meet(found, now)
            elif found is not None and found.parcel.lease.until_s <= now:
                # This side was too slow, or could not ask for more time.
                self._doubt = True
            elif found is not None and self._supply.follows_one_turned_back(found):
                self.settle(found, Verb.RELEASE, now)
            else:
                return found
        return None

    def _meet(self, damage: Damage, now: float) -> None:
        if self.options.on_damage == "raise" or not isinstance(damage.error, DataLoss):
            raise damage.error.with_traceback(None)
        self._say_unasked(self._acks, [(damage.first, damage.next)], now)

    def take_idle(self) -> bool:
        """Whether there was nothing for as long as the options say; once."""
        return self._fetching.take_idle()

    # ---- Settling ---------------------------------------------------------

    def settle(
        self,
        portion: Portion,
        verb: Verb,
        now: float,
        delay_ms: int | None = None,
        reason: str = "",
    ) -> Settlement:
        """Say something about messages that nothing was said about before.

        Returns:
            What tells how it went.

        Raises:
            InvalidArgument: A delay that is none.
        """
        if delay_ms is not None:
            to_limit(delay_ms, "delay_ms")
        parcel, low, high = portion
        bounds = parcel.bounds
        if not parcel.states.count(LOST, low, high):
            settlement = self._lane(verb).open(now, delay_ms, reason[:_REASON_CHARS_MAX])
            settlement.add(bounds[low], bounds[high])
            self._holding.settle(parcel, low, high, SETTLED)
        else:
            # A settlement of its own: what it can't change is known already.
            settlement = Settlement(verb, now, delay_ms, reason[:_REASON_CHARS_MAX])
            for start, end, state in list(parcel.runs(low, high)):
                if state == LOST:
                    settlement.refuse(bounds[start], bounds[end], parcel.refusal)
                else:
                    settlement.add(bounds[start], bounds[end])
                    self._holding.settle(parcel, start, end, SETTLED)
            if settlement.empty:
                settlement.finish()
            else:
                self._lane(verb).put(settlement)
        if verb is not Verb.ACK:
            self._supply.turn_back(portion)
        return settlement

    def hurry_if_alone(self) -> None:
        """Somebody waits for an acknowledgement: don't linger if nobody could add to it."""
        if not self._holding.out:
            self._acks.hurry()

    def hurry(self) -> list[Settlement]:
        """Let nothing linger; returns all that is not done."""
        lanes = (self._acks, self._nacks, self._releases)
        for lane in lanes:
            lane.hurry()
        return [settlement for lane in lanes for settlement in lane.pending()]

    def take_failure(self) -> MQError | None:
        """The first call about messages that failed as a whole, untold; all are then forgotten."""
        errors = [each.error for each in self._failed if not each.error_seen]
        self._failed.clear()
        return errors[0] if errors else None

    # ---- Ending -----------------------------------------------------------

    def stop(self, now: float) -> GroupCall | None:
        """Hand out no more, and back what was not handed out.

        Returns:
            The fetch that is under way, to be cancelled.
        """
        self.stopped = True
        call = self._fetch_call
        self._stand_back(now)
        return call

    def goodbye(self) -> Invoke:
        """The call that hands back all that this consumer still has."""
        request = pb.ReleaseRequest(
            channel=self.channel,
            group=self.group,
            consumer=self.options.consumer,
            epoch=self.epoch,
        )
        return Invoke(RELEASE, request.SerializeToString(), self.options.call_timeout_s)

    def abandon(self, error: MQError) -> None:
        """Nothing more can be said: what is not settled is lost, for all this side knows."""
        for lane in (self._acks, self._nacks, self._releases):
            for settlement in lane.pending():
                settlement.fail(error)
            lane.take_all()
            lane.landed()
        self._holding.lose_all("expired")


def _is_due(due_at_s: float | None, now: float) -> bool:
    return due_at_s is not None and now >= due_at_s
