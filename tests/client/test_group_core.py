"""A group's consumer without its I/O: what it fetches, holds, prolongs, settles and gives up."""

from __future__ import annotations

from typing import Any

import crc32c
import pytest

from mq.broker.groups import GroupConfig, Mode
from mq.client.backoff import Backoff
from mq.client.group_core import GroupCall, GroupCore
from mq.client.group_settlement import Settlement, Verb
from mq.client.group_supply import Portion
from mq.errors import (
    Cancelled,
    ChannelNotFound,
    DataLoss,
    Fenced,
    GroupNotFound,
    Internal,
    InvalidArgument,
    LeaseLost,
    Overloaded,
    Unavailable,
)
from mq.pb import mq_pb2 as pb
from tests.client.group_world import SimBroker, answer, exchange, frame_of

STEADY = Backoff(first_s=1.0, limit_s=8.0, random=lambda: 1.0)


def world(count: int = 10, **options: Any) -> tuple[SimBroker, GroupCore]:
    """A broker with so many messages in one batch, and a consumer."""
    broker = SimBroker()
    broker.publish(count)
    options.setdefault("backoff", STEADY)
    return broker, broker.core(**options)


def take(
    core: GroupCore, broker: SimBroker, count: int = 1, *, quiet: bool = True
) -> list[Portion]:
    """Have so many messages handed out; then, if it is to be quiet, what is due happens."""
    found: list[Portion] = []
    while len(found) < count:
        portion = core.pop(broker.now_s, whole=False)
        if portion is None:
            assert exchange(core, broker), "nothing comes"
        else:
            found.append(portion)
    if quiet:
        exchange(core, broker)
    return found


def offsets(portions: list[Portion]) -> list[int]:
    """Which messages these are."""
    return [each.parcel.bounds[each.low] for each in portions]


def say(
    core: GroupCore, broker: SimBroker, portion: Portion, verb: Verb = Verb.ACK, **more: Any
) -> Settlement:
    """Settle, and let what is due happen."""
    settlement = core.settle(portion, verb, broker.now_s, **more)
    core.hurry()
    exchange(core, broker)
    return settlement


def begin(core: GroupCore, now: float = 0.0) -> GroupCall:
    """The next call, which there has to be."""
    call = core.next_call(now)
    assert call is not None
    return call


# ---- Fetching -----------------------------------------------------------------


def test_nothing_is_fetched_before_it_is_asked_for() -> None:
    """A consumer that was only made leases nothing."""
    broker, core = world()
    assert exchange(core, broker) == []
    assert core.pop(0.0, whole=False) is None
    assert core.next_call(0.0) is not None


def test_messages_come_in_order_with_what_was_published() -> None:
    """Each once; and then nothing, with the next fetch on its way."""
    broker, core = world(3)
    broker.publish(2)
    assert offsets(take(core, broker, 5)) == [0, 1, 2, 3, 4]
    assert core.pop(0.0, whole=False) is None
    assert core.stats.delivered == 5
    assert core.stats.outstanding == 5


def test_no_more_is_held_than_was_allowed() -> None:
    """The next fetch begins when half is handed out, and asks for what there is room for."""
    broker, core = world(100, max_records=10)
    take(core, broker)
    assert core.stats.buffered == 9
    for _ in range(30):
        take(core, broker)
        call = core.next_call(0.0)
        if call is None:
            assert 5 < core.stats.buffered <= 10
            continue
        assert core.stats.buffered <= 5
        request = pb.FetchRequest.FromString(call.invoke.request)
        assert request.max_records == 10 - core.stats.buffered
        core.answered(call, broker.call(call.invoke.method, call.invoke.request), 0.0)


def test_without_prefetch_one_fetch_follows_when_all_is_handed_out() -> None:
    """And only once the caller waits."""
    broker, core = world(20, max_records=5, prefetch=False)
    take(core, broker, 5)
    assert core.next_call(0.0) is None
    assert core.pop(0.0, whole=False) is None
    assert core.next_call(0.0) is not None


