"""Publishes of one channel: admitted, gathered, committed, answered.

What arrives while a commit is under way goes into the next one. A commit, or
other work that needs the log to itself, runs in a committer thread, never two
at once for one channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mq.broker.commit import Commit, Exclusive
from mq.broker.futures import settle
from mq.broker.latesync import LateSync
from mq.broker.life import Life, Opener, State
from mq.broker.model import Durability
from mq.broker.pending import Batch, Done, Pending, Singles
from mq.broker.pulling import PullDesk
from mq.broker.rates import Rate
from mq.broker.shared import Shared
from mq.errors import ChannelReadOnly, MessageTooLarge, MQError, Overloaded
from mq.log.log import Append

# A commit of no more than this may be done on the event loop.
_LONE_BYTES_MAX: Final = 4096
# How many channels' most may wait in all of them together.
_CHANNELS_FULL: Final = 4


class CommitQueue:
    """Everything that waits to be done to one channel's log.

    Attributes:
        after_commit: Called when a commit is over and its publishers have their answers.
    """

    def __init__(self, shared: Shared, logs: Opener, life: Life, pulls: PullDesk) -> None:
        self.after_commit: Callable[[], None] = lambda: None
        self._shared = shared
        self._logs = logs
        self._life = life
        self._pulls = pulls
        self._pending: list[Pending] = []
        self._pending_bytes = 0
        # Of these, the ones in the commit under way that count against the limit still.
        self._committing_bytes = 0
        self._committing = False
        self._scheduled = False
        self._awaits_open = False
        # Work that needs the log to itself; it goes before the next commit.
        self._alone: list[Exclusive] = []
        self._late_sync = LateSync(shared, life, self.run_alone)
        # Who waits until nothing is left to do.
        self._on_idle: list[asyncio.Future[None]] = []
        self._rate: Rate | None = None
        life.in_use = lambda: self.busy

    @property
    def busy(self) -> bool:
        """Whether anything is waiting or being done."""
        return bool(self._committing or self._scheduled or self._pending or self._alone)

    def rates(self) -> tuple[float, float]:
        """Records and bytes published a second, over the last minute."""
        return self._rate.per_second(self._shared.loop.time()) if self._rate else (0.0, 0.0)

    # ---- What comes in ----------------------------------------------------

    def publish(self, content: bytes, durability: Durability, done: Done) -> None:
        """Append one message with the next commit; ``done`` is called with the outcome.

        ``done`` is called on the event loop, once, and must not raise.

        Raises:
            MQError: It was refused; ``done`` is not called.
        """
        self._admit(len(content))
        durability = durability or self._life.settings.durability
        last = self._pending[-1] if self._pending else None
        if not isinstance(last, Singles) or not last.add(content, durability, done):
            last = Singles()
            last.add(content, durability, done)
            self._pending.append(last)
        self._count_pending(len(content))
        self._schedule()

    def publish_batch(self, append: Append, durability: Durability, done: Done) -> None:
        """Append a batch, whole or not at all, with the next commit; see `publish`."""
        self._admit(len(append.records))
        self._pending.append(Batch(append, durability or self._life.settings.durability, done))
        self._count_pending(len(append.records))
        self._schedule()

    def _admit(self, size: int) -> None:
        life = self._life
        life.check_usable()
        if life.reason is not None:
            raise ChannelReadOnly(f"channel {life.meta.name}: {life.reason}")
        if size > life.settings.max_message_bytes:
            raise MessageTooLarge(
                f"{size} bytes are more than channel {life.meta.name} takes in one message or "
                f"batch, {life.settings.max_message_bytes}; send less at once, or raise "
                "max_message_bytes (and SERVER_MAX_RECV_MSG_SIZE)"
            )
        self._check_pending(size)
        # Acknowledgements go on: they let retention make room, and take little.
        if life.hidden_at is None:
            self._shared.disk.check()

    def _check_pending(self, size: int) -> None:
        most = self._shared.config.pending_bytes_max
        in_all = self._shared.stats.pending_publish_bytes
        if self._pending and self._pending_bytes + size > most:
            waiting = (
                f"{self._pending_bytes} bytes wait to be written to channel {self._life.meta.name}"
            )
        elif in_all and in_all + size > _CHANNELS_FULL * most:
            waiting = f"{in_all} bytes wait to be written to all channels"
        else:
            return
        raise Overloaded(
            f"{waiting}; wait for earlier publishes to be acknowledged, then try again"
        )

    def _count_pending(self, size: int) -> None:
        self._pending_bytes += size
        self._shared.stats.pending_publish_bytes += size

    def _release(self, size: int) -> None:
        self._pending_bytes -= size
        self._shared.stats.pending_publish_bytes -= size

    def run_alone(self, work: Callable[[], object], told: Callable[[object], None]) -> None:
        """Do something in a committer thread, with the log open and to itself.

        ``told`` is called with what ``work`` returned, or an `MQError`: on the
        event loop, once, at once if the channel takes no work. It must not raise.
        """
        refusal = self._life.refusal()
        if refusal is not None:
            told(refusal)
            return

        def done(job: Exclusive) -> None:
            self._committing = False
            # Whatever it did to the log may have synced what was put off.
            self._look()
            told(job.outcome)
            self._go_on()

        self._alone.append(Exclusive(work, done, told))
        self._schedule()

    # ---- Committing -------------------------------------------------------

    def _schedule(self) -> None:
        """Commit once everything that has arrived by now is queued."""
        if not self._committing and not self._scheduled:
            self._scheduled = True
            self._shared.loop.call_soon(self._commit)

    def _commit(self) -> None:
        self._scheduled = False
        life = self._life
        if self._committing or not (self._pending or self._alone):
            self._note_idle()
        elif life.state is not State.OPEN:
            if not self._awaits_open:
                self._awaits_open = True
                life.when_open(self._opened)
        elif self._alone:
            self._committing = True
            self._shared.committer.submit(self._alone.pop(0))
        else:
            self._commit_pending(life)

    def _opened(self) -> None:
        self._awaits_open = False
        refusal = self._life.refusal()
        if refusal is None:
            self._commit()
        else:
            self.fail_all(refusal)
            self._pulls.end_waiting(refusal)

    def _commit_pending(self, life: Life) -> None:
        log = life.log
        assert log is not None, "an open channel has a log"
        entries, self._pending = self._pending, []
        self._committing = True
        size = self._committing_bytes = self._pending_bytes
        self._logs.touch(life)
        early = any(entry.early for entry in entries)
        commit = Commit(
            log,
            entries,
            self._written if early else None,
            self._committed,
            [],
            early and self._late_sync.may_put_off(entries, size),
        )
        committer = self._shared.committer
        if size <= _LONE_BYTES_MAX and committer.may_run_here and log.fits(size):
            committer.run_here(commit)
        else:
            committer.submit(commit)

    def _written(self, commit: Commit) -> None:
        commit.answer(Durability.WRITTEN)
        # What is written may wait for its sync beside what comes in meanwhile.
        if self._committing_bytes <= self._shared.config.unsynced_bytes_max:
            self._release(self._committing_bytes)
            self._committing_bytes = 0

    def _committed(self, commit: Commit) -> None:
        self._committing = False
        self._release(self._committing_bytes)
        self._committing_bytes = 0
        self._count(commit)
        self._look()
        commit.answer(Durability.SYNCED)
        if commit.checkpoint is not None:
            self._shared.threads.upkeep(commit.checkpoint)
        self.after_commit()
        self._go_on()

    def _look(self) -> None:
        """Something may be durable that was not: whoever waits for it can have it."""
        self._life.refresh()
        self._pulls.wake()

    def _go_on(self) -> None:
        """After a job in a committer thread: with whatever waits."""
        if self._pending or self._alone:
            self._schedule()
        else:
            self._note_idle()

    def _count(self, commit: Commit) -> None:
        shared, records, size = self._shared, 0, 0
        stats, now_s = shared.stats, shared.loop.time()
        stats.commits += 1
        if commit.sync_failed:
            stats.fsync_failures += 1
        elif not commit.sync_later:
            shared.observe_fsync(commit.sync_seconds)
        for entry, outcome in zip(commit.entries, commit.outcomes, strict=True):
            if not isinstance(outcome, MQError) and not outcome.duplicate:
                records += outcome.record_count
                size += entry.size
        shared.rate.add(now_s, records, size)
        if self._life.hidden_at is None:
            stats.published_messages += records
            stats.published_bytes += size
        if self._rate is None:
            self._rate = Rate()
        self._rate.add(now_s, records, size)

    # ---- Ending -----------------------------------------------------------

    def fail_all(self, error: MQError) -> None:
        """Answer whatever is not being done yet; nothing of it was written."""
        entries, self._pending = self._pending, []
        jobs, self._alone = self._alone, []
        self._release(self._pending_bytes - self._committing_bytes)
        for entry in entries:
            entry.answer(error, Durability.WRITTEN)
        for job in jobs:
            job.told(error)
        self._note_idle()

    def _note_idle(self) -> None:
        if self._on_idle and not self.busy:
            waiting, self._on_idle = self._on_idle, []
            for future in waiting:
                settle(future, None)

    async def idle(self) -> None:
        """Wait until nothing is left to do."""
        while self.busy:
            future: asyncio.Future[None] = self._shared.loop.create_future()
            self._on_idle.append(future)
            await future
