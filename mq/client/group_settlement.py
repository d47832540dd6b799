"""What a consumer says about messages, gathered into calls: acks, nacks, hand-backs.

All that is said while a call of the same kind is out, or within the linger, goes
into the next one. Neighbouring offsets become one range, so a call is small
however many messages it is about. Pure: times are passed in.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable

from google.protobuf.message import DecodeError

from mq.client.group_types import Refusal, refusal_name
from mq.client.methods import ACK, NACK, RELEASE
from mq.errors import Internal, LeaseLost, MQError
from mq.pb import mq_pb2 as pb

Range = tuple[int, int]

# Of one call; more wait for the next.
_RANGES_MAX = 10_000
_EXPLANATIONS: dict[Refusal, str] = {
    "expired": "the lease had run out",
    "other-consumer": "another consumer has them",
    "already-acked": "they are done already",
    "never-delivered": "the broker restarted since it delivered them",
    "fenced": "another consumer became the active one",
}


class Verb(enum.Enum):
    """What is said about messages; the value is the method that says it."""

    ACK = ACK
    NACK = NACK
    RELEASE = RELEASE


# How the broker answers a repeat whose first attempt it had carried out.
_DONE_BEFORE: dict[Verb, frozenset[Refusal]] = {
    Verb.ACK: frozenset({"already-acked"}),
    Verb.NACK: frozenset({"already-acked", "expired"}),
    Verb.RELEASE: frozenset(),
}


class Settlement:
    """What one call settles, from the first message added to the broker's answer.

    Args:
        verb: What is said.
        created_s: When it was opened.
        delay_ms: Of a nack: how long the messages wait; None leaves it to the group.
        reason: Of a nack: why.
        quiet: Whether refusals are of no interest.
    """

    __slots__ = (
        "_last",
        "_ranges",
        "_waiters",
        "created_s",
        "delay_ms",
        "done",
        "error",
        "error_seen",
        "failures",
        "lost",
        "quiet",
        "reason",
        "refused_count",
        "retry_at_s",
        "settled_count",
        "uncertain",
        "urgent",
        "verb",
    )

    def __init__(
        self,
        verb: Verb,
        created_s: float,
        delay_ms: int | None = None,
        reason: str = "",
        *,
        quiet: bool = False,
    ) -> None:
        self.verb = verb
        self.created_s = created_s
        self.delay_ms = delay_ms
        self.reason = reason
        self.quiet = quiet
        self.urgent = False
        self.uncertain = False
        """A call of it ended without the broker's word, so it may have been carried out."""
        self.failures = 0
        self.retry_at_s = 0.0
        self.done = False
        self.error: MQError | None = None
        self.error_seen = False
        self.lost: list[tuple[int, int, Refusal]] = []
        """What was refused, and why."""
        self.settled_count = 0
        """How many offsets the broker has settled, once done."""
        self.refused_count = 0
        """How many it has not, because they were lost."""
        self._last: list[int] = [-1, -1]
        self._ranges: list[list[int]] = []
        self._waiters: list[Callable[[], None]] = []

    # ---- Filling ----------------------------------------------------------

    def add(self, first: int, following: int) -> None:
        """Settle these, too."""
        last = self._last
        if last[1] == first:
            last[1] = following
        else:
            self._last = [first, following]
            self._ranges.append(self._last)

    def refuse(self, first: int, following: int, refusal: Refusal) -> None:
        """These are known to be lost without asking."""
        self.lost.append((first, following, refusal))

    @property
    def ranges(self) -> list[Range]:
        """The offsets that the broker is asked to settle."""
        return [(first, following) for first, following in self._ranges]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask the broker."""
        return not self._ranges

    @property
    def full(self) -> bool:
        """Whether further messages belong in another one."""
        return len(self._ranges) >= _RANGES_MAX

    def takes(self, delay_ms: int | None, reason: str) -> bool:
        """Whether messages with this delay and reason can be added."""
        return (
            not self.full
            and not self.failures
            and not self.quiet
            and (self.delay_ms, self.reason) == (delay_ms, reason)
        )

    def encode(self, channel: str, group: str, consumer: str, epoch: int) -> bytes:
        """The request."""
        common = {"channel": channel, "group": group, "consumer": consumer, "epoch": epoch}
        self._ranges = [list(each) for each in merged(self.ranges)]
        ranges = offset_ranges(self.ranges)
        request: pb.AckRequest | pb.NackRequest | pb.ReleaseRequest
        if self.verb is Verb.ACK:
            request = pb.AckRequest(ranges=ranges, **common)  # type: ignore[arg-type]
        elif self.verb is Verb.NACK:
            request = pb.NackRequest(
                ranges=ranges,
                delay_ms=self.delay_ms,
                reason=self.reason,
                **common,  # type: ignore[arg-type]
            )
        else:
            request = pb.ReleaseRequest(ranges=ranges, **common)  # type: ignore[arg-type]
        return request.SerializeToString()

    # ---- The outcome ------------------------------------------------------

    def answered(self, response: bytes) -> bool:
        """Take in the broker's answer; False: a part has to be asked for again.

        Raises:
            Internal: It is none.
        """
        refused = [] if self.verb is Verb.RELEASE else parse_refused(response)
        pending = [(first, after) for first, after, why in refused if why == "pending"]
        repeated = _DONE_BEFORE[self.verb] if self.uncertain else frozenset()
        self.settled_count += sum(after - first for first, after in self._ranges)
        for first, after, why in refused:
            if why not in repeated:
                self.settled_count -= after - first
                if why != "pending":
                    self.refused_count += after - first
                    self.lost.append((first, after, why))
        if pending:
            self._ranges = [list(each) for each in pending]
            return False
        self.finish()
        return True

    def fail(self, error: MQError) -> None:
        """It will not be asked again."""
        self.error = error
        self.finish()

    def lose(self, refusal: Refusal) -> None:
        """All that the broker was to be asked for is lost."""
        self.refused_count += sum(after - first for first, after in self._ranges)
        self.lost += [(first, after, refusal) for first, after in self._ranges]
        self.finish()

    def finish(self) -> None:
        """Its outcome is known: wake those who wait for it."""
        self.done = True
        self._ranges = []
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Have one that is not done call this once it is."""
        self._waiters.append(callback)

    def check(self, first: int, following: int) -> None:
        """What became of these messages, once done.

        Raises:
            LeaseLost: They, or some of them, were no longer this consumer's.
            MQError: The broker could not be asked, or refused the call.
        """
        if self.error is not None:
            self.error_seen = True
            raise self.error.with_traceback(None)
        for start, end, refusal in self.lost:
            if start < following and first < end:
                raise _lease_lost(max(start, first), min(end, following), refusal)