def test_a_batch_is_what_is_together() -> None:
    """As much of a stored batch as is leased, in one piece."""
    broker, core = world(6, max_records=4)
    broker.publish(3)
    core.pop(0.0, whole=True)
    exchange(core, broker)
    portion = core.pop(0.0, whole=True)
    assert portion is not None
    assert (portion.low, portion.high) == (0, 4)
    assert core.pop(0.0, whole=True) is None
    exchange(core, broker)
    following = [core.pop(0.0, whole=True), core.pop(0.0, whole=True)]
    assert [(p.parcel.bounds[p.low], p.high - p.low) for p in following if p] == [(4, 2), (6, 2)]


def test_what_compaction_removed_is_settled_with_its_neighbours() -> None:
    """Offsets without a record are acknowledged with the one before, or by themselves."""
    broker = SimBroker()
    core = broker.core()
    frame = frame_of(0, [b"0", b"2"])
    records = pb.Records.FromString(frame.records)
    records.offset_deltas.extend([1, 3])
    broker.keys = [b""] * 8
    sparse = pb.RecordBatch()
    sparse.CopyFrom(frame)
    sparse.last_offset_delta = 4
    sparse.records = records.SerializeToString()
    sparse.records_crc = crc32c.crc32c(sparse.records)
    broker.frames = [sparse]
    portions = take(core, broker, 2)
    assert [(p.parcel.bounds[p.low], p.parcel.bounds[p.high]) for p in portions] == [(0, 3), (3, 8)]
    for portion in portions:
        say(core, broker, portion)
    assert broker.done


def test_a_delivery_without_any_record_is_acknowledged() -> None:
    """All of it was compacted away: nobody is bothered with it."""
    broker = SimBroker()
    core = broker.core()
    broker.keys = [b""] * 4
    core.pop(0.0, whole=False)
    exchange(core, broker)
    assert broker.done


def test_a_batch_that_compaction_has_emptied_is_acknowledged() -> None:
    """It may have been leased before; nobody is bothered with it."""
    broker = SimBroker()
    core = broker.core()
    empty = frame_of(0, [b"0"])
    empty.records = b""
    empty.record_count = 0
    empty.records_crc = 0
    empty.last_offset_delta = 3
    broker.keys = [b""] * 4
    broker.frames = [empty]
    core.pop(0.0, whole=False)
    exchange(core, broker)
    assert broker.done


def test_idle_is_when_there_was_nothing_for_so_long() -> None:
    """Not before; and iterating again begins to wait anew."""
    broker, core = world(1, idle_s=2.0, max_wait_ms=1500)
    take(core, broker)
    for now, wait_ms in ((0.0, 1500), (1.5, 500)):
        assert core.pop(now, whole=False) is None
        assert not core.take_idle()
        broker.now_s = now + wait_ms / 1000
        (call,) = broker.waiting.values()
        assert pb.FetchRequest.FromString(call.invoke.request).max_wait_ms == wait_ms
        exchange(core, broker)
    assert core.take_idle()
    assert not core.take_idle()
    broker.publish(1)
    assert offsets(take(core, broker)) == [1]


# ---- Settling -----------------------------------------------------------------


def test_acks_travel_together() -> None:
    """Neighbours are one range; one call is out at a time, and takes what gathered meanwhile."""
    broker, core = world(10, ack_linger_s=0.005)
    portions = take(core, broker, 10)
    for portion in portions[:4]:
        core.settle(portion, Verb.ACK, 0.0)
    assert core.next_call(0.004) is None
    assert core.wake_at_s == 0.005
    call = begin(core, 0.005)
    request = pb.AckRequest.FromString(call.invoke.request)
    assert [(r.first_offset, r.next_offset) for r in request.ranges] == [(0, 4)]
    for portion in (portions[8], portions[5], portions[6]):
        core.settle(portion, Verb.ACK, 0.006)
    assert core.next_call(1.0) is None
    core.answered(call, broker.call(call.invoke.method, call.invoke.request), 1.0)
    request = pb.AckRequest.FromString(begin(core, 1.0).invoke.request)
    assert [(r.first_offset, r.next_offset) for r in request.ranges] == [(5, 7), (8, 9)]
    assert core.stats.acked == 4


