"""A log whose files were changed is refused, or each record read is one written, at its offset.

All other offsets are told to be lost; what is refused is left as it was; and a
log that has opened goes on, and opens again the same.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mq.errors import ChannelFailed, DataDirError, MQError
from mq.log.log import Log
from mq.log.verify import verify_log
from tests.fuzz.harness import Choices, Harness, scratch
from tests.log.batches import append, batch, files_in, open_log, read_all
from tests.log.breaking import read_past_damage

_SEGMENT_BYTES = 4096
_CHANGES_MAX = 6


def run(data: bytes) -> None:
    """Change some files of a log, and open it."""
    choices = Choices(data)
    original = log_files(clean=bool(choices.below(2)))
    directory = scratch()
    try:
        files = dict(original)
        for _ in range(1 + choices.below(_CHANGES_MAX)):
            change(choices, files)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        check(directory, files)
    finally:
        shutil.rmtree(directory)


def check(directory: Path, files: dict[str, bytes]) -> None:
    """What has to hold of a directory with these files."""
    with contextlib.suppress(DataDirError):
        verify_log(directory)
    assert files_in(directory) == files, "verify has changed something"
    try:
        log = open_log(directory, segment_bytes=_SEGMENT_BYTES)
    except ChannelFailed:
        assert files_in(directory) == files, "what was refused was changed"
        return
    found = check_records(log)
    (outcome,) = log.append([batch(b"goes on")])
    if isinstance(outcome, MQError):
        assert log.read_only_reason is not None
    else:
        log.sync()
        found[outcome.base_offset] = b"goes on"
        assert log.read(outcome.base_offset, 1) is not None
    log.abandon()
    again = open_log(directory, segment_bytes=_SEGMENT_BYTES)
    after, _ = read_past_damage(again)
    assert after == found
    again.abandon()


def check_records(log: Log) -> dict[int, bytes]:
    """The records of a log that has opened; all others are told to be lost."""
    found, lost = read_past_damage(log)
    written = dict(read_original())
    assert found.items() <= written.items(), "a record that nobody wrote, or elsewhere"
    assert found.keys() | lost >= set(range(log.log_start_offset, log.durable_offset))
    assert not found.keys() & lost
    return found


def change(choices: Choices, files: dict[str, bytes]) -> None:
    """Change one file, or its name."""
    names = sorted(files)
    if not names:
        return
    name = names[choices.below(len(names))]
    content = bytearray(files[name])
    kind = choices.below(8)
    at = choices.below(len(content) + 1)
    if kind == 0:
        length = 1 + choices.below(8)
        content[at : at + length] = choices.take(length)
    elif kind == 1 and at < len(content):
        content[at] ^= 1 << choices.below(8)
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        length = 1 + choices.below(2048)
        content[at : at + length] = bytes(min(length, len(content) - at))
    elif kind == 4:
        # A part of another file, or of this one.
        other = files[names[choices.below(len(names))]]
        start, length = choices.below(len(other) + 1), 1 + choices.below(2048)
        content[at : at + length] = other[start : start + length]
    elif kind == 5:
        del files[name]
        return
    elif kind == 6:
        target = names[choices.below(len(names))]
        files[target], files[name] = files[name], files[target]
        return
    else:
        content += choices.take(choices.below(64))
    files[name] = bytes(content)


@cache
def log_files(*, clean: bool) -> dict[str, bytes]:
    """The files of a log of a few segments, stopped in order or killed."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "log"
        log = open_log(path, segment_bytes=_SEGMENT_BYTES)
        for serial in range(9):
            append(log, 1 + serial % 3, 300)
            log.sync()
            if serial == 3:
                log.plan_checkpoint()()
        if clean:
            log.close()
        else:
            log.abandon()
        return files_in(path)


@cache
def read_original() -> tuple[tuple[int, bytes], ...]:
    """Every record of the log as it was."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        for name, content in log_files(clean=True).items():
            (path / name).write_bytes(content)
        log = open_log(path, segment_bytes=_SEGMENT_BYTES)
        records = tuple(read_all(log))
        log.abandon()
        return records


def seeds() -> list[bytes]:
    """A change of each kind."""
    return [
        bytes((clean, 0, file, kind, 200, 1, 7)) + bytes(8)
        for clean in (0, 1)
        for file in range(6)
        for kind in range(8)
    ]


HARNESS = Harness("recovery", run, seeds)
