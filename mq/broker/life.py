"""The life of a channel's log: opened when it is needed, closed when it is idle.

What is known of a log stays known while it is closed.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from mq.broker.futures import settle
from mq.broker.inforce import in_force
from mq.broker.model import ChannelMeta
from mq.broker.shared import Shared
from mq.broker.threads import stopping_error
from mq.errors import ChannelFailed, ChannelNotFound, MQError, Overloaded, ResourceExhausted
from mq.log.log import Log

# How long nobody tries again to open a log for which descriptors, memory or room were missing.
_AGAIN_S = 1.0


class State(enum.Enum):
    """Whether a channel's log is open. DELETED and FAILED are final.

    But a channel that could not be deleted after all is FAILED, and one that was
    not opened for want of descriptors, memory or room is FAILED for a moment only.
    """

    CLOSED = enum.auto()
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    FAILED = enum.auto()
    DELETED = enum.auto()


class Opener(Protocol):
    """What opens logs, and closes the ones that are used least."""

    def open(self, life: Life) -> None:
        """Open a log in a thread, and tell `Life.opened`."""

    def touch(self, life: Life) -> None:
        """Note that a log is in use."""


class Life:
    """Whether a channel's log is open, what it is called, and where it begins and ends.

    Attributes:
        meta: What the channel is.
        settings: What is in force for it.
        hidden_at: Of a channel for the broker's own use: its directory.
        state: Whether the log is open.
        log: The log while it is open, else None.
        reason: Why it is FAILED, or why its log takes no publishes, or None.
        durable_offset: One past the last record that may be read; like the next two
            as last seen, true while the log is closed too, once it was open.
        end_offset: One past the last record written.
        last_append_time_ns: Unix nanoseconds; 0 before the first.
        seen: Whether the log was open once.
        in_use: Whether somebody has work for the log; set by who does that work.
    """

    def __init__(
        self, shared: Shared, logs: Opener, meta: ChannelMeta, hidden_at: Path | None = None
    ) -> None:
        self.hidden_at = hidden_at
        self.state = State.CLOSED
        self.log: Log | None = None
        self.reason: str | None = None
        self._log_start_offset = 0
        self.durable_offset = 0
        self.end_offset = 0
        self.last_append_time_ns = 0
        self.seen = False
        self.in_use: Callable[[], bool] = bool
        self._shared = shared
        self._logs = logs
        # What waits for the log to be open, or to have failed to.
        self._on_open: list[Callable[[], None]] = []
        # Whether a thread opens or closes the log just now, whatever the state.
        self._moving = False
        self._read_only = False
        # Whether it is counted among those that take no publishes.
        self._refuses = False
        # Of a FAILED one: when it may be opened again; None: not in this run.
        self._again_from_s: float | None = None
        self.apply(meta)

    def apply(self, meta: ChannelMeta) -> None:
        """Take over new settings."""
        self.meta = meta
        hidden = self.hidden_at is not None
        self.settings = in_force(meta.config, self._shared.config, hidden=hidden)
        if self.log is not None:
            self.log.segment_bytes = self.settings.segment_bytes

    # ---- Whether it can be used -------------------------------------------

    def check_usable(self) -> None:
        """Refuse work for a channel that can't do it.

        Raises:
            ChannelNotFound: It was deleted.
            ChannelFailed: It could not be opened.
            Overloaded: The same, but only just now.
            Unavailable: The broker is stopping.
        """
        if self.state is State.OPEN and not self._shared.stopping:
            return
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def refusal(self) -> MQError | None:
        """What `check_usable` raises, or None."""
        shared = self._shared
        self.recover_failed()
        if self.state is State.DELETED:
            return ChannelNotFound(
                f"channel {self.meta.name} was deleted; create it again to use it"
            )
        if shared.stopping and (self.hidden_at is None or shared.stopped):
            return stopping_error()
        if self.state is State.FAILED:
            kind = ChannelFailed if self._again_from_s is None else Overloaded
            return kind(f"channel {self.meta.name} could not be opened: {self.reason}")
        return None

    def recover_failed(self) -> None:
        """Let a log be opened again that failed to for a reason that passes."""
        again_s = self._again_from_s
        if again_s is None or self.state is not State.FAILED:
            return
        if self._shared.loop.time() >= again_s:
            self.state, self.reason, self._again_from_s = State.CLOSED, None, None

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read. A log that is open is asked: a thread may trim it."""
        return self._log_start_offset if self.log is None else self.log.log_start_offset

    def refresh(self) -> None:
        """Look at the log after something was done to it."""
        log = self.log
        if log is None:
            return
        self._log_start_offset = log.log_start_offset
        self.durable_offset = log.durable_offset
        self.end_offset = log.end_offset
        self.last_append_time_ns = log.last_append_time_ns
        if log.read_only_reason is not None and not self._read_only:
            # For good: opening the log again in this run would not ask the device.
            self._read_only = True
            self.reason = log.read_only_reason
            self._count_refusing(True)
            self._shared.events.error(
                "channel_read_only", channel=self.meta.name, reason=self.reason
            )

    @property
    def unsynced_messages(self) -> int:
        """Records written and not yet durable."""
        log = self.log
        return log.end_offset - log.durable_offset if log else 0

    # ---- Opening ----------------------------------------------------------

    def when_open(self, call: Callable[[], None]) -> None:
        """Call when the log is open, or can't be; now if that is known. It must not raise."""
        self.recover_failed()
        if self.state in (State.OPEN, State.FAILED, State.DELETED):
            call()
        else:
            self._on_open.append(call)
            if self.state is State.CLOSED:
                self._open()

    async def resolve(self) -> None:
        """Wait until the log is open, or it is known that it can't be."""
        future: asyncio.Future[None] = self._shared.loop.create_future()
        self.when_open(partial(settle, future, None))
        await future

    async def ready(self) -> None:
        """Wait until the log is open, so that its offsets are known.

        Raises:
            MQError: It can't be.
        """
        await self.resolve()
        self.check_usable()

    def _open(self) -> None:
        self.state, self._moving = State.OPENING, True
        self._logs.open(self)

    def opened(self, outcome: Log | MQError) -> None:
        """The log was opened, or could not be."""
        self._moving = False
        if self.state is State.DELETED:
            # Let go of by whoever deletes the channel.
            self.log = outcome if isinstance(outcome, Log) else None
        elif isinstance(outcome, Log):
            self.state, self.log, self.seen = State.OPEN, outcome, True
            self.refresh()
        elif isinstance(outcome, ResourceExhausted):
            self.state, self.reason = State.FAILED, outcome.message
            self._again_from_s = self._shared.loop.time() + _AGAIN_S
        else:
            self.fail(outcome.message)
        self._run_on_open()

    def fail(self, reason: str) -> None:
        """Take no work until the broker is started again."""
        self.state, self.reason, self._again_from_s = State.FAILED, reason, None
        self._count_refusing(True)

    def _count_refusing(self, refuses: bool) -> None:
        if refuses != self._refuses:
            self._refuses = refuses
            stats = self._shared.stats
            stats.read_only_channels += 1 if refuses else -1
            self._shared.tell_refusing(stats.read_only_channels)

    def _run_on_open(self) -> None:
        calls, self._on_open = self._on_open, []
        for call in calls:
            call()

    # ---- Closing ----------------------------------------------------------

    def begin_close(self) -> Log | None:
        """Take the log away to close it, if it is open and nobody uses it."""
        if self.state is not State.OPEN or self._on_open or self.in_use():
            return None
        log, self.log = self.log, None
        self.state, self._moving = State.CLOSING, True
        return log

    def closed(self) -> None:
        """The log is closed; open it again if it was asked for meanwhile."""
        self._moving = False
        if self.state is State.DELETED:
            self._run_on_open()
        else:
            self.state = State.CLOSED
            if self._on_open:
                self._open()

    def delete(self) -> None:
        """Refuse everything from now on."""
        self.state = State.DELETED
        self._read_only = False
        self._count_refusing(False)

    async def still(self) -> None:
        """Wait until no thread opens or closes the log."""
        while self._moving:
            future: asyncio.Future[None] = self._shared.loop.create_future()
            self._on_open.append(partial(settle, future, None))
            await future