def test_who_waits_alone_does_not_linger() -> None:
    """With nothing else handed out nobody could add to the call."""
    broker, core = world(2, ack_linger_s=10.0)
    first, second = take(core, broker, 2)
    core.settle(first, Verb.ACK, 0.0)
    core.hurry_if_alone()
    assert core.next_call(0.0) is None
    core.settle(second, Verb.ACK, 0.0)
    core.hurry_if_alone()
    assert core.next_call(0.0) is not None


def test_nacks_with_one_delay_and_reason_travel_together() -> None:
    """Others follow in calls of their own; the reason is cut to what the broker keeps."""
    broker, core = world(4)
    portions = take(core, broker, 4)
    long = "x" * 1000
    core.settle(portions[0], Verb.NACK, 0.0, None, long)
    core.settle(portions[1], Verb.NACK, 0.0, None, long)
    core.settle(portions[2], Verb.NACK, 0.0, 7, long)
    core.settle(portions[3], Verb.NACK, 0.0, 0, "")
    requests = []
    while (call := core.next_call(0.0)) is not None:
        if call.invoke.method.endswith("Nack"):
            requests.append(pb.NackRequest.FromString(call.invoke.request))
        core.answered(call, broker.call(call.invoke.method, call.invoke.request), 0.0)
    assert [len(each.ranges) for each in requests] == [1, 1, 1]
    assert [each.HasField("delay_ms") for each in requests] == [False, True, True]
    assert [each.delay_ms for each in requests] == [0, 7, 0]
    assert [len(each.reason) for each in requests] == [512, 512, 0]
    assert core.stats.nacked == 4


def test_a_nacked_message_comes_again_with_its_count() -> None:
    """And is a redelivery."""
    broker, core = world(1)
    (portion,) = take(core, broker)
    say(core, broker, portion, Verb.NACK, delay_ms=0)
    (again,) = take(core, broker)
    assert again.parcel.delivery_count == 2
    assert core.stats.redelivered == 1


@pytest.mark.parametrize("delay_ms", (-1, 1 << 32))
def test_a_delay_that_is_none_is_refused(delay_ms: int) -> None:
    """And the message is still to be settled."""
    broker, core = world(1)
    (portion,) = take(core, broker)
    with pytest.raises(InvalidArgument):
        core.settle(portion, Verb.NACK, 0.0, delay_ms)
    say(core, broker, portion)
    assert broker.done


def test_a_lost_lease_is_told_to_those_it_concerns() -> None:
    """The others of the same call are acknowledged."""
    broker, core = world(3)
    portions = take(core, broker, 3)
    broker.waiting.clear()
    broker.group.hand_back("one", [(1, 2)], broker.now_ms)
    settlements = [core.settle(each, Verb.ACK, 0.0) for each in portions]
    core.hurry()
    exchange(core, broker)
    assert all(each is settlements[0] for each in settlements)
    settlements[0].check(0, 1)
    settlements[0].check(2, 3)
    with pytest.raises(LeaseLost) as caught:
        settlements[0].check(1, 2)
    lost = caught.value
    assert (lost.first_offset, lost.next_offset, lost.refusal) == (1, 2, "expired")
    assert (core.stats.acked, core.stats.lost) == (2, 1)