def _lease_lost(first: int, following: int, refusal: Refusal) -> LeaseLost:
    offsets = f"offset {first}" if following == first + 1 else f"offsets {first} to {following - 1}"
    why = _EXPLANATIONS.get(refusal, "the broker knows nothing of them")
    return LeaseLost(
        f"{offsets} could not be settled: {why}; others may have processed them too",
        first,
        following,
        refusal,
    )


class Lane:
    """Settlements of one verb: one call at a time, the rest gathering behind it."""

    def __init__(self, verb: Verb, linger_s: float) -> None:
        self.verb = verb
        self._linger_s = linger_s
        self._queue: deque[Settlement] = deque()
        self.in_flight: Settlement | None = None

    def open(self, now: float, delay_ms: int | None = None, reason: str = "") -> Settlement:
        """The settlement that messages with this delay and reason go into."""
        if self._queue and self._queue[-1].takes(delay_ms, reason):
            return self._queue[-1]
        settlement = Settlement(self.verb, now, delay_ms, reason)
        self._queue.append(settlement)
        return settlement

    def put(self, settlement: Settlement) -> None:
        """Send this one, too."""
        self._queue.append(settlement)

    def next(self, now: float) -> Settlement | None:
        """Take the next one to send, if it is time."""
        if self.in_flight is not None or not self._queue or now < self._due_at_s():
            return None
        self.in_flight = self._queue.popleft()
        return self.in_flight

    def _due_at_s(self) -> float:
        first = self._queue[0]
        if first.failures:
            return first.retry_at_s
        ready = first.urgent or first.full or len(self._queue) > 1
        return first.created_s + (0.0 if ready else self._linger_s)

    @property
    def due_at_s(self) -> float | None:
        """When `next` has something to give, as far as time decides it."""
        return self._due_at_s() if self._queue and self.in_flight is None else None

    @property
    def repeating(self) -> bool:
        """Whether a call has to be made again, or is."""
        first = self.in_flight or (self._queue[0] if self._queue else None)
        return first is not None and first.failures > 0

    def landed(self) -> None:
        """The call that was out is over, and its settlement done."""
        self.in_flight = None

    def again(self, retry_at_s: float) -> None:
        """The call that was out has to be made again, then."""
        assert self.in_flight is not None, "only a call that is out can end"
        self.in_flight.failures += 1
        self.in_flight.retry_at_s = retry_at_s
        self._queue.appendleft(self.in_flight)
        self.in_flight = None

    def hurry(self) -> None:
        """Let nothing that is gathered linger."""
        for settlement in self._queue:
            settlement.urgent = True

    def pending(self) -> list[Settlement]:
        """All that is not done."""
        out = [self.in_flight] if self.in_flight is not None else []
        return [*out, *self._queue]

    def queued_ranges(self) -> list[Range]:
        """The offsets of all that is not on its way."""
        return [each for settlement in self._queue for each in settlement.ranges]

    def take_all(self) -> list[Settlement]:
        """Take out all that is not on its way."""
        taken = list(self._queue)
        self._queue.clear()
        return taken


def parse_refused(response: bytes) -> list[tuple[int, int, Refusal]]:
    """The refused ranges of a serialized `AckResponse`.

    Raises:
        Internal: It is none.
    """
    try:
        answer = pb.AckResponse.FromString(response)
    except DecodeError as error:
        raise Internal(f"the answer about a lease is no AckResponse: {error}") from None
    return [
        (each.first_offset, each.next_offset, refusal_name(each.refusal)) for each in answer.refused
    ]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same offsets in the fewest ranges, in order."""
    found: list[Range] = []
    for first, following in sorted(ranges):
        if found and first <= found[-1][1]:
            if following > found[-1][1]:
                found[-1] = (found[-1][0], following)
        else:
            found.append((first, following))
    return found


def offset_ranges(ranges: Iterable[Range]) -> list[pb.OffsetRange]:
    """Ranges in their wire form."""
    return [pb.OffsetRange(first_offset=first, next_offset=after) for first, after in ranges]
