"""Verifying a data directory: every checksum, and whether the files fit together.

Offline and read-only: nothing is written, locked for long, or repaired. Beside
a running broker it is safe too; what that is writing is left out.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

from mq.log.dump import dump_segment
from mq.log.files import OS_FILES, Files
from mq.log.jobs import Advance, run_tasks
from mq.log.journal_check import Complain, complain_of_head
from mq.log.layout import (
    CHANNEL_NAME,
    CHANNELS_NAME,
    LOCK_NAME,
    LOG_DIRECTORIES,
    is_id,
    list_directory,
    read_channel_name,
    read_format,
)
from mq.log.log_check import LogCheck
from mq.log.report import LogReport, Report, Severity

__all__ = ["Report", "dump_segment", "verify_data_dir", "verify_log"]

# Told how many bytes are checked, of how many.
Progress = Callable[[int, int], None]

FAULT, NOTICE = Severity.FAULT, Severity.NOTICE


def verify_data_dir(
    path: Path,
    progress: Progress | None = None,
    *,
    jobs: int = 1,
    complain: Complain = complain_of_head,
    files: Files = OS_FILES,
) -> Report:
    """Check a data directory.

    Args:
        path: The directory that a broker was given.
        progress: Called now and then with the bytes checked and all bytes.
        jobs: How many processes may check segments side by side.
        complain: Tells what is wrong with a record of a journal of consumer
            groups, or None; a function at the top of a module.
        files: The seam.

    Raises:
        DataDirError: It is no data directory, or of another format.
        OSError: It can't be read.
    """
    report = Report(str(path), read_format(files, path), live=in_use(path))
    names = _names_of_channels(files, path, report)
    checks = []
    for kind, directory in find_logs(files, path, report):
        try:
            checks.append(LogCheck(files, directory, kind, complain, live=report.live))
        except FileNotFoundError:
            # A channel that was deleted meanwhile.
            if not report.live:
                raise
    tasks = [task for check in checks for task in check.tasks]
    counter = Counter(progress, sum(task.size_bytes for task in tasks))
    outcomes = run_tasks(tasks, jobs, counter.advance, files)
    for check in checks:
        checked = [next(outcomes) for _ in check.tasks]
        if report.live and checked and not any(checked):
            continue
        log = check.conclude(checked)
        log.name = names.get(log.id)
        report.logs.append(log)
    return report


def verify_log(
    directory: Path,
    *,
    kind: str = "channel",
    live: bool = False,
    advance: Advance = lambda _: None,
    files: Files = OS_FILES,
) -> LogReport:
    """Check one log's directory.

    Args:
        directory: Holds segments, indexes and a checkpoint.
        kind: Whose log it is.
        live: A broker is using it.
        advance: Told how many more bytes are checked.
        files: The seam.

    Raises:
        DataDirError: A segment is of another format.
        OSError: The directory can't be read.
    """
    check = LogCheck(files, directory, kind, complain_of_head, live=live)
    return check.conclude(list(run_tasks(check.tasks, 1, advance, files)))


class Counter:
    """Adds up progress: bytes done, of so many; never more than there are."""

    def __init__(self, progress: Progress | None, total_bytes: int) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def advance(self, done_bytes: int) -> None:
        """So many more bytes are checked."""
        self._done_bytes = min(self._done_bytes + done_bytes, self._total_bytes)
        if self._progress is not None:
            self._progress(self._done_bytes, self._total_bytes)


def in_use(path: Path) -> bool:
    """Whether a broker has the directory locked. Holds the lock for an instant only."""
    try:
        with (path / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def find_logs(files: Files, path: Path, report: Report | None = None) -> list[tuple[str, Path]]:
    """The directories of logs in a data directory, and whose they are; others are reported."""
    found = []
    for parent, kind in LOG_DIRECTORIES.items():
        for directory in list_directory(files, path / parent):
            if is_id(directory.name) and directory.is_dir() and not directory.is_symlink():
                found.append((kind, directory))
            elif report is not None:
                _note_stray(report, directory, kind)
    return found


def _names_of_channels(files: Files, path: Path, report: Report) -> dict[str, str]:
    names = {}
    for directory in list_directory(files, path / CHANNELS_NAME):
        if not is_id(directory.name):
            continue
        try:
            names[directory.name] = read_channel_name(files, directory)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if report.live and not directory.exists():
                continue
            message = f"it can't be used ({error!r}); the broker leaves the channel alone"
            file = f"{CHANNELS_NAME}/{directory.name}/{CHANNEL_NAME}"
            report.add(FAULT, "channel-json", message, file)
    return names


def _note_stray(report: Report, path: Path, kind: str) -> None:
    file = f"{path.parent.name}/{path.name}"
    if path.name.startswith((".new-", ".deleted-")):
        message = f"what was left of making or deleting a {kind}; the broker removes it"
        report.add(NOTICE, "leftover", message, file)
    else:
        report.add(NOTICE, "stray", "it is none of the broker's", file)
