"""Verifying a data directory: every checksum, and whether the files fit together.

Offline and read-only: nothing is written, locked for long, or repaired. Beside
a running broker it is safe too; what that is writing is left out.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from mq.errors import DataDirError
from mq.log.checkpoint import Checkpoint
from mq.log.dump import dump_segment
from mq.log.envelope import parse_segment_header
from mq.log.files import OS_FILES, Files
from mq.log.format import (
    CHECKPOINT_NAME,
    FORMAT_VERSION,
    HEADER_BYTES,
    INDEX_SUFFIX,
    NO_ID,
    SCRATCH_SUFFIX,
    TORN_SUFFIX,
    index_name,
    parse_segment_name,
    segment_name,
)
from mq.log.report import LogReport, Report, Severity
from mq.log.segment_check import Checked, Surroundings, check_segment

__all__ = ["Report", "dump_segment", "verify_data_dir", "verify_log"]

# Told how many bytes are checked, of how many.
Progress = Callable[[int, int], None]

_FAULT, _NOTICE = Severity.FAULT, Severity.NOTICE
_LOG_DIRECTORIES = {"channels": "channel", "groups": "groups"}
_ID_DIGITS = 32
_JSON_BYTES_MAX = 1 << 20


def verify_data_dir(path: Path, progress: Progress | None = None) -> Report:
    """Check a data directory.

    Args:
        path: The directory that a broker was given.
        progress: Called now and then with the bytes checked and all bytes.

    Raises:
        DataDirError: It is no data directory, or of another format.
        OSError: It can't be read.
    """
    files = OS_FILES
    report = Report(str(path), _read_format(files, path), live=_in_use(path))
    names = _names_of_channels(files, path, report)
    found = []
    for parent, kind in _LOG_DIRECTORIES.items():
        for directory in _list(files, path / parent):
            if _is_id(directory.name) and directory.is_dir() and not directory.is_symlink():
                found.append((kind, directory))
            else:
                _note_stray(report, directory, kind)
    counter = _Counter(progress, sum(_size(files, directory) for _, directory in found))
    for kind, directory in found:
        try:
            log = verify_log(directory, kind=kind, live=report.live, advance=counter.advance)
        except FileNotFoundError:
            if not report.live:
                raise
            # A channel that was deleted meanwhile.
            continue
        log.name = names.get(directory.name)
        report.logs.append(log)
    return report


class _Counter:
    """Adds up progress."""

    def __init__(self, progress: Progress | None, total_bytes: int) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def advance(self, done_bytes: int) -> None:
        """So many more bytes are checked."""
        self._done_bytes = min(self._done_bytes + done_bytes, self._total_bytes)
        if self._progress is not None:
            self._progress(self._done_bytes, self._total_bytes)


# ---- The data directory -------------------------------------------------------


def _read_format(files: Files, path: Path) -> int:
    try:
        values = json.loads(_read(files, path / "format.json"))
        found = values["format"]
    except FileNotFoundError:
        path.stat()
        raise DataDirError(
            f"{path} is not an mq data directory (no format.json); name the one that the broker "
            "is given with --data-dir"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataDirError(
            f'{path / "format.json"} is damaged; put back {{"format": {FORMAT_VERSION}}} if this '
            "is an mq data directory of this version"
        ) from None
    if found != FORMAT_VERSION:
        raise DataDirError(
            f"{path} has format {found}, and this version of mq reads format {FORMAT_VERSION}: "
            "use the version of mq that wrote it, or a later one"
        )
    return FORMAT_VERSION


def _in_use(path: Path) -> bool:
    """Whether a broker has the directory locked. Holds the lock for an instant only."""
    try:
        with (path / "mq.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _names_of_channels(files: Files, path: Path, report: Report) -> dict[str, str]:
    names = {}
    for directory in _list(files, path / "channels"):
        if not _is_id(directory.name):
            continue
        file = f"channels/{directory.name}/channel.json"
        try:
            values = json.loads(_read(files, path / file))
            if values["id"] != directory.name:
                report.add(_FAULT, "channel-json", "it belongs to another directory", file)
            names[directory.name] = str(values["name"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if report.live and not directory.exists():
                continue
            message = f"it can't be read ({error}); the broker leaves the channel alone"
            report.add(_FAULT, "channel-json", message, file)
    return names


def _note_stray(report: Report, path: Path, kind: str) -> None:
    file = f"{path.parent.name}/{path.name}"
    if path.name.startswith((".new-", ".deleted-")):
        message = f"what was left of making or deleting a {kind}; the broker removes it"
        report.add(_NOTICE, "leftover", message, file)
    else:
        report.add(_NOTICE, "stray", "it is none of the broker's", file)


def _is_id(name: str) -> bool:
    return len(name) == _ID_DIGITS and all(c in "0123456789abcdef" for c in name)


def _list(files: Files, path: Path) -> list[Path]:
    try:
        return [path / name for name in files.list(path)]
    except FileNotFoundError:
        return []


def _read(files: Files, path: Path) -> bytes:
    return files.read(files.open(path), _JSON_BYTES_MAX, 0)


def _size(files: Files, directory: Path) -> int:
    total = 0
    for path in _list(files, directory):
        if parse_segment_name(path.name) is not None:
            try:
                total += files.size(files.open(path))
            except OSError:
                # Gone by now, or reported when it is its turn.
                continue
    return total


# ---- One log ------------------------------------------------------------------


def verify_log(
    directory: Path,
    *,
    kind: str = "channel",
    live: bool = False,
    advance: Callable[[int], None] = lambda _: None,
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
    report = LogReport(kind, directory.name, str(directory), live=live)
    channel_id = None
    if kind == "channel" and _is_id(directory.name):
        channel_id = bytes.fromhex(directory.name)
    # Before the segments: it is never ahead of what was there by then. And again
    # after the names: what a running broker removed meanwhile is not missing.
    checkpoint = _read_checkpoint(files, directory, report)
    names = files.list(directory)
    again = _read_checkpoint(files, directory, None) if live else checkpoint
    start = max(c.log_start_offset for c in (checkpoint, again) if c) if checkpoint or again else 0
    bases = sorted(b for b in map(parse_segment_name, names) if b is not None)
    removed = []
    while len(bases) > 1 and bases[1] <= start:
        removed.append(segment_name(bases.pop(0)))
    checked: list[Checked] = []
    for base, next_base in itertools.zip_longest(bases, bases[1:]):
        around = Surroundings(
            channel_id=channel_id,
            next_base=next_base,
            segment_id=_previous_id(files, directory, next_base),
            checkpoint=checkpoint,
            live=live,
        )
        try:
            one = check_segment(files, directory / segment_name(base), around, advance)
        except FileNotFoundError:
            if not live:
                raise
            # Removed by a running broker, as were those before it.
            checked.clear()
            continue
        checked.append(one)
        if channel_id is None and one.header is not None:
            channel_id = one.header.channel_id
    if live:
        again = _read_checkpoint(files, directory, None)
        start = max(start, again.log_start_offset if again else 0)
        checked = [one for one in checked[:-1] if one.report.end_offset > start] + checked[-1:]
    report.segments.extend(one.report for one in checked)
    _check_chain(checked)
    if checkpoint is not None:
        _check_against_checkpoint(report, checkpoint, start)
    first = report.segments[0].base_offset if report.segments else start
    report.log_start_offset = max(start, first)
    report.end_offset = report.segments[-1].end_offset if report.segments else start
    _note_leftovers(report, names, removed, bases)
    return report


def _read_checkpoint(files: Files, directory: Path, report: LogReport | None) -> Checkpoint | None:
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
        report.add(_FAULT, "checkpoint", message, CHECKPOINT_NAME)
    return checkpoint


def _previous_id(files: Files, directory: Path, next_base: int | None) -> bytes | None:
    """The id of a segment, as the next one's header has it."""
    if next_base is None:
        return None
    try:
        raw = files.read(files.open(directory / segment_name(next_base)), HEADER_BYTES, 0)
    except OSError:
        return None
    header = parse_segment_header(raw)
    return header.previous_segment_id if header is not None else None


