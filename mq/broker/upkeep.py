"""Retention of one channel: which of its oldest segments go, and when that is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Protocol, cast

from mq.broker.futures import outcome_of
from mq.broker.life import Life, State
from mq.broker.model import ChannelMeta
from mq.broker.publishing import CommitQueue
from mq.broker.shared import Shared
from mq.errors import DiskFull, MQError, OffsetOutOfRange
from mq.log.retention import Removal, SegmentFacts, choose


class Holders(Protocol):
    """The consumer groups, which hold back what they have not acknowledged."""

    def must_recover(self, meta: ChannelMeta) -> bool:
        """Whether retention of a channel depends on groups that are not in use yet."""

    async def recover(self, meta: ChannelMeta) -> None:
        """Let a channel's groups say what they hold.

        Raises:
            MQError: They can't be recovered.
        """

    def recover_soon(self, meta: ChannelMeta, told: Callable[[bool], None]) -> None:
        """The same in the background; ``told`` is called with whether it worked."""


class Upkeep:
    """Keeps one channel within its limits.

    Attributes:
        held_from: The first offset that some group has not acknowledged; None: there
            is no group.
    """

    def __init__(self, shared: Shared, life: Life, queue: CommitQueue, holders: Holders) -> None:
        self.held_from: int | None = None
        self._shared = shared
        self._life = life
        self._queue = queue
        self._holders = holders
        self._segments_seen = 0
        # Whether retention is queued already: once is enough.
        self._enforcing = False
        queue.after_commit = self._after_commit

    def _after_commit(self) -> None:
        log = self._life.log
        if log is not None:
            if log.wants_prepare and not self._shared.threads.upkeep_paused:
                self._shared.threads.upkeep(log.prepare)
            if len(log.segments) > self._segments_seen:
                self.enforce()

    def look(self, now_ns: int) -> None:
        """Enforce retention where nothing happens, if it may be due at a time."""
        if self._due(now_ns):
            self._life.when_open(self.enforce)

    def _due(self, now_ns: int) -> bool:
        """Whether retention may be due, from what is known without the log."""
        life = self._life
        config = life.meta.config
        if life.state is State.OPEN:
            return bool(config.roll_age_ns or config.retention(self.held_from).limited)
        if life.state is not State.CLOSED or not config.roll_age_ns:
            return False
        # Closed, nothing is appended; what is there only gets older.
        return not life.seen or (
            life.log_start_offset < life.durable_offset
            and now_ns - life.last_append_time_ns > (config.retention_ms or 0) * 1_000_000
        )

    def enforce(self) -> None:
        """Remove what retention removes now, between two commits."""
        life = self._life
        config = life.meta.config
        self._note_segments()
        if self._enforcing or life.state is not State.OPEN:
            return
        if self._holders.must_recover(life.meta):
            # What they have not acknowledged is held, and only they know.
            self._enforcing = True
            self._holders.recover_soon(life.meta, self._recovered)
        elif config.roll_age_ns or config.retention(0).limited:
            self._enforcing = True
            self._queue.run_alone(partial(self._remove, None, dry_run=False), self._enforced)

    def _recovered(self, recovered: bool) -> None:
        self._enforcing = False
        if recovered:
            self.enforce()

    def _enforced(self, outcome: object) -> None:
        self._enforcing = False
        self._removed(outcome)

    async def purge(self, before: int | None, *, dry_run: bool) -> list[Removal]:
        """Remove whole segments before an offset; None: what retention removes now.

        Args:
            before: An offset up to the end of the log.
            dry_run: Only tell what would be removed.

        Returns:
            What was removed, oldest first, each with the reason.

        Raises:
            OffsetOutOfRange: ``before`` is after the end of the log.
            MQError: They could not be removed.
        """
        life = self._life
        await life.ready()
        if before is None and self._holders.must_recover(life.meta):
            await self._holders.recover(life.meta)
        if before is not None and before > life.end_offset:
            raise OffsetOutOfRange(
                f"offset {before} is after the end of the log, {life.end_offset}",
                life.log_start_offset,
                life.durable_offset,
            )

        def begin(told: Callable[[object], None]) -> None:
            def done(outcome: object) -> None:
                if not dry_run:
                    self._removed(outcome)
                told(outcome)

            self._queue.run_alone(partial(self._remove, before, dry_run=dry_run), done)

        return cast("list[Removal]", await outcome_of(begin))

    def _remove(self, before: int | None, *, dry_run: bool) -> list[Removal]:
        """In a committer thread: choose, and remove unless it is a dry run."""
        if dry_run:
            return self._trim(before, dry_run=True)
        removals: list[Removal] = []
        try:
            self._roll(before)
        except DiskFull:
            # What is sealed goes all the same, and makes room for what isn't.
            removals = self._trim(before)
            if not removals:
                raise
            with suppress(DiskFull):
                self._roll(before)
        return removals + self._trim(before)

    def _roll(self, before: int | None) -> None:
        """Seal the active segment if it could go then, or is of an age to be sealed."""
        log, age_ns = self._life.log, self._life.meta.config.roll_age_ns
        assert log is not None, "the log stays open while work waits for it"
        if before is None:
            if age_ns:
                log.roll_aged(age_ns)
        elif before >= log.end_offset:
            log.roll_aged(0)

    def _trim(self, before: int | None, *, dry_run: bool = False) -> list[Removal]:
        log, config = self._life.log, self._life.meta.config
        assert log is not None, "the log stays open while work waits for it"
        facts = [
            SegmentFacts(
                s.base_offset,
                s.end.offset if s.sealed else log.durable_offset,
                s.occupied_bytes,
                s.last_append_time_ns,
            )
            for s in log.segments
        ]
        if before is None:
            removals = choose(facts, config.retention(self.held_from), self._shared.clock_ns())
        else:
            # The active one has been sealed by now, or would be.
            whole = facts if dry_run and before >= log.end_offset else facts[:-1]
            purged = [fact for fact in whole if fact.base_offset < fact.end_offset <= before]
            removals = [Removal(fact, f"it ends before offset {before}") for fact in purged]
        if removals and not dry_run:
            log.trim(removals[-1].segment.end_offset)
        return removals

    def _removed(self, outcome: object) -> None:
        life, events = self._life, self._shared.events
        self._note_segments()
        if isinstance(outcome, MQError):
            events.warning("retention_failed", channel=life.meta.name, reason=str(outcome))
        elif outcome:
            events.info(
                "segments_removed",
                channel=life.meta.name,
                log_start_offset=life.log_start_offset,
            )

    def _note_segments(self) -> None:
        if self._life.log is not None:
            self._segments_seen = len(self._life.log.segments)


class Kept(Protocol):
    """A channel that is looked after."""

    def keep_up(self, now_ns: int) -> None:
        """Do what may be due at a time, where nothing else happens."""


class UpkeepClock:
    """Looks at every channel now and again."""

    def __init__(self, shared: Shared, channels: Callable[[], Iterable[Kept]]) -> None:
        self._shared = shared
        self._channels = channels
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on every ``retention_interval_s``."""
        shared = self._shared
        self._timer = shared.loop.call_later(shared.config.retention_interval_s, self.start)
        now_ns = shared.clock_ns()
        for channel in self._channels():
            channel.keep_up(now_ns)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
