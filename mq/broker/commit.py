"""Group commit: what is pending on a channel becomes one write and one sync.

A few threads take channels from one queue, so that channels commit side by
side and one with a slow device holds up no other. While a channel commits,
what arrives for it gathers for its next commit.

Where many channels have something to be synced at once, one sync of the file
system takes a fraction of the time of one each, and tells of errors as well: if
it fails, each is synced by itself, to know whose it was.

A lone message on an otherwise idle broker is committed on the event loop
itself, as long as the device is quick: handing it to a thread and back takes
longer than the sync does. The first slow sync ends that, until the device has
been quick for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from mq.broker.model import Durability
from mq.broker.pending import Outcome, Pending
from mq.broker.threads import lacks_resources
from mq.errors import ChannelFailed, MQError
from mq.log.log import Append, Appended


class CommitLog(Protocol):
    """What a commit needs of a channel's store."""

    @property
    def checkpoint_due(self) -> bool:
        """Whether a checkpoint should be planned after the sync."""

    def append(self, batches: Sequence[Append]) -> list[Appended | MQError]:
        """Write the batches."""

    def sync(self) -> int:
        """Make them durable."""

    def note_synced(self) -> int:
        """They were made durable by a sync of the whole file system."""

    def plan_checkpoint(self, *, clean: bool = False) -> Callable[[], None]:
        """Capture a checkpoint."""


Notify = Callable[[Callable[["Commit"], None], "Commit"], None]


@dataclass(slots=True)
class Commit:
    """One commit: what goes in, what came out."""

    log: CommitLog
    entries: list[Pending]
    # Called on the event loop, when written and when all is over.
    on_written: Callable[[Commit], None] | None
    on_done: Callable[[Commit], None]
    outcomes: list[Outcome]
    # True: a later commit syncs what this one writes.
    sync_later: bool = False
    sync_seconds: float = 0.0
    sync_failed: bool = False
    failed: bool = False
    checkpoint: Callable[[], None] | None = None

    def run(self, notify: Notify) -> None:
        """Append, sync, plan a checkpoint if one is due. Never raises."""
        self.write(notify)
        if not self.sync_later:
            self.sync()

    def write(self, notify: Notify) -> None:
        """The first half: append. Never raises."""
        with self._failures():
            self.outcomes = self.log.append([entry.to_append() for entry in self.entries])
            if self.on_written is not None:
                notify(self.on_written, self)

    def sync(self) -> None:
        """The second half, by itself. Never raises."""
        if self.failed:
            return
        began = time.perf_counter()
        with self._failures():
            try:
                self.log.sync()
            except MQError:
                self.sync_failed = True
                raise
            self.sync_seconds = time.perf_counter() - began
            self._plan_checkpoint()

    def synced(self, seconds: float) -> None:
        """The second half, done by a sync of the whole file system. Never raises."""
        if self.failed:
            return
        self.sync_seconds = seconds
        with self._failures():
            self.log.note_synced()
            self._plan_checkpoint()

    def _plan_checkpoint(self) -> None:
        if self.log.checkpoint_due:
            self.checkpoint = self.log.plan_checkpoint()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Take an error as everyone's outcome."""
        try:
            yield
        except MQError as error:
            self.failed = True
            self.outcomes = [error] * len(self.entries)
        except Exception as error:  # noqa: BLE001
            # A bug must not take the committing thread, or leave publishers waiting.
            self.failed = True
            failure = ChannelFailed(f"the commit failed: {error!r}; restart the broker")
            self.outcomes = [failure] * len(self.entries)

    def answer(self, reached: Durability) -> None:
        """Tell the publishers. On the event loop."""
        for entry, outcome in zip(self.entries, self.outcomes, strict=True):
            entry.answer(outcome, reached)


# A sync is quick below this; a longer one is for a thread.
_QUICK_SYNC_S = 0.001
_FADING = 0.95
# Some sixty quick syncs away from being quick.
_SLOWEST_AT_FIRST_S = 0.02
# From how many commits on the file system is synced as a whole, and of how many at most.
_TOGETHER_MIN = 8
_TOGETHER_MAX = 256
# A sync of the file system that took longer had others' data to write too; then
# each is synced by itself for a while.
_TOGETHER_SLOW_S = 0.05
_TOGETHER_PAUSE_S = 5.0


