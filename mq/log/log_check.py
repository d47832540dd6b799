"""Checking one log: what files there are, and whether they fit together.

Made in two steps, so that the segments between them can be checked side by
side: a `LogCheck` lists the files and says which checks it needs; it is given
their outcome and makes the report.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mq.log.checkpoint import Checkpoint
from mq.log.envelope import parse_segment_header
from mq.log.files import Files
from mq.log.format import (
    CHECKPOINT_NAME,
    HEADER_BYTES,
    INDEX_SUFFIX,
    NO_ID,
    SCRATCH_SUFFIX,
    TORN_SUFFIX,
    index_name,
    parse_segment_name,
    segment_name,
)
from mq.log.jobs import Task
from mq.log.journal_check import Complain
from mq.log.layout import CHANNEL_NAME, is_id, log_id
from mq.log.report import LogReport, Severity
from mq.log.segment_check import Checked, Surroundings

DAMAGE, FAULT, NOTICE = Severity.DAMAGE, Severity.FAULT, Severity.NOTICE


class LogCheck:
    """The check of one log's directory.

    Args:
        files: The seam.
        directory: Holds segments, indexes and a checkpoint.
        kind: Whose log it is, ``channel`` or ``groups``.
        live: A broker is using it.
        complain: Tells what is wrong with a record of a journal.

    Attributes:
        tasks: The segments to be checked.

    Raises:
        OSError: The directory can't be read.
    """

    def __init__(
        self, files: Files, directory: Path, kind: str, complain: Complain, *, live: bool
    ) -> None:
        self._files = files
        self._directory = directory
        self._report = report = LogReport(kind, directory.name, str(directory), live=live)
        # Before the segments: it is never ahead of what was there by then. And again
        # after the names: what a running broker removed meanwhile is not missing.
        self._checkpoint = load_checkpoint(files, directory, report)
        self._names = files.list(directory)
        again = load_checkpoint(files, directory) if live else self._checkpoint
        known = [c.log_start_offset for c in (self._checkpoint, again) if c is not None]
        self._start = max(known, default=0)
        bases = sorted(b for b in map(parse_segment_name, self._names) if b is not None)
        self._removed = []
        while len(bases) > 1 and bases[1] <= self._start:
            self._removed.append(segment_name(bases.pop(0)))
        self._bases = bases
        channel_id = log_id(kind, directory) if is_id(directory.name) else None
        self.tasks = [
            self._task(base, next_base, channel_id, complain if kind == "groups" else None)
            for base, next_base in itertools.zip_longest(bases, bases[1:])
        ]

    def _task(
        self, base: int, next_base: int | None, channel_id: bytes | None, complain: Complain | None
    ) -> Task:
        path = self._directory / segment_name(base)
        checkpoint = self._checkpoint
        if checkpoint is not None and next_base is not None and checkpoint.segment_base != base:
            checkpoint = None
        around = Surroundings(
            channel_id=channel_id,
            next_base=next_base,
            segment_id=self._previous_id(next_base),
            # The receipts would be handed to other processes for nothing.
            checkpoint=replace(checkpoint, producers=[]) if checkpoint is not None else None,
            live=self._report.live,
        )
        return Task(path, size_of(self._files, path), around, complain)

    def _previous_id(self, next_base: int | None) -> bytes | None:
        """The id of a segment, as the next one's header has it."""
        if next_base is None:
            return None
        try:
            handle = self._files.open(self._directory / segment_name(next_base))
            header = parse_segment_header(self._files.read(handle, HEADER_BYTES, 0))
        except OSError:
            return None
        return header.previous_segment_id if header is not None else None

    def conclude(self, outcomes: Sequence[Checked | None]) -> LogReport:
        """The report, given the outcome of each task.

        Raises:
            OSError: The directory can't be read.
        """
        report, start = self._report, self._start
        checked: list[Checked] = []
        for one in outcomes:
            if one is None:
                # Removed by a running broker, as were those before it.
                checked.clear()
            else:
                checked.append(one)
        if report.live:
            again = load_checkpoint(self._files, self._directory)
            start = max(start, again.log_start_offset if again else 0)
            checked = [one for one in checked[:-1] if one.report.end_offset > start] + checked[-1:]
        report.segments.extend(one.report for one in checked)
        _check_chain(checked)
        if self._checkpoint is not None:
            _check_against_checkpoint(report, self._checkpoint, start)
        first = report.segments[0].base_offset if report.segments else start
        report.log_start_offset = max(start, first)
        report.end_offset = report.segments[-1].end_offset if report.segments else start
        self._note_leftovers()
        return report

    def _note_leftovers(self) -> None:
        report, indexes = self._report, set(map(index_name, self._bases))
        for name in self._names:
            if name.endswith(TORN_SUFFIX):
                message = "a tail that was cut off after a crash; remove it if nothing is missed"
                report.add(NOTICE, "torn-file", message, name)
            elif name.endswith(SCRATCH_SUFFIX):
                if not report.live:
                    report.add(NOTICE, "leftover", "unfinished; the broker removes it", name)
            elif name in self._removed or (name.endswith(INDEX_SUFFIX) and name not in indexes):
                if not report.live:
                    message = "of records that were removed; the broker removes it"
                    report.add(NOTICE, "leftover", message, name)
            elif not name.endswith(INDEX_SUFFIX) and not _is_ours(name):
                report.add(NOTICE, "stray", "it is none of the broker's", name)


