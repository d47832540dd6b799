"""One channel: publishes in, pulls out, its log open only while it is used.

Everything runs on the event loop but the log's own work: a commit has the log
to itself in a committer thread, cold reads run in reader threads.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mq.broker.commit import Commit, Exclusive
from mq.broker.model import ChannelMeta, Durability
from mq.broker.pending import Batch, Done, Pending, Singles
from mq.broker.rates import Rate
from mq.broker.waiters import Pull, Waiters
from mq.errors import (
    ChannelFailed,
    ChannelNotFound,
    ChannelReadOnly,
    MessageTooLarge,
    MQError,
    OffsetOutOfRange,
    Overloaded,
    Unavailable,
)
from mq.log.format import LENGTH_MAX, SEGMENT_BYTES_MIN
from mq.log.log import Append, Log, ReadResult
from mq.log.reader import Position
from mq.log.retention import Removal, SegmentFacts, choose

if TYPE_CHECKING:
    from mq.broker.broker import Broker
    from mq.broker.coordinator.groups import ChannelGroups


# How long a sync may be put off where nobody waits for it.
_SYNC_LATER_S = 0.005
# A commit of no more than this may be done on the event loop.
_LONE_BYTES_MAX = 4096


class State(enum.Enum):
    """Whether a channel's log is open. DELETED and FAILED are final."""

    CLOSED = enum.auto()
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    FAILED = enum.auto()
    DELETED = enum.auto()


