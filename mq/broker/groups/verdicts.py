"""What becomes of messages that were not acknowledged."""

from __future__ import annotations

from mq.broker.groups.config import REASON_CHARS_MAX
from mq.broker.groups.events import Dead, DeadRun, Event, Expired, Failed, FailedRun
from mq.broker.groups.ledger import Ledger, failures_of
from mq.broker.groups.ranges import Range, append_range

EXPIRED = "the message expired"
LEASE_EXPIRED = "the lease expired"


class Verdicts:
    """Gathers, range by range, who is to be delivered again, dead or expired."""

    def __init__(self, ledger: Ledger, now_ms: int) -> None:
        self._ledger = ledger
        self._now_ms = now_ms
        self._failed: list[FailedRun] = []
        self._dead: list[DeadRun] = []
        self._expired: list[Range] = []

    def fail(self, first: int, following: int, reason: str, delay_ms: int | None) -> None:
        """A delivery of these failed; ``delay_ms`` None: wait by the number of failures."""
        config = self._ledger.config
        reason = reason[:REASON_CHARS_MAX]
        for start, end, mark in self._ledger.marks.runs(first, following):
            failures = failures_of(mark) + 1
            if config.max_deliveries and failures >= config.max_deliveries:
                self._dead.append(DeadRun(start, end, failures, reason))
                continue
            wait_ms = config.backoff_ms(failures) if delay_ms is None else delay_ms
            not_before_ms = self._now_ms + wait_ms if wait_ms else 0
            for f, n, expired in self._by_expiry(start, end):
                if expired:
                    self._expire(f, n, failures)
                else:
                    self._fail(f, n, failures, not_before_ms)

    def doom(self, first: int, following: int) -> None:
        """No further delivery of these is allowed, and nobody has them."""
        for start, end, mark in self._ledger.marks.runs(first, following):
            failures = failures_of(mark)
            if self._ledger.failures_at_limit(mark):
                reason = f"it failed {failures} times, as often as is allowed by now"
                self._dead.append(DeadRun(start, end, failures, reason))
            else:
                self._expire(start, end, failures)

    def events(self) -> tuple[Event, ...]:
        """What has to become durable."""
        events: list[Event] = []
        if self._failed:
            events.append(Failed(tuple(self._failed)))
        if self._dead:
            events.append(Dead(tuple(self._dead)))
        if self._expired:
            events.append(Expired(tuple(self._expired)))
        return tuple(events)

    def _by_expiry(self, first: int, following: int) -> list[tuple[int, int, bool]]:
        expiries = self._ledger.expiries
        if not expiries:
            return [(first, following, False)]
        runs = expiries.runs(first, following)
        return [(f, n, 0 < time_ms <= self._now_ms) for f, n, time_ms in runs]

    def _fail(self, first: int, following: int, failures: int, not_before_ms: int) -> None:
        last = self._failed[-1] if self._failed else None
        if last is not None and last[1:] == (first, failures, not_before_ms):
            first = last.first
            self._failed.pop()
        self._failed.append(FailedRun(first, following, failures, not_before_ms))

    def _expire(self, first: int, following: int, deliveries: int) -> None:
        if self._ledger.config.expired_to_dead:
            self._dead.append(DeadRun(first, following, deliveries, EXPIRED))
        else:
            append_range(self._expired, first, following)
