"""When to fetch, how much, and how long the broker may wait with the answer."""

from __future__ import annotations

from mq.client.group_options import GroupOptions

# The active consumer of an exclusive group calls so often within its session.
_CALLS_A_SESSION = 3


class Fetching:
    """The decision to fetch. Nothing is fetched before the caller has asked for something.

    Attributes:
        idle: There was nothing for as long as the options say.
        session_ms: Of an exclusive group: how long its active consumer may be silent.
    """

    def __init__(self, options: GroupOptions) -> None:
        self.idle = False
        self.session_ms: int | None = None
        self._options = options
        self._asked = False
        self._caller_waits = False
        self._not_before_s = 0.0
        self._nothing_since_s: float | None = None

    def asked(self, *, got: bool) -> None:
        """The caller asked for something, and got it or waits for it."""
        self._asked = True
        self._caller_waits = not got

    def forget_caller(self) -> None:
        """The caller works for too long: nothing is fetched before it asks again."""
        self._asked = self._caller_waits = False

    def wants_more(self, buffered: int) -> bool:
        """Whether to fetch, with so many messages at hand."""
        if self.idle or not self._asked:
            return False
        if self._options.prefetch:
            return 2 * buffered <= self._options.max_records
        return self._caller_waits and not buffered

    def due_at_s(self, buffered: int) -> float | None:
        """When to fetch; None: not now."""
        return self._not_before_s if self.wants_more(buffered) else None

    def pause(self, until_s: float) -> None:
        """Don't fetch before then."""
        self._not_before_s = until_s

    def got_something(self) -> None:
        """A fetch brought something."""
        self._nothing_since_s = None

    def got_nothing(self, sent_s: float, now: float, buffered: int) -> None:
        """A fetch that was sent then brought nothing."""
        if self._nothing_since_s is None:
            self._nothing_since_s = sent_s
        idle_s = self._options.idle_s
        if idle_s is not None and not buffered:
            self.idle = now - self._nothing_since_s >= idle_s

    def take_idle(self) -> bool:
        """Whether it was idle; fetching can go on."""
        idle, self.idle = self.idle, False
        if idle:
            self._nothing_since_s = None
        return idle

    def wait_ms(self, now: float) -> int:
        """How long the broker may wait for something, from now."""
        limits_ms = [float(self._options.max_wait_ms)]
        if self._options.idle_s is not None:
            since_s = now if self._nothing_since_s is None else self._nothing_since_s
            limits_ms.append(max(0.0, (since_s + self._options.idle_s - now) * 1000))
        if self.session_ms is not None:
            limits_ms.append(self.session_ms / _CALLS_A_SESSION)
        return round(min(limits_ms))