def _call(call: Callable[[Commit], None], commit: Commit) -> None:
    call(commit)


@dataclass(slots=True)
class Exclusive:
    """Work that needs a channel's log to itself, between two commits."""

    work: Callable[[], object]
    on_done: Callable[[Exclusive], None]
    # Called instead with an error, if it is never run.
    told: Callable[[object], None]
    outcome: object = None

    def run(self, notify: object) -> None:
        """Do it. Never raises: a failure is the outcome."""
        try:
            self.outcome = self.work()
        except MQError as error:
            self.outcome = error
        except Exception as error:  # noqa: BLE001
            self.outcome = lacks_resources(error) or ChannelFailed(
                f"upkeep failed: {error!r}; see the broker's log"
            )


def _joins(job: Commit | Exclusive) -> TypeGuard[Commit]:
    return isinstance(job, Commit) and not job.sync_later


class Committer:
    """The threads that commit."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sync_all: Callable[[], None] | None = None,
        threads: int = 8,
    ) -> None:
        """Start the threads.

        Args:
            loop: Where outcomes are told.
            sync_all: Syncs all logs' file system and raises OSError if any of it
                failed; None: there is no such thing.
            threads: How many commits may run at once.
        """
        self._loop = loop
        self._sync_all = sync_all
        self._together_from_s = 0.0
        self._in_flight = 0
        # The longest sync of late: it fades with each that is shorter.
        self._slowest_sync_s = _SLOWEST_AT_FIRST_S
        self._queue: queue.SimpleQueue[Commit | Exclusive | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"mq-commit-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Commit | Exclusive) -> None:
        """Run a job in the next free thread."""
        self._in_flight += 1
        self._queue.put(job)

    def run_here(self, commit: Commit) -> None:
        """Run a commit on the event loop; see `may_run_here`."""
        commit.run(_call)
        commit.on_done(commit)
        self._note_sync(commit.sync_seconds)

    @property
    def may_run_here(self) -> bool:
        """Whether nothing else commits, and the device has been quick of late."""
        return self._in_flight == 0 and self._slowest_sync_s < _QUICK_SYNC_S

    def _note_sync(self, seconds: float) -> None:
        # Of a commit that did not sync nothing is learned.
        if seconds > 0:
            self._slowest_sync_s = max(seconds, self._slowest_sync_s * _FADING)

    def _finished(self, job: Commit | Exclusive) -> None:
        self._in_flight -= 1
        if isinstance(job, Commit):
            self._note_sync(job.sync_seconds)
        job.on_done(job)  # type: ignore[arg-type]

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            together = self._gather(job)
            if together:
                self._run_together(together)
            else:
                job.run(self._notify)
                self._notify(self._finished, job)

    def _gather(self, job: Commit | Exclusive) -> list[Commit]:
        """This and other commits that wait, if there are enough to be synced together."""
        if self._sync_all is None or self._queue.qsize() < _TOGETHER_MIN - 1:
            return []
        if not _joins(job) or time.monotonic() < self._together_from_s:
            return []
        gathered = [job]
        while len(gathered) < _TOGETHER_MAX:
            try:
                other = self._queue.get_nowait()
            except queue.Empty:
                break
            if other is None or not _joins(other):
                self._queue.put(other)
                break
            gathered.append(other)
        return gathered

    def _run_together(self, commits: list[Commit]) -> None:
        """Write all of them, then sync the file system once."""
        assert self._sync_all is not None
        for commit in commits:
            commit.write(self._notify)
        began = time.perf_counter()
        try:
            self._sync_all()
        except OSError:
            # Whose it was, only each file can tell.
            for commit in commits:
                commit.sync()
        else:
            seconds = time.perf_counter() - began
            if seconds > _TOGETHER_SLOW_S:
                self._together_from_s = time.monotonic() + _TOGETHER_PAUSE_S
            for commit in commits:
                commit.synced(seconds)
        for commit in commits:
            self._notify(self._finished, commit)

    def _notify(self, call: Callable[[Any], None], job: Commit | Exclusive) -> None:
        self._loop.call_soon_threadsafe(call, job)

    def close(self) -> None:
        """Let the threads finish what was submitted, and end them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