def load_checkpoint(
    files: Files, directory: Path, report: LogReport | None = None
) -> Checkpoint | None:
    """A log's checkpoint; None: there is none, or it is damaged, which is reported.

    Raises:
        OSError: The device fails otherwise than by unreadable sectors.
    """
    try:
        handle = files.open(directory / CHECKPOINT_NAME)
        checkpoint = Checkpoint.decode(files.read(handle, files.size(handle), 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        checkpoint = None
    if checkpoint is None and report is not None:
        message = "it is damaged; the broker does without it, and takes longer to start"
        report.add(FAULT, "checkpoint", message, CHECKPOINT_NAME)
    return checkpoint


def size_of(files: Files, path: Path) -> int:
    """A file's length in bytes; 0 if it is gone."""
    try:
        return files.size(files.open(path))
    except OSError:
        # Gone by now, or reported when it is its turn.
        return 0


def _check_chain(checked: list[Checked]) -> None:
    for before, after in itertools.pairwise(checked):
        name, end = before.report.name, before.report.end_offset
        base = after.report.base_offset
        if end != base:
            severity = DAMAGE if end < base else FAULT
            message = (
                f"{name} ends at offset {end} and this begins at {base}: a segment is missing, "
                "or an older copy"
            )
            after.report.add(severity, "gap", message, first_offset=end, next_offset=base)
        if before.header is None or after.header is None:
            continue
        if after.header.previous_segment_id not in (NO_ID, before.header.segment_id):
            message = f"it was not written after {name}: one of them was replaced"
            after.report.add(FAULT, "replaced", message)
        if after.report.frames and after.first_append_time_ns < before.last_append_time_ns:
            message = f"its first frame is older than the last one of {name}"
            after.report.add(FAULT, "time", message)


def _check_against_checkpoint(report: LogReport, checkpoint: Checkpoint, start: int) -> None:
    segments = report.segments
    durable = checkpoint.durable_offset
    if not segments:
        if durable > start:
            message = f"all segments are missing; offsets up to {durable} were stored"
            report.add(DAMAGE, "segments-missing", message, first_offset=start, next_offset=durable)
        return
    first, last = segments[0].base_offset, segments[-1]
    if first > start:
        message = (
            f"the oldest segment begins at offset {first}, but the log begins at {start}: "
            "a segment is missing"
        )
        report.add(DAMAGE, "segments-missing", message, first_offset=start, next_offset=first)
    if checkpoint.segment_base > last.base_offset:
        end = last.end_offset
        message = f"segment {segment_name(checkpoint.segment_base)} is missing"
        report.add(
            DAMAGE,
            "segments-missing",
            message,
            first_offset=end,
            next_offset=max(end, durable),
        )


def _is_ours(name: str) -> bool:
    return name in (CHECKPOINT_NAME, CHANNEL_NAME) or parse_segment_name(name) is not None
