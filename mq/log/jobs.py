"""Checking segments, in this process or side by side in several.

Frames are many and small, so that most of the work is Python's own: threads
would wait for each other. Tasks and results go between processes as they are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from mq.errors import DataDirError
from mq.log.files import OS_FILES, Files
from mq.log.journal_check import Complain, check_records
from mq.log.segment_check import Checked, Surroundings, check_segment

# Told how many more bytes were checked.
Advance = Callable[[int], None]

# What a process is given at a time, and from what on processes are worth starting.
_SHARE_BYTES: Final = 32 << 20
_PARALLEL_BYTES_MIN: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """A segment to be checked; ``complain`` is for the records of a journal."""

    path: Path
    size_bytes: int
    around: Surroundings
    complain: Complain | None = None

    def run(self, files: Files, advance: Advance) -> Checked | None:
        """Check it; None: a running broker has removed it.

        Raises:
            DataDirError: It is of another format.
            OSError: It can't be read.
        """
        try:
            checked = check_segment(files, self.path, self.around, advance)
            if self.complain is not None:
                check_records(files, self.path, checked, self.complain)
        except FileNotFoundError:
            if not self.around.live:
                raise
            return None
        return checked


def cores() -> int:
    """How many processes can work side by side here."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    tasks: Sequence[Task], jobs: int, advance: Advance, files: Files = OS_FILES
) -> Iterator[Checked | None]:
    """The outcome of each task, in their order.

    Args:
        tasks: What is to be checked.
        jobs: How many processes to use; 1, or little work: this one.
        advance: Told of progress.
        files: The seam. Other processes use the operating system itself.

    Raises:
        DataDirError: A segment is of another format, or a process was killed.
        OSError: One can't be read.
    """
    total_bytes = sum(task.size_bytes for task in tasks)
    if jobs == 1 or total_bytes < _PARALLEL_BYTES_MIN or files is not OS_FILES:
        for task in tasks:
            yield task.run(files, advance)
        return
    # Not forked: this process may have threads.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _ignore_interrupts)
    try:
        shares = [(pool.submit(_run_share, share), share) for share in _shares(tasks)]
        for future, share in shares:
            _tell_when_done(future, share, advance)
        for future, _ in shares:
            yield from future.result()
    except BrokenProcessPool:
        raise DataDirError(
            "a process that was checking segments was killed, for lack of memory perhaps; try "
            "again with --jobs 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _shares(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    share: list[Task] = []
    share_bytes = 0
    for task in tasks:
        share.append(task)
        share_bytes += task.size_bytes
        if share_bytes >= _SHARE_BYTES:
            yield share
            share, share_bytes = [], 0
    if share:
        yield share


def _run_share(share: Sequence[Task]) -> list[Checked | None]:
    """In a process of the pool."""
    return [task.run(OS_FILES, lambda _: None) for task in share]


def _ignore_interrupts() -> None:
    """Ctrl-C is for the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _tell_when_done(
    future: Future[list[Checked | None]], share: Sequence[Task], advance: Advance
) -> None:
    size_bytes = sum(task.size_bytes for task in share)

    def done(future: Future[list[Checked | None]]) -> None:
        if not future.cancelled() and future.exception() is None:
            advance(size_bytes)

    future.add_done_callback(done)