def test_an_ack_is_repeated_while_the_broker_is_away() -> None:
    """A repeat that finds it done has done it."""
    broker, core = world(1)
    (portion,) = take(core, broker)
    settlement = core.settle(portion, Verb.ACK, 0.0)
    core.hurry()
    call = begin(core)
    broker.call(call.invoke.method, call.invoke.request)
    core.failed(call, Unavailable("the answer was lost"), 0.0)
    assert core.next_call(0.9) is None
    assert core.wake_at_s == 1.0
    broker.now_s = 1.0
    exchange(core, broker)
    settlement.check(0, 1)
    assert (core.stats.acked, core.stats.lost) == (1, 0)


def test_an_ack_of_what_others_have_done_is_a_lost_lease() -> None:
    """Done, but not by this consumer alone: it has to know."""
    broker, core = world(1)
    (portion,) = take(core, broker)
    broker.confirm(broker.group.ack("one", [(0, 1)], broker.now_ms))
    with pytest.raises(LeaseLost, match="done already"):
        say(core, broker, portion).check(0, 1)


def test_pending_is_asked_again() -> None:
    """What the broker has not decided yet is not decided here."""
    broker, core = world(2)
    portions = take(core, broker, 2)
    settlement = core.settle(portions[0], Verb.ACK, 0.0)
    core.settle(portions[1], Verb.ACK, 0.0)
    core.hurry()
    call = begin(core)
    busy = pb.AckResponse(
        refused=[pb.RefusedRange(first_offset=1, next_offset=2, refusal=pb.REFUSAL_PENDING)]
    )
    core.answered(call, busy.SerializeToString(), 0.0)
    assert not settlement.done
    call = begin(core, 1.0)
    request = pb.AckRequest.FromString(call.invoke.request)
    assert [(r.first_offset, r.next_offset) for r in request.ranges] == [(1, 2)]
    core.answered(call, b"", 1.0)
    settlement.check(0, 2)
    assert core.stats.acked == 2


def test_a_refused_call_is_the_error_of_all_in_it() -> None:
    """Told to who waits; `take_failure` tells it where nobody did."""
    broker, core = world(2)
    portions = take(core, broker, 2)
    settlement = core.settle(portions[0], Verb.ACK, 0.0)
    core.hurry()
    core.failed(begin(core), ChannelNotFound("it is gone"), 0.0)
    with pytest.raises(ChannelNotFound):
        settlement.check(0, 1)
    assert core.take_failure() is None
    core.settle(portions[1], Verb.ACK, 0.0)
    core.hurry()
    core.failed(begin(core), ChannelNotFound("it is gone"), 0.0)
    assert isinstance(core.take_failure(), ChannelNotFound)
    assert core.take_failure() is None


def test_an_answer_that_is_none_is_an_error() -> None:
    """Of any call."""
    broker, core = world(1)
    core.pop(0.0, whole=False)
    core.answered(begin(core), b"\xff", 0.0)
    with pytest.raises(Internal, match="no FetchResponse"):
        core.pop(0.0, whole=False)
    (portion,) = take(core, broker)
    settlement = core.settle(portion, Verb.ACK, 0.0)
    core.hurry()
    core.answered(begin(core), b"\xff", 0.0)
    with pytest.raises(Internal, match="no AckResponse"):
        settlement.check(0, 1)


# ---- Leases -------------------------------------------------------------------


def test_leases_are_prolonged_before_two_thirds_are_over() -> None:
    """Of what is buffered and of what is out; not of what is settled."""
    broker, core = world(10, max_records=10, lease_ms=9000)
    portions = take(core, broker, 4)
    say(core, broker, portions[1])
    wake_at_s = core.wake_at_s
    assert wake_at_s is not None
    assert 0 < wake_at_s <= 6.0
    broker.now_s = wake_at_s
    call = begin(core, wake_at_s)
    request = pb.ExtendRequest.FromString(call.invoke.request)
    assert [(r.first_offset, r.next_offset) for r in request.ranges] == [(0, 1), (2, 10)]
    assert request.lease_ms == 9000
    core.answered(call, broker.call(call.invoke.method, call.invoke.request), wake_at_s)
    later = core.wake_at_s
    assert later is not None
    assert wake_at_s < later <= wake_at_s + 6.0


