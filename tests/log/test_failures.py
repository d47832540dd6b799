"""Every call that changes the disk fails, one after another, once and for good.

No false acknowledgement, no record that no one was told of as stored by the
time its failure was answered, and after a restart the log goes on.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mq.errors import ChannelReadOnly, DiskFull, MQError, SequenceGap
from mq.log.format import HEADER_BYTES
from mq.log.log import Log
from tests.log.batches import batch, content_at, files_in, open_log, read_all
from tests.log.seams import FailingFiles, FullDiskFiles

SEGMENT_BYTES = 4096


@dataclass
class Ledger:
    """What the publishers were told."""

    # By offset; what was acknowledged, and what no answer was given for.
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    unknown: dict[int, bytes] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    errors: list[MQError] = field(default_factory=list)
    # Of the producer's next batch.
    sequence: int = 0


def publish(log: Log, ledger: Ledger, serial: int) -> None:
    """Append a group of two batches by one producer, and sync."""
    batches, contents = [], []
    for part in range(2):
        made = [content_at(100 * serial + 10 * part + n, 350, b"c") for n in range(1 + serial % 3)]
        contents.append(made)
        batches.append(batch(*made, producer_id=7, sequence=ledger.sequence + part))
    written: dict[int, bytes] = {}
    for made, outcome in zip(contents, log.append(batches), strict=True):
        if isinstance(outcome, MQError):
            ledger.errors.append(outcome)
            ledger.refused.update(made)
        else:
            ledger.sequence += 1
            written.update({outcome.base_offset + n: each for n, each in enumerate(made)})
    try:
        log.sync()
    except MQError as error:
        ledger.errors.append(error)
        ledger.unknown.update(written)
    else:
        ledger.acknowledged.update(written)


def check_readable(log: Log, ledger: Ledger) -> None:
    """All that was acknowledged is there, whatever failed meanwhile."""
    found = dict(read_all(log))
    assert {offset: found.get(offset) for offset in ledger.acknowledged} == ledger.acknowledged


def story(path: Path, files: FailingFiles, ledger: Ledger) -> None:
    """Publish, checkpoint, prepare and trim until it is over or the log has failed."""
    try:
        log = open_log(path, segment_bytes=SEGMENT_BYTES, files=files)
    except OSError:
        return
    for serial in range(10):
        publish(log, ledger, serial)
        with contextlib.suppress(OSError):
            if log.wants_prepare:
                log.prepare()
            if serial % 5 == 4:
                log.plan_checkpoint()()
    check_readable(log, ledger)
    with contextlib.suppress(OSError, ChannelReadOnly):
        log.close()


def check_reopened(path: Path, ledger: Ledger) -> None:
    """After a restart: the acknowledged, perhaps the unknown, none of the refused."""
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    assert log.read_only_reason is None
    assert log.damage == []
    records = read_all(log)
    assert [r.offset for r in records] == list(range(len(records)))
    told = {**ledger.unknown, **ledger.acknowledged}
    assert dict(records) == {offset: told.get(offset) for offset, _ in records}
    assert set(ledger.acknowledged) <= set(dict(records))
    assert ledger.refused.isdisjoint(content for _, content in records)
    (outcome,) = log.append([batch(b"goes on")])
    assert not isinstance(outcome, MQError)
    log.sync()
    assert read_all(log) == [*records, (len(records), b"goes on")]
    log.close()


def number_of_calls(path: Path) -> int:
    """How many calls the story makes that can fail."""
    files = FailingFiles(0)
    story(path, files, Ledger())
    assert {"create", "allocate", "write", "sync_data", "sync", "sync_dir", "rename", "map"} <= set(
        files.kinds
    )
    return files.calls


@pytest.mark.timeout(600)
@pytest.mark.parametrize("for_good", (False, True))
@pytest.mark.parametrize("code", (errno.EIO, errno.ENOSPC))
def test_each_call_fails(ram_path: Path, code: int, for_good: bool) -> None:
    """The oracle holds, whichever call it is."""
    calls = number_of_calls(ram_path / "counted")
    assert calls > 100
    for when in range(1, calls + 1):
        path = ram_path / str(when)
        files = FailingFiles(when, code, for_good=for_good)
        ledger = Ledger()
        story(path, files, ledger)
        check_reopened(path, ledger)
        if code == errno.EIO:
            assert not any(isinstance(error, DiskFull) for error in ledger.errors)


def publish_until_full(log: Log, ledger: Ledger, serial: int) -> int:
    """Publish until it is refused for lack of room; the serial to go on with."""
    for _ in range(100):
        publish(log, ledger, serial)
        if ledger.errors:
            assert isinstance(ledger.errors[0], DiskFull)
            # Of the two of a group, the second comes after one that is not there.
            assert all(isinstance(e, DiskFull | SequenceGap) for e in ledger.errors)
            assert log.read_only_reason is None
            return serial
        serial += 1
    raise AssertionError("the disk was never full")


@pytest.mark.parametrize("before", range(9))
def test_a_full_disk_is_no_end(ram_path: Path, before: int) -> None:
    """Publishing is refused and goes on by itself once there is room; reads go on all along."""
    files, ledger = FullDiskFiles(), Ledger()
    path = ram_path / "log"
    log = open_log(path, segment_bytes=SEGMENT_BYTES, files=files)
    for serial in range(before):
        publish(log, ledger, serial)
    for again in range(3):
        files.full = True
        serial = publish_until_full(log, ledger, before + 100 * again)
        check_readable(log, ledger)
        with pytest.raises(OSError, match="No space"):
            log.plan_checkpoint()()
        if log.wants_prepare:
            with pytest.raises(OSError, match="No space"):
                log.prepare()
        log = open_log(path, segment_bytes=SEGMENT_BYTES, files=files)
        check_readable(log, ledger)
        files.full = False
        ledger.errors.clear()
        (outcome,) = log.append([batch(b"again %d" % again)])
        assert not isinstance(outcome, MQError)
        ledger.acknowledged[outcome.base_offset] = b"again %d" % again
        log.sync()
        assert not any(name.endswith(".tmp") for name in files_in(path))
    log.close()
    check_reopened(path, ledger)


def test_a_full_disk_keeps_the_log_from_being_closed_no_longer_than_needed(ram_path: Path) -> None:
    """A stop without room for a checkpoint says so, and costs a longer scan, no record."""
    files, ledger = FullDiskFiles(), Ledger()
    log = open_log(ram_path / "log", segment_bytes=SEGMENT_BYTES, files=files)
    publish(log, ledger, 0)
    files.full = True
    with pytest.raises(OSError, match="No space"):
        log.close()
    files.full = False
    check_reopened(ram_path / "log", ledger)


def test_a_torn_tail_waits_for_room(ram_path: Path) -> None:
    """With no room to keep it aside, the log opens, is read, and takes no appends yet."""
    files, ledger = FullDiskFiles(), Ledger()
    path = ram_path / "log"
    log = open_log(path, files=files)
    publish(log, ledger, 0)
    torn = b"torn " * 300
    segment = log.segments[-1].path
    position = log.stored_bytes + HEADER_BYTES
    with segment.open("r+b") as file:
        file.seek(position)
        file.write(torn)
    files.full = True
    log = open_log(path, files=files)
    assert "no room to keep" in log.notices[0]
    check_readable(log, ledger)
    refused = Ledger()
    publish(log, refused, 50)
    assert all(isinstance(error, DiskFull) for error in refused.errors)
    assert segment.read_bytes()[position : position + len(torn)] == torn
    files.full = False
    publish(log, ledger, 1)
    (aside,) = path.glob("*.torn")
    assert aside.read_bytes() == torn
    check_reopened(path, ledger)
