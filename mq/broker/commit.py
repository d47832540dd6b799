"""Group commit: what is pending on a channel becomes one write and one sync.

A few threads take channels from one queue, so that channels commit side by
side and one with a slow device holds up no other. While a channel commits,
what arrives for it gathers for its next commit.

A lone message on an otherwise idle broker is committed on the event loop
itself, as long as the device is quick: handing it to a thread and back takes
longer than the sync does. The first slow sync ends that, until the device has
been quick for a while.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mq.broker.model import Durability
from mq.broker.pending import Outcome, Pending
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

    def plan_checkpoint(self, *, clean: bool = False) -> Callable[[], None]:
        """Capture a checkpoint."""


@dataclass(slots=True)
class Commit:
    """One commit: what goes in, what came out."""

    log: CommitLog
    entries: list[Pending]
    # Called on the event loop, when written and when all is over.
    on_written: Callable[[Commit], None] | None
    on_done: Callable[[Commit], None]
    outcomes: list[Outcome]
    sync_seconds: float = 0.0
    sync_failed: bool = False
    checkpoint: Callable[[], None] | None = None

    def run(self, notify: Callable[[Callable[[Commit], None], Commit], None]) -> None:
        """Append, sync, plan a checkpoint if one is due. Never raises."""
        try:
            self.outcomes = self.log.append([entry.to_append() for entry in self.entries])
            if self.on_written is not None:
                notify(self.on_written, self)
            began = time.perf_counter()
            self.log.sync()
            self.sync_seconds = time.perf_counter() - began
            if self.log.checkpoint_due:
                self.checkpoint = self.log.plan_checkpoint()
        except MQError as error:
            self.sync_failed = True
            self.outcomes = [error] * len(self.entries)
        except Exception as error:  # noqa: BLE001
            # A bug must not take the committing thread, or leave publishers waiting.
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


def _call(call: Callable[[Commit], None], commit: Commit) -> None:
    call(commit)


@dataclass(slots=True)
class Exclusive:
    """Work that needs a channel's log to itself, between two commits."""

    work: Callable[[], object]
    on_done: Callable[[Exclusive], None]
    outcome: object = None

    def run(self, notify: object) -> None:
        """Do it. Never raises: a failure is the outcome."""
        try:
            self.outcome = self.work()
        except MQError as error:
            self.outcome = error
        except Exception as error:  # noqa: BLE001
            self.outcome = ChannelFailed(f"upkeep failed: {error!r}; see the broker's log")


class Committer:
    """The threads that commit."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int = 8) -> None:
        self._loop = loop
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
        self._slowest_sync_s = max(seconds, self._slowest_sync_s * _FADING)

    def _finished(self, job: Commit | Exclusive) -> None:
        self._in_flight -= 1
        if isinstance(job, Commit):
            self._note_sync(job.sync_seconds)
        job.on_done(job)  # type: ignore[arg-type]

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run(self._notify)
            self._notify(self._finished, job)

    def _notify(self, call: Callable[[Any], None], job: Commit | Exclusive) -> None:
        self._loop.call_soon_threadsafe(call, job)

    def close(self) -> None:
        """Let the threads finish what was submitted, and end them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