def test_while_they_are_prolonged_nothing_lapses() -> None:
    """However long the work takes: each message is delivered once."""
    broker, core = world(10, max_records=4, lease_ms=1000)
    held: list[Portion] = []
    for _ in range(400):
        broker.pass_time(broker.now_s + 0.1)
        exchange(core, broker)
        portion = core.pop(broker.now_s, whole=False)
        if portion is not None and len(held) < 3:
            held.append(portion)
        elif portion is not None:
            core.settle(portion, Verb.ACK, broker.now_s)
    for portion in held:
        say(core, broker, portion)
    assert broker.done
    assert (core.stats.redelivered, core.stats.lost) == (0, 0)


def test_what_is_worked_on_for_too_long_is_let_go() -> None:
    """It is not prolonged for ever; acknowledged in time it still counts."""
    broker, core = world(2, lease_ms=1000, work_limit_s=10.0, prefetch=False)
    first, second = take(core, broker, 2)
    while broker.now_s < 10.2:
        broker.pass_time(broker.now_s + 0.1)
        exchange(core, broker)
    say(core, broker, first).check(0, 1)
    while broker.now_s < 12:
        broker.pass_time(broker.now_s + 0.1)
        exchange(core, broker)
    settlement = say(core, broker, second)
    with pytest.raises(LeaseLost):
        settlement.check(1, 2)


def test_who_works_for_too_long_leaves_the_rest_to_others() -> None:
    """Nothing is kept in the buffer or fetched, the message let go least of all, till it asks."""
    broker, core = world(6, lease_ms=1000, work_limit_s=10.0, max_records=4)
    take(core, broker, 1)
    while broker.now_s < 12:
        broker.pass_time(broker.now_s + 0.1)
        exchange(core, broker)
    assert core.stats.outstanding == 0
    other = broker.core("two", backoff=STEADY, prefetch=False, max_records=3)
    assert sorted(offsets(take(other, broker, 3))) == [0, 1, 2]
    assert offsets(take(core, broker, 3)) == [3, 4, 5]


def test_a_lease_that_ran_out_here_is_in_doubt() -> None:
    """A consumer that was asleep asks before it hands out what it had."""
    broker, core = world(3, lease_ms=1000, prefetch=False)
    take(core, broker, 1)
    broker.pass_time(5.0)
    assert core.pop(5.0, whole=False) is None
    assert exchange(core, broker)[0] == "Extend"
    assert core.stats.lost == 1
    assert offsets(take(core, broker, 3)) == [0, 1, 2]


def test_after_a_restart_what_was_held_is_lost_and_comes_again() -> None:
    """In doubt, nothing is handed out; and the old message's ack is refused without asking."""
    broker, core = world(4, max_records=2)
    (first,) = take(core, broker)
    exchange(core, broker)
    core.settle(first, Verb.ACK, 0.0)
    (second,) = take(core, broker)
    core.hurry()
    call = begin(core)
    broker.restart()
    core.failed(call, Unavailable("gone"), 0.0)
    assert core.in_doubt
    assert core.pop(0.0, whole=False) is None
    broker.now_s = 1.0
    assert exchange(core, broker)[:2] == ["Ack", "Extend"]
    assert core.stats.lost == 2
    late = core.settle(second, Verb.ACK, 1.0)
    assert late.done
    with pytest.raises(LeaseLost, match="restarted"):
        late.check(1, 2)
    assert offsets(take(core, broker, 4)) == [0, 1, 2, 3]


def test_a_broken_connection_alone_loses_nothing() -> None:
    """The broker confirms the leases, and work goes on."""
    broker, core = world(4)
    first, _ = take(core, broker, 2)
    settlement = core.settle(first, Verb.ACK, 0.0)
    core.hurry()
    core.failed(begin(core), Unavailable("a hiccup"), 0.0)
    assert core.pop(0.0, whole=False) is None
    broker.now_s = 1.0
    exchange(core, broker)
    settlement.check(0, 1)
    assert offsets(take(core, broker, 2)) == [2, 3]
    assert core.stats.lost == 0