def _check_chain(checked: list[Checked]) -> None:
    for before, after in itertools.pairwise(checked):
        name, end = before.report.name, before.report.end_offset
        base = after.report.base_offset
        if end != base:
            message = (
                f"{name} ends at offset {end} and this begins at {base}: a segment is missing, "
                "or an older copy"
            )
            after.report.add(_FAULT, "gap", message, first_offset=end, next_offset=base)
        if before.header is None or after.header is None:
            continue
        if after.header.previous_segment_id not in (NO_ID, before.header.segment_id):
            message = f"it was not written after {name}: one of them was replaced"
            after.report.add(_FAULT, "replaced", message)
        if after.report.frames and after.first_append_time_ns < before.last_append_time_ns:
            message = f"its first frame is older than the last one of {name}"
            after.report.add(_FAULT, "time", message)


def _check_against_checkpoint(report: LogReport, checkpoint: Checkpoint, start: int) -> None:
    segments = report.segments
    durable = checkpoint.durable_offset
    if not segments:
        if durable > start:
            message = f"all segments are missing; offsets up to {durable} were stored"
            report.add(Severity.DAMAGE, "segments-missing", message)
        return
    if segments[0].base_offset > start:
        message = (
            f"the oldest segment begins at offset {segments[0].base_offset}, but the log begins "
            f"at {start}: a segment is missing"
        )
        report.add(Severity.DAMAGE, "segments-missing", message)
    if checkpoint.segment_base > segments[-1].base_offset:
        name = segment_name(checkpoint.segment_base)
        report.add(Severity.DAMAGE, "segments-missing", f"segment {name} is missing")


def _note_leftovers(
    report: LogReport, names: list[str], removed: list[str], bases: list[int]
) -> None:
    indexes = set(map(index_name, bases))
    for name in names:
        if name.endswith(TORN_SUFFIX):
            message = "a tail that was cut off after a crash; remove it if nothing is missed"
            report.add(_NOTICE, "torn-file", message, name)
        elif name.endswith(SCRATCH_SUFFIX):
            if not report.live:
                report.add(_NOTICE, "leftover", "unfinished; the broker removes it", name)
        elif name in removed or (name.endswith(INDEX_SUFFIX) and name not in indexes):
            if not report.live:
                message = "of records that were removed; the broker removes it"
                report.add(_NOTICE, "leftover", message, name)
        elif not name.endswith(INDEX_SUFFIX) and not _is_ours(name):
            report.add(_NOTICE, "stray", "it is none of the broker's", name)


def _is_ours(name: str) -> bool:
    return name in (CHECKPOINT_NAME, "channel.json") or parse_segment_name(name) is not None