class Channel:
    """A channel of a running broker."""

    def __init__(self, broker: Broker, meta: ChannelMeta, hidden_at: Path | None = None) -> None:
        self.meta = meta
        # Of a channel for the broker's own use: its directory. Nobody else sees it.
        self.hidden_at = hidden_at
        self.groups: ChannelGroups | None = None
        self.state = State.CLOSED
        self.log: Log | None = None
        # Why it is FAILED, or why its log takes no publishes.
        self.reason: str | None = None
        self.waiters = Waiters(broker.stats, broker.config.waiting_pulls_max)
        self._broker = broker
        self._pending: list[Pending] = []
        self._pending_bytes = 0
        self._unsynced_bytes = 0
        self._committing = False
        self._scheduled = False
        self._awaits_open = False
        # Of what was written to be synced later.
        self._unsynced_later_bytes = 0
        self._sync_timer: asyncio.TimerHandle | None = None
        # Work that waits for the log to itself; it goes before the next commit.
        self._exclusive: list[Exclusive] = []
        self._segments_seen = 0
        # The first offset that some group has not acknowledged; None: there is no group.
        self.held_from: int | None = None
        # What waits for the log to be open, or to have failed to.
        self._on_open: list[Callable[[], None]] = []
        # What waits for no commit to be under way.
        self._on_idle: list[Callable[[], None]] = []
        self._rate: Rate | None = None
        # As last seen; true while the log is closed too, once it was open.
        self.log_start_offset = 0
        self.durable_offset = 0
        self.end_offset = 0
        self.last_append_time_ns = 0

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.meta.name

    @property
    def busy(self) -> bool:
        """Whether its log can't be closed now."""
        return bool(
            self._committing or self._scheduled or self._pending or self._exclusive or self._on_open
        )

    @property
    def durability(self) -> Durability:
        """What an acknowledgement means where the publisher does not say."""
        return self.meta.config.durability or self._broker.config.durability

    @property
    def max_message_bytes(self) -> int:
        """The largest message or batch accepted."""
        if self.hidden_at is not None:
            return LENGTH_MAX
        limit = self._broker.config.max_message_bytes
        return min(self.meta.config.max_message_bytes or limit, limit)

    @property
    def segment_bytes(self) -> int:
        """What a segment grows to: well below what retention keeps, which goes by segments."""
        size = self.meta.config.segment_bytes or self._broker.config.segment_bytes
        kept = self.meta.config.retention_bytes
        return max(min(size, kept // 4), SEGMENT_BYTES_MIN) if kept else size

    @property
    def unsynced_messages(self) -> int:
        """Records written and not yet durable."""
        return self.log.end_offset - self.log.durable_offset if self.log else 0

    def rates(self) -> tuple[float, float]:
        """Records and bytes published a second, over the last minute."""
        return self._rate.per_second(self._broker.loop.time()) if self._rate else (0.0, 0.0)

    # ---- Publishing -------------------------------------------------------

    def publish(self, content: bytes, durability: Durability, done: Done) -> None:
        """Append one message with the next commit; ``done`` is called with the outcome.

        Raises:
            MQError: It was refused; ``done`` is not called.
        """
        self._admit(len(content))
        durability = durability or self.durability
        last = self._pending[-1] if self._pending else None
        if not isinstance(last, Singles) or not last.add(content, durability, done):
            last = Singles()
            last.add(content, durability, done)
            self._pending.append(last)
        self._count_pending(len(content))
        self._schedule()

    def publish_batch(self, append: Append, durability: Durability, done: Done) -> None:
        """Append a batch with the next commit; see `publish`."""
        self._admit(len(append.records))
        self._pending.append(Batch(append, durability or self.durability, done))
        self._count_pending(len(append.records))
        self._schedule()

    def _admit(self, size: int) -> None:
        self._check_usable()
        if self.reason is not None:
            raise ChannelReadOnly(f"channel {self.name}: {self.reason}")
        if size > self.max_message_bytes:
            raise MessageTooLarge(
                f"{size} bytes are more than channel {self.name} takes in one message or batch, "
                f"{self.max_message_bytes}; send less at once, or raise max_message_bytes "
                "(and SERVER_MAX_RECV_MSG_SIZE)"
            )
        limit = self._broker.config.pending_bytes_max
        if self._pending_bytes + size > limit and self._pending:
            raise Overloaded(
                f"{self._pending_bytes} bytes wait to be written to channel {self.name}; "
                "wait for earlier publishes to be acknowledged, then try again"
            )
        self._broker.check_disk()

    def _check_usable(self) -> None:
        if self.state is State.DELETED:
            raise self._not_found()
        if self.state is State.FAILED:
            raise ChannelFailed(f"channel {self.name} could not be opened: {self.reason}")
        if self._broker.stopping and self.hidden_at is None:
            raise Unavailable("the broker is stopping; try again in a moment")

    def _not_found(self) -> ChannelNotFound:
        return ChannelNotFound(f"channel {self.name} was deleted; create it again to use it")

    def _count_pending(self, size: int) -> None:
        self._pending_bytes += size
        self._broker.stats.pending_publish_bytes += size

    def _schedule(self) -> None:
        """Commit once everything that has arrived by now is queued."""
        if not self._committing and not self._scheduled:
            self._scheduled = True
            self._broker.loop.call_soon(self._commit)

    def _commit(self) -> None:
        self._scheduled = False
        if self._committing or not (self._pending or self._exclusive):
            return
        if self.state is not State.OPEN:
            if not self._awaits_open:
                self._awaits_open = True
                self._when_open(self._commit_opened)
            return
        assert self.log is not None
        if self._exclusive:
            self._committing = True
            self._broker.committer.submit(self._exclusive.pop(0))
            return
        entries, self._pending = self._pending, []
        self._committing = True
        size = self._unsynced_bytes = self._pending_bytes
        self._broker.touch(self)
        early = any(entry.early for entry in entries)
        later = early and self._may_sync_later(entries, size)
        commit = Commit(
            self.log, entries, self._written if early else None, self._committed, [], later
        )
        committer = self._broker.committer
        if size <= _LONE_BYTES_MAX and committer.may_run_here and self.log.fits(size):
            committer.run_here(commit)
        else:
            committer.submit(commit)

    def _may_sync_later(self, entries: list[Pending], size: int) -> bool:
        """Whether all of it may wait for a sync that others share."""
        self._unsynced_later_bytes += size
        full = self._unsynced_later_bytes > self._broker.config.unsynced_bytes_max
        if full or any(entry.late for entry in entries):
            self._unsynced_later_bytes = 0
            return False
        if self._sync_timer is None:
            self._sync_timer = self._broker.loop.call_later(_SYNC_LATER_S, self._sync_now)
        return True

    def _sync_now(self) -> None:
        """Sync what earlier commits have written, if none did since."""
        self._sync_timer = None
        if self.state is State.OPEN and self.unsynced_messages:
            self._run_exclusive(self._sync_alone, self._synced_alone)

    def _sync_alone(self) -> None:
        """In a committer thread."""
        assert self.log is not None
        self._unsynced_later_bytes = 0
        self.log.sync()

    def _synced_alone(self, outcome: object) -> None:
        self._refresh()
        self._wake()

    def _commit_opened(self) -> None:
        self._awaits_open = False
        self._commit()

    def _written(self, commit: Commit) -> None:
        commit.answer(Durability.WRITTEN)
        # What is written may wait for its sync beside what comes in meanwhile.
        if self._unsynced_bytes <= self._broker.config.unsynced_bytes_max:
            self._release(self._unsynced_bytes)
            self._unsynced_bytes = 0

    def _release(self, size: int) -> None:
        self._pending_bytes -= size
        self._broker.stats.pending_publish_bytes -= size

    def _committed(self, commit: Commit) -> None:
        self._committing = False
        self._release(self._unsynced_bytes)
        self._unsynced_bytes = 0
        self._refresh()
        self._count(commit)
        self._wake()
        commit.answer(Durability.SYNCED)
        if commit.checkpoint is not None:
            self._broker.run_io(commit.checkpoint)
        if self.log is not None:
            if self.log.wants_prepare:
                self._broker.prepare(self.log)
            if len(self.log.segments) > self._segments_seen:
                self.enforce_retention()
        self._settle()

    def _settle(self) -> None:
        """After a job in a committer thread: go on with whatever waits."""
        idle, self._on_idle = self._on_idle, []
        for call in idle:
            call()
        if self._pending or self._exclusive:
            self._schedule()

    def _refresh(self) -> None:
        log = self.log
        if log is not None:
            self.log_start_offset = log.log_start_offset
            self.durable_offset = log.durable_offset
            self.end_offset = log.end_offset
            self.last_append_time_ns = log.last_append_time_ns
            if log.read_only_reason != self.reason:
                self.reason = log.read_only_reason
                self._broker.note_read_only(self)

    def _count(self, commit: Commit) -> None:
        stats, records, size = self._broker.stats, 0, 0
        stats.commits += 1
        if commit.sync_failed:
            stats.fsync_failures += 1
        elif not commit.sync_later:
            self._broker.observe_fsync(commit.sync_seconds)
        for entry, outcome in zip(commit.entries, commit.outcomes, strict=True):
            if not isinstance(outcome, MQError) and not outcome.duplicate:
                records += outcome.record_count
                size += entry.size
        self._broker.rate.add(self._broker.loop.time(), records, size)
        if self.hidden_at is None:
            stats.published_messages += records
            stats.published_bytes += size
        if self._rate is None:
            self._rate = Rate()
        self._rate.add(self._broker.loop.time(), records, size)

    # ---- Pulling ----------------------------------------------------------

    def pull(self, pull: Pull) -> None:
        """Answer a pull now, or as soon as there is something to answer it with.

        Raises:
            MQError: It was refused, and is not answered otherwise.
        """
        self._check_usable()
        if self.state is State.OPEN or self._at_known_end(pull):
            self._serve(pull)
        else:
            self._when_open(lambda: self._retry(pull))

    def _at_known_end(self, pull: Pull) -> bool:
        """A closed channel need not be opened for a pull that only waits at its end."""
        return self.end_offset > 0 and pull.offset == self.durable_offset == self.end_offset

    def _retry(self, pull: Pull) -> None:
        """Serve a pull that was put off; the answer is the only way to tell it anything."""
        if pull.over:
            return
        try:
            self.pull(pull)
        except MQError as error:
            pull.answer(error)

    def _serve(self, pull: Pull) -> None:
        log = self.log
        if pull.offset == self.durable_offset and (log is None or pull.wait_s > 0):
            self._wait_or_answer(pull)
            return
        assert log is not None
        self._broker.touch(self)
        result = log.read(pull.offset, pull.max_bytes, pull.max_records, may_block=False)
        if result is None:
            self._broker.run_read(
                lambda: self._read_cold(log, pull), lambda outcome: self._told(pull, outcome)
            )
        elif not result.spans:
            self._wait_or_answer(pull)
        else:
            self._answer(pull, pull.encode(result))

    def _wait_or_answer(self, pull: Pull) -> None:
        if pull.wait_s > 0:
            self.waiters.add(pull)
            pull.start_timer(self._broker.loop, self._expire)
        else:
            self._answer(pull, pull.encode(self._nothing(pull)))

    def _nothing(self, pull: Pull) -> ReadResult:
        return ReadResult(pull.offset, pull.offset, [], [])

    def _read_cold(self, log: Log, pull: Pull) -> bytes:
        """In a reader thread: wait for the device there."""
        result = log.read(pull.offset, pull.max_bytes, pull.max_records)
        assert result is not None, "a read that may block has a result"
        return pull.encode(result)

    def _told(self, pull: Pull, outcome: bytes | MQError) -> None:
        if isinstance(outcome, MQError):
            pull.answer(outcome)
        else:
            self._answer(pull, outcome)

    def _answer(self, pull: Pull, response: bytes) -> None:
        stats = self._broker.stats
        stats.pulls += 1
        stats.pulled_bytes += len(response)
        pull.answer(response)

    def _expire(self, pull: Pull) -> None:
        self.waiters.remove(pull)
        pull.answer(pull.encode(self._nothing(pull)))

    def abandon(self, pull: Pull) -> None:
        """The client of a pull is gone."""
        self.waiters.remove(pull)
        pull.abandon()

    def _wake(self) -> None:
        """Serve the waiting pulls; the ones that want the same share one response."""
        if self.groups is not None:
            self.groups.notify()
        if not len(self.waiters) or self.log is None:
            return
        made: dict[tuple[int, int, int], bytes] = {}
        for pull in self.waiters.take_all():
            key = (pull.offset, pull.max_bytes, pull.max_records)
            response = made.get(key)
            if response is not None:
                self._answer(pull, response)
                continue
            try:
                result = self.log.read(*key, may_block=False)
                if result is None or not result.spans:
                    self._serve(pull)
                    continue
                made[key] = pull.encode(result)
            except MQError as error:
                pull.answer(error)
            else:
                self._answer(pull, made[key])

    async def ready(self) -> None:
        """Wait until the log is open, so that its offsets are known.

        Raises:
            MQError: It can't be.
        """
        done: asyncio.Future[None] = self._broker.loop.create_future()
        self.when_open(lambda: None if done.done() else done.set_result(None))
        await done
        self._check_usable()

    async def read_frames(
        self, offset: int, max_bytes: int, max_records: int = 0
    ) -> tuple[bytes, int]:
        """Frames from the one that holds ``offset``, and the offset after them.

        At least one frame if any is durable there, else no bytes and ``offset``.

        Raises:
            MQError: They can't be read.
        """
        answered: asyncio.Future[bytes | MQError] = self._broker.loop.create_future()
        following = offset

        def encode(result: ReadResult) -> bytes:
            nonlocal following
            following = result.next_offset
            return result.join()

        self.pull(Pull(offset, max_bytes, max_records, 0.0, encode, answered.set_result))
        outcome = await answered
        if isinstance(outcome, MQError):
            raise outcome
        return outcome, following

    async def locate(self, offset: int) -> Position:
        """Where a record is: its append time, and how much lies from there to the end.

        Raises:
            MQError: It can't be told.
        """
        await self.ready()
        if offset >= self.durable_offset:
            return Position(self._broker.clock_ns(), 0)
        log = self.log
        assert log is not None, "a ready channel's log is open"
        self._broker.touch(self)
        answered: asyncio.Future[Position | MQError] = self._broker.loop.create_future()
        self._broker.run_read(lambda: log.locate(offset), answered.set_result)
        outcome = await answered
        if isinstance(outcome, MQError):
            raise outcome
        return outcome

    def locate_now(self, offset: int) -> Position | None:
        """The same, without waiting for the device; None where that would be needed."""
        if self.log_start_offset <= offset < self.durable_offset:
            if self.log is not None and self.log.is_open_at(offset):
                return self.log.locate(offset)
            return None
        return Position(self._broker.clock_ns(), 0)

    def end_waiting(self, error: MQError | None) -> None:
        """Answer all waiting pulls: with an error, or with nothing."""
        for pull in self.waiters.take_all():
            pull.answer(error or pull.encode(self._nothing(pull)))

    def seek_time(self, time_ns: int, found: Callable[[int | MQError], None]) -> None:
        """Find the offset of the first record appended at or after a time.

        Raises:
            MQError: It was refused.
            OffsetOutOfRange: The time has not come yet.
        """
        self._check_usable()
        now_ns = self._broker.clock_ns()
        if time_ns > max(now_ns, self.last_append_time_ns):
            raise OffsetOutOfRange(
                f"that time is {(time_ns - now_ns) / 1e9:.0f} s ahead of the broker's clock; "
                "use latest to wait for what comes",
                self.log_start_offset,
                self.durable_offset,
            )

        def seek() -> None:
            log = self.log
            if self.state is State.OPEN and log is not None:
                self._broker.touch(self)
                self._broker.run_read(lambda: log.seek_time(time_ns), found)
            else:
                try:
                    self._check_usable()
                except MQError as error:
                    found(error)
                else:
                    self._when_open(seek)

        seek()

    # ---- Retention --------------------------------------------------------

    def retention_due(self, now_ns: int) -> bool:
        """Whether retention should look at the channel, from what is known without its log."""
        config = self.meta.config
        if self.state is State.OPEN:
            return bool(config.roll_age_ns or config.retention(self.held_from).limited)
        if self.state is not State.CLOSED or not config.roll_age_ns:
            return False
        # Closed, nothing is appended; what is there only gets older.
        return self.last_append_time_ns == 0 or (
            self.log_start_offset < self.durable_offset
            and now_ns - self.last_append_time_ns > (config.retention_ms or 0) * 1_000_000
        )

    def enforce_retention(self) -> None:
        """Remove what retention removes now, between two commits."""
        config = self.meta.config
        if self.log is not None:
            self._segments_seen = len(self.log.segments)
        if self._broker.must_recover_groups(self):
            # What they have not acknowledged is held, and only they know.
            self._broker.recover_groups(self)
            return
        if self.state is State.OPEN and (config.roll_age_ns or config.retention(0).limited):
            self._run_exclusive(partial(self._removals, None, False), self._removed)

    def _removals(self, before: int | None, dry_run: bool) -> list[Removal]:
        """In a committer thread: choose, and remove unless it is a dry run."""
        log, config = self.log, self.meta.config
        assert log is not None
        if not dry_run and (before is None or before >= log.end_offset):
            age_ns = config.roll_age_ns if before is None else 0
            if age_ns or before is not None:
                log.roll_aged(age_ns)
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
            removals = choose(facts, config.retention(self.held_from), self._broker.clock_ns())
        else:
            purged = [fact for fact in facts[:-1] if fact.end_offset <= before]
            removals = [Removal(fact, f"it ends before offset {before}") for fact in purged]
        if removals and not dry_run:
            log.trim(removals[-1].segment.end_offset)
        return removals

    def _removed(self, outcome: object) -> None:
        self._refresh()
        if self.log is not None:
            self._segments_seen = len(self.log.segments)
        self._broker.note_removed(self, outcome)

    async def purge(self, before: int | None, *, dry_run: bool) -> list[Removal]:
        """Remove whole segments before an offset; None: what retention removes now.

        Raises:
            MQError: They could not be removed.
        """
        self._check_usable()
        if before is None and self._broker.must_recover_groups(self):
            await self._broker.groups_of(self)
        if before is not None and before > self.end_offset:
            raise OffsetOutOfRange(
                f"offset {before} is after the end of the log, {self.end_offset}",
                self.log_start_offset,
                self.durable_offset,
            )
        done: asyncio.Future[object] = self._broker.loop.create_future()

        def told(outcome: object) -> None:
            self._removed(outcome)
            if not done.done():
                done.set_result(outcome)

        self._run_exclusive(partial(self._removals, before, dry_run), told)
        outcome = await done
        if isinstance(outcome, MQError):
            raise outcome
        return cast("list[Removal]", outcome)

    def _run_exclusive(self, work: Callable[[], object], told: Callable[[object], None]) -> None:
        def done(job: Exclusive) -> None:
            self._committing = False
            told(job.outcome)
            self._settle()

        self._exclusive.append(Exclusive(work, done))
        self._schedule()

    async def offset_at(self, time_ns: int) -> int:
        """The offset of the first record appended at or after a time.

        Raises:
            MQError: It can't be told.
        """
        found: asyncio.Future[int | MQError] = self._broker.loop.create_future()
        self.seek_time(time_ns, found.set_result)
        outcome = await found
        if isinstance(outcome, MQError):
            raise outcome
        return outcome

    # ---- Opening and closing ----------------------------------------------

    def when_open(self, call: Callable[[], None]) -> None:
        """Call when the log is open, or could not be opened; now if it is."""
        if self.state in (State.OPEN, State.FAILED, State.DELETED):
            call()
        else:
            self._when_open(call)

    def _when_open(self, call: Callable[[], None]) -> None:
        self._on_open.append(call)
        if self.state is State.CLOSED:
            self.state = State.OPENING
            self._broker.open_log(self)

    def opened(self, outcome: Log | MQError) -> None:
        """The broker has opened the log, or could not."""
        if self.state is State.DELETED:
            if isinstance(outcome, Log):
                self.log = outcome
            self._run_on_open()
            return
        if isinstance(outcome, MQError):
            self.state, self.reason = State.FAILED, outcome.message
            error = ChannelFailed(f"channel {self.name} could not be opened: {outcome}")
            self._fail_pending(error)
            self._fail_exclusive(error)
        else:
            self.state, self.log = State.OPEN, outcome
            self._refresh()
        self._run_on_open()

    def _run_on_open(self) -> None:
        calls, self._on_open = self._on_open, []
        for call in calls:
            call()

    def _fail_pending(self, error: MQError) -> None:
        entries, self._pending = self._pending, []
        self._release(self._pending_bytes - self._unsynced_bytes)
        for entry in entries:
            entry.answer(error, Durability.WRITTEN)

    def _fail_exclusive(self, error: MQError) -> None:
        jobs, self._exclusive = self._exclusive, []
        for job in jobs:
            job.outcome = error
            job.on_done(job)

    def begin_close(self) -> Log | None:
        """Take the log away to close it, if it is open and idle."""
        if self.state is not State.OPEN or self.busy:
            return None
        log, self.log = self.log, None
        self.state = State.CLOSING
        return log

    def closed(self) -> None:
        """The log is closed; open it again if it was asked for meanwhile."""
        if self.state is State.DELETED:
            self._run_on_open()
        elif self.state is State.CLOSING:
            self.state = State.CLOSED
            if self._on_open:
                self.state = State.OPENING
                self._broker.open_log(self)

    def begin_delete(self, idle: Callable[[], None]) -> None:
        """Refuse everything from now on; ``idle`` is called when the log is unused."""
        closing = self.state in (State.OPENING, State.CLOSING)
        self.state = State.DELETED
        self._fail_pending(self._not_found())
        self._fail_exclusive(self._not_found())
        self.end_waiting(self._not_found())
        if self._committing:
            self._on_idle.append(idle)
        elif closing:
            self._on_open.append(idle)
        else:
            idle()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call when nothing is pending or being committed."""
        if self._committing or self._scheduled or self._pending or self._exclusive:
            self._on_idle.append(lambda: self.when_idle(call))
        else:
            call()