def test_redelivered_to_itself_the_former_copy_is_lost() -> None:
    """The broker says by delivering it again that the lease had ended."""
    broker, core = world(2, lease_ms=1000)
    old, _ = take(core, broker, 2)
    (call,) = broker.waiting.values()
    broker.pass_time(3.0)
    answer(core, broker, call)
    late = core.settle(old, Verb.ACK, 3.0)
    with pytest.raises(LeaseLost):
        late.check(0, 1)
    assert offsets(take(core, broker, 2)) == [0, 1]


def test_an_extension_that_fails_for_good_loses_all() -> None:
    """The group is gone: who fetches is told."""
    broker, core = world(2)
    (portion,) = take(core, broker)
    broker.now_s = 20.0
    core.failed(begin(core, 20.0), GroupNotFound("deleted"), 20.0)
    with pytest.raises(LeaseLost):
        core.settle(portion, Verb.ACK, 20.0).check(0, 1)


# ---- Failures -----------------------------------------------------------------


def test_a_broker_that_is_away_is_waited_for() -> None:
    """With growing pauses, and for ever."""
    broker, core = world(1)
    core.pop(0.0, whole=False)
    now = 0.0
    for pause in (1.0, 2.0, 4.0, 8.0, 8.0):
        core.failed(begin(core, now), Unavailable("away"), now)
        assert core.wake_at_s == now + pause
        now += pause
    broker.now_s = now
    assert offsets(take(core, broker)) == [0]


def test_it_is_not_waited_for_longer_than_was_said() -> None:
    """Then the caller is told, and asking again waits again."""
    _, core = world(1, reconnect_timeout_s=3.0)
    core.pop(0.0, whole=False)
    core.failed(begin(core), Unavailable("away"), 0.0)
    core.failed(begin(core, 1.0), Unavailable("away"), 1.0)
    core.failed(begin(core, 3.0), Unavailable("away"), 3.0)
    assert core.next_call(99.0) is None
    with pytest.raises(Unavailable):
        core.pop(99.0, whole=False)
    assert core.next_call(99.0) is not None


def test_a_refusal_comes_after_what_is_at_hand() -> None:
    """Nothing that was leased is thrown away for it."""
    broker, core = world(4, max_records=4)
    take(core, broker, 2, quiet=False)
    core.failed(begin(core), GroupNotFound("deleted"), 0.0)
    assert offsets(take(core, broker, 2)) == [2, 3]
    with pytest.raises(GroupNotFound):
        core.pop(0.0, whole=False)


def test_being_overloaded_puts_nothing_in_doubt() -> None:
    """The broker has answered: it knows its leases."""
    broker, core = world(4, max_records=4)
    take(core, broker, 2, quiet=False)
    core.failed(begin(core), Overloaded("busy"), 0.0)
    assert not core.in_doubt
    assert offsets(take(core, broker, 2)) == [2, 3]


def test_damage_is_raised_in_its_place() -> None:
    """After what is before it; then what follows comes."""
    broker, core = world(2)
    broker.publish(1)
    broker.publish(2)
    broker.damaged = [(2, 3)]
    assert offsets(take(core, broker, 2)) == [0, 1]
    with pytest.raises(DataLoss) as caught:
        core.pop(0.0, whole=False)
    assert (caught.value.first_offset, caught.value.next_offset) == (2, 3)
    assert offsets(take(core, broker, 2)) == [3, 4]


def test_damage_can_be_acknowledged_unread() -> None:
    """And is counted."""
    broker, core = world(2, on_damage="skip")
    broker.publish(1)
    broker.publish(2)
    broker.damaged = [(2, 3)]
    for portion in take(core, broker, 4):
        core.settle(portion, Verb.ACK, 0.0)
    core.hurry()
    exchange(core, broker)
    assert broker.done
    assert (core.stats.skipped, core.stats.acked, core.stats.lost) == (1, 4, 0)


@pytest.mark.parametrize("on_damage", ("raise", "skip"))
def test_records_that_arrive_damaged_are_found(on_damage: str) -> None:
    """By the checksum that their producer computed."""
    broker, core = world(2, on_damage=on_damage)
    broker.publish(2)
    broker.frames[0].records_crc ^= 1
    core.pop(0.0, whole=False)
    exchange(core, broker)
    if on_damage == "raise":
        with pytest.raises(DataLoss):
            core.pop(0.0, whole=False)
    assert offsets(take(core, broker, 2)) == [2, 3]
    exchange(core, broker)
    assert core.stats.skipped == (2 if on_damage == "skip" else 0)


# ---- Ordered by key -----------------------------------------------------------


def keyed(*keys: bytes, **options: Any) -> tuple[SimBroker, GroupCore]:
    """A group ordered by key, with a message for each of these."""
    broker = SimBroker(GroupConfig(mode=Mode.KEY_ORDERED, backoff_min_ms=1000))
    broker.publish(len(keys), keys)
    return broker, broker.core(**options)


def test_what_follows_a_failed_message_of_its_key_goes_back() -> None:
    """Uncounted; other keys go on, and later all of it comes in order."""
    broker, core = keyed(b"a", b"b", b"a", b"b", b"", b"a")
    (head,) = take(core, broker)
    say(core, broker, head, Verb.NACK)
    rest = take(core, broker, 3)
    assert offsets(rest) == [1, 3, 4]
    for portion in rest:
        say(core, broker, portion)
    assert core.pop(broker.now_s, whole=False) is None
    exchange(core, broker)
    broker.pass_time(2.0)
    again = broker.core("two")
    portions = take(again, broker, 3)
    assert offsets(portions) == [0, 2, 5]
    assert [each.parcel.delivery_count for each in portions] == [2, 1, 1]


def test_a_batch_that_follows_a_failed_one_goes_back_as_a_whole() -> None:
    """With all of its keys: none of them may overtake itself."""
    broker, core = keyed(b"a", b"b")
    broker.publish(2, [b"b", b"c"])
    broker.publish(2, [b"c", b"d"])
    core.pop(0.0, whole=True)
    exchange(core, broker)
    first = core.pop(0.0, whole=True)
    assert first is not None
    say(core, broker, first, Verb.RELEASE)
    found: list[tuple[int, int]] = []
    while len(found) < 6:
        portion = core.pop(0.0, whole=True)
        exchange(core, broker)
        if portion is not None:
            parcel = portion.parcel
            found += [(parcel.bounds[at], parcel.delivery_count) for at in range(*portion[1:])]
    assert found == [(offset, 1) for offset in range(6)]


# ---- Exclusive ----------------------------------------------------------------


def exclusive(count: int = 4) -> tuple[SimBroker, GroupCore, GroupCore]:
    """Two consumers of an exclusive group, the first of which is active."""
    broker = SimBroker(GroupConfig(mode=Mode.EXCLUSIVE, session_ms=3000))
    broker.publish(count)
    one, two = broker.core("one"), broker.core("two")
    one.pop(0.0, whole=False)
    exchange(one, broker)
    return broker, one, two


def test_one_is_active_and_the_other_stands_by() -> None:
    """Calling often enough to keep its place, or to get it."""
    broker, one, two = exclusive()
    assert (one.active, one.epoch) == (True, 1)
    two.pop(0.0, whole=False)
    call = begin(two)
    assert pb.FetchRequest.FromString(call.invoke.request).max_wait_ms == 1000
    two.answered(call, broker.call(call.invoke.method, call.invoke.request), 0.0)
    assert (two.active, two.epoch) == (False, 0)
    assert offsets(take(one, broker, 4)) == [0, 1, 2, 3]


def test_the_one_that_stands_by_takes_over() -> None:
    """When the active one says goodbye."""
    broker, one, two = exclusive()
    goodbye = one.goodbye()
    broker.call(goodbye.method, goodbye.request)
    assert offsets(take(two, broker, 4)) == [0, 1, 2, 3]
    assert (two.active, two.epoch) == (True, 3) or two.epoch > 1


def test_a_fenced_consumer_lets_go_and_stands_by() -> None:
    """All it had is lost, at once and without asking; then it joins anew."""
    broker, one, two = exclusive()
    first, second = take(one, broker, 2)
    queued = one.settle(second, Verb.ACK, 0.0)
    broker.pass_time(100.0)
    two.pop(100.0, whole=False)
    exchange(two, broker)
    assert two.active
    answer(one, broker, begin(one, 100.0))
    assert (one.active, one.epoch, one.stats.fenced) == (False, 0, 1)
    assert one.stats.buffered == 0
    with pytest.raises(LeaseLost):
        queued.check(1, 2)
    with pytest.raises(LeaseLost, match="active"):
        one.settle(first, Verb.ACK, 100.0).check(0, 1)
    fetch = broker.waiting.pop(one)
    one.failed(fetch, Fenced("another is active"), 100.0)
    one.pop(100.0, whole=False)
    call = begin(one, 100.0)
    assert pb.FetchRequest.FromString(call.invoke.request).epoch == 0
    assert one.stats.fenced == 1


def test_a_fenced_fetch_is_no_error() -> None:
    """The consumer joins anew."""
    broker, one, two = exclusive()
    take(one, broker, 4)
    call = broker.waiting.pop(one)
    broker.pass_time(100.0)
    two.pop(100.0, whole=False)
    exchange(two, broker)
    with pytest.raises(Fenced) as caught:
        broker.call(call.invoke.method, call.invoke.request)
    one.failed(call, caught.value, 100.0)
    assert one.stats.fenced == 1
    assert one.pop(100.0, whole=False) is None


# ---- Ending -------------------------------------------------------------------


def test_stopped_it_hands_back_what_was_not_handed_out() -> None:
    """Uncounted, at once; what was handed out can still be settled."""
    broker, core = world(6, max_records=6)
    first, second = take(core, broker, 2)
    fetch = core.stop(0.0)
    assert fetch is None
    assert core.pop(0.0, whole=False) is None
    assert exchange(core, broker) == ["Release"]
    other = broker.core("two")
    assert offsets(take(other, broker, 4)) == [2, 3, 4, 5]
    say(core, broker, first).check(0, 1)
    say(core, broker, second).check(1, 2)
    assert core.stats.buffered == core.stats.outstanding == 0


def test_the_answer_to_a_fetch_that_was_given_up_is_handed_back() -> None:
    """It had been on its way already."""
    broker, core = world(2)
    core.pop(0.0, whole=False)
    call = begin(core)
    response = broker.call(call.invoke.method, call.invoke.request)
    assert core.stop(0.0) is call
    assert not core.expects(call)
    core.answered(call, response, 0.0)
    exchange(core, broker)
    portions = take(broker.core("two"), broker, 2)
    assert [each.parcel.delivery_count for each in portions] == [1, 1]


def test_abandoned_what_is_not_done_fails() -> None:
    """Those who wait are told, whether it was sent or not."""
    broker, core = world(3)
    portions = take(core, broker, 3)
    sent = core.settle(portions[0], Verb.ACK, 0.0)
    core.hurry()
    begin(core)
    queued = core.settle(portions[1], Verb.NACK, 0.0)
    core.abandon(Cancelled("closed"))
    for settlement in (sent, queued):
        with pytest.raises(Cancelled):
            settlement.check(0, 2)
    with pytest.raises(LeaseLost):
        core.settle(portions[2], Verb.ACK, 0.0).check(2, 3)
