"""Backing a data directory up, and putting it back."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from mq.errors import DataDirError
from mq.log.backup.backup import BackupReport, back_up
from mq.log.backup.manifest import MANIFEST_NAME, read_manifest
from mq.log.backup.restore import restore
from mq.log.files import Files, Handle
from mq.log.format import HEADER_BYTES
from mq.log.layout import journal_id
from mq.log.log import Log
from mq.log.verify import verify_data_dir
from tests.log.batches import (
    CHANNEL,
    FAST_FILES,
    UnsyncedFiles,
    append,
    batch,
    fill,
    numbered,
    open_log,
    read_all,
)
from tests.log.breaking import flip, overwrite, read_past_damage
from tests.log.repairing import FRAME_BYTES, SEGMENT_BYTES, channel_of, make, new_data_dir, tree
from tests.log.seams import Buffers, Killed, KillingFiles


class NoLinks(UnsyncedFiles):
    """Another file system."""

    def link(self, source: Path, target: Path) -> None:
        """See `Files`."""
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


class KillingBackup(KillingFiles):
    """Also at the calls that only a backup makes."""

    def link(self, source: Path, target: Path) -> None:
        """See `Files`."""
        self._call()
        super().link(source, target)

    def rmdir(self, path: Path) -> None:
        """See `Files`."""
        self._call()
        super().rmdir(path)


def run(
    source: Path, destination: Path, *, previous: Path | None = None, files: Files = FAST_FILES
) -> BackupReport:
    """Make a backup."""
    return back_up(source, destination, previous=previous, clock=lambda: 1, files=files)


def live(path: Path) -> Log:
    """The channel's log, as a broker has it open."""
    return open_log(channel_of(path), segment_bytes=SEGMENT_BYTES)


def data_of(backup: Path) -> Path:
    """Where a backup's data is."""
    return backup / read_manifest(FAST_FILES, backup).tree


def restored(backup: Path, to: Path) -> Log:
    """The log of the channel, put back: sound, and without sharing a file."""
    restore(backup, to, files=FAST_FILES)
    report = verify_data_dir(to)
    assert report.ok, list(report.lines())
    assert all(p.stat().st_nlink == 1 for p in to.rglob("*") if p.is_file())
    log = live(to)
    assert log.notices == []
    return log


def check(backup: Path, to: Path, start: int, durable: int) -> int:
    """It has everything from ``start`` to ``durable``, perhaps more, and takes appends."""
    log = restored(backup, to)
    assert log.log_start_offset <= start
    assert durable <= log.durable_offset
    records = read_all(log, log.log_start_offset)
    assert [r.content for r in records] == numbered(log.log_start_offset, len(records))
    assert append(log) == log.log_start_offset + len(records)
    log.close()
    return len(records)


@pytest.fixture
def source(ram_path: Path) -> Path:
    """A data directory with a channel."""
    return new_data_dir(ram_path / "data")


@pytest.mark.parametrize("files", (FAST_FILES, NoLinks()), ids=("linked", "copied"))
def test_a_running_log_is_backed_up(source: Path, ram_path: Path, files: Files) -> None:
    """Sealed segments are linked where that can be, never the active one; all of it is there."""
    log = live(source)
    fill(log, 60)
    report = run(source, ram_path / "b", files=files)
    assert report.ok
    assert (report.counts.linked_bytes > 0) == (files is FAST_FILES)
    active = log.segments[-1].path
    assert active.stat().st_nlink == 1
    assert not data_of(ram_path / "b").joinpath("quarantine").exists()
    before = tree(data_of(ram_path / "b"))
    assert check(ram_path / "b", ram_path / "r", 0, 180) == 180
    fill(log, 30)
    assert tree(data_of(ram_path / "b")) == before
    assert verify_data_dir(data_of(ram_path / "b")).ok


def test_an_empty_channel_is_backed_up(source: Path, ram_path: Path) -> None:
    """There is nothing in it, and it can be used."""
    channel_of(source).mkdir(exist_ok=True)
    assert run(source, ram_path / "b").channels == 1
    assert check(ram_path / "b", ram_path / "r", 0, 0) == 0


def test_only_what_is_new_is_copied(source: Path, ram_path: Path) -> None:
    """From the backup at the same place, and from another; the old one goes at the end."""
    files = NoLinks()
    log = live(source)
    fill(log, 200)
    first = run(source, ram_path / "b", files=files)
    fill(log, 20)

    def same_place(path: Path) -> BackupReport:
        return run(source, path)

    again = same_place(ram_path / "b")
    assert again.counts.kept_bytes > first.counts.copied_bytes / 2
    assert again.counts.copied_bytes < first.counts.copied_bytes / 4
    assert sorted(p.name for p in (ram_path / "b").glob("data-*")) == ["data-2"]
    other = run(source, ram_path / "c", previous=ram_path / "b")
    assert other.counts.kept_bytes >= again.counts.kept_bytes
    check(ram_path / "c", ram_path / "r", 0, 660)


def test_retention_between_backups_is_followed(source: Path, ram_path: Path) -> None:
    """What is gone from the source is gone from the next backup, and offsets go on."""
    log = live(source)
    fill(log, 60)
    run(source, ram_path / "b")
    log.trim(100)
    run(source, ram_path / "b")
    made = restored(ram_path / "b", ram_path / "r")
    assert made.log_start_offset == log.log_start_offset > 0
    assert made.durable_offset == 180


class Meddling(UnsyncedFiles):
    """Lets a broker go on at one call of the backup, counted over all."""

    def __init__(self, when: int, meddle: object) -> None:
        self.calls = 0
        self.when = when
        self.meddle = meddle

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.when and callable(self.meddle):
            self.meddle()

    def open(self, path: Path, *, write: bool = False) -> Handle:
        """See `Files`."""
        self._count()
        return super().open(path, write=write)

    def list(self, path: Path) -> list[str]:
        """See `Files`."""
        self._count()
        return super().list(path)

    def link(self, source: Path, target: Path) -> None:
        """See `Files`."""
        self._count()
        super().link(source, target)

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """See `Files`."""
        self._count()
        return super().read(handle, length, position)


@pytest.mark.parametrize("kind", ("append", "roll", "trim", "all"))
def test_whatever_happens_at_any_call(ram_path: Path, kind: str) -> None:
    """What was durable at the beginning is there, unless retention has removed it since."""
    template = new_data_dir(ram_path / "template")
    make(template, 30, clean=False)
    for when in itertools.count(1, 3):
        source, backup, to = ram_path / "s", ram_path / "b", ram_path / "r"
        shutil.copytree(template, source)
        log = live(source)
        start, durable = log.log_start_offset, log.durable_offset

        def meddle(log: Log = log) -> None:
            if kind in ("append", "all"):
                fill(log, 2)
            if kind in ("roll", "all"):
                log.roll_aged(0)
                fill(log, 1)
            if kind in ("trim", "all"):
                log.roll_aged(0)
                fill(log, 1)
                log.trim(log.durable_offset - 1)
            log.plan_checkpoint()()

        files = Meddling(when, meddle)
        assert run(source, backup, files=files).ok
        check(backup, to, max(start, log.log_start_offset), durable)
        log.abandon()
        for path in (source, backup, to):
            shutil.rmtree(path)
        if files.calls < when:
            break


def test_a_journal_is_never_ahead_of_its_channel(ram_path: Path) -> None:
    """Whenever messages come and are acknowledged, a backup has what it has acknowledged."""
    source, backup = new_data_dir(ram_path / "s"), ram_path / "b"
    log = live(source)
    journal_path = source / "groups" / CHANNEL.hex()
    journal_path.mkdir(parents=True)
    journal = Log(journal_path, journal_id(CHANNEL), segment_bytes=SEGMENT_BYTES, files=FAST_FILES)

    def go_on() -> None:
        fill(log, 1)
        journal.append([batch(b"E\1\0\0\0%d" % log.durable_offset)])
        journal.sync()

    go_on()
    for when in itertools.count(1, 2):
        acknowledged = log.durable_offset
        files = Meddling(when, go_on)
        report = run(source, backup, files=files)
        assert (report.channels, report.journals, report.findings) == (1, 1, [])
        copied = data_of(backup)
        again = open_log(copied / "channels" / CHANNEL.hex(), segment_bytes=SEGMENT_BYTES)
        entries = Log(copied / "groups" / CHANNEL.hex(), journal_id(CHANNEL), files=FAST_FILES)
        (*_, last) = read_all(entries)
        assert acknowledged <= int(last.content[5:]) <= again.durable_offset
        for each in (again, entries):
            each.abandon()
        if files.calls < when:
            break


def test_a_journal_without_its_channel_is_left_out(source: Path, ram_path: Path) -> None:
    """The channel was deleted meanwhile: its groups could not be used."""
    make(source, 5)
    lonely = source / "groups" / ("ab" * 16)
    lonely.mkdir(parents=True)
    report = run(source, ram_path / "b")
    assert (report.channels, report.journals) == (1, 0)
    assert list((data_of(ram_path / "b") / "groups").iterdir()) == []


def test_random_histories(ram_path: Path) -> None:
    """Backups of a log at all stages of its life, one after another into the same place."""
    chance = random.Random(7)
    source, backup = new_data_dir(ram_path / "data"), ram_path / "b"
    log = live(source)
    for number in range(40):
        for _ in range(chance.randrange(25)):
            append(log, chance.randrange(1, 6), chance.choice((5, 50, 500)))
        what = chance.choice(("sync", "roll", "trim", "checkpoint", "reopen", "nothing"))
        log.sync()
        durable = log.durable_offset
        if what == "roll":
            log.roll_aged(0)
        elif what == "trim":
            log.trim(chance.randrange(log.log_start_offset, durable + 1))
        elif what == "checkpoint":
            log.plan_checkpoint()()
        elif what == "reopen":
            log.close()
            log = live(source)
        assert run(source, backup).ok
        to = ram_path / f"r{number}"
        made = restored(backup, to)
        assert (made.log_start_offset, made.durable_offset) == (log.log_start_offset, durable)
        found = [r.content for r in read_all(made, made.log_start_offset)]
        assert found == [r.content for r in read_all(log, log.log_start_offset)]
        shutil.rmtree(to)


@pytest.mark.parametrize("second", (False, True), ids=("first", "second"))
def test_interrupted_at_each_call(ram_path: Path, second: bool) -> None:
    """There is the old backup or none, never half a one; the next run makes it complete."""
    source = new_data_dir(ram_path / "data")
    make(source, 25, clean=False)
    log = live(source)
    template = ram_path / "template"
    template.mkdir()
    if second:
        run(source, template)
        fill(log, 25)
    before = log.durable_offset
    for when in itertools.count(1):
        backup = ram_path / "b"
        shutil.copytree(template, backup)
        try:
            run(source, backup, files=KillingBackup(when))
        except Killed:
            done = False
        else:
            done = True
        if second:
            check(backup, ram_path / "old", 0, 75)
            shutil.rmtree(ram_path / "old")
        elif not (backup / MANIFEST_NAME).exists():
            with pytest.raises(DataDirError, match="no complete backup"):
                restore(backup, ram_path / "none", files=FAST_FILES)
        run(source, backup)
        check(backup, ram_path / "r", 0, before)
        assert len(list(backup.glob("data-*"))) == 1
        for path in (backup, ram_path / "r"):
            shutil.rmtree(path)
        if done:
            break
    assert when > 5


class FullFiles(NoLinks):
    """A disk that is full at the n-th write."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(handle.path))
        return super().write(handle, buffers, position)


def test_a_full_disk_leaves_the_backup_before(source: Path, ram_path: Path) -> None:
    """It says so, and goes on from there once there is room."""
    log = live(source)
    fill(log, 30)
    run(source, ram_path / "b", files=NoLinks())
    fill(log, 60)
    with pytest.raises(OSError, match="No space"):
        run(source, ram_path / "b", files=FullFiles(5))
    check(ram_path / "b", ram_path / "r", 0, 90)
    assert run(source, ram_path / "b", files=NoLinks()).ok
    check(ram_path / "b", ram_path / "r2", 0, 270)


def test_a_torn_tail_is_left_out(source: Path, ram_path: Path) -> None:
    """Nobody was told of it; the backup ends at a frame's end, with zeros behind it."""
    segments = make(source, 3, clean=False)
    overwrite(segments[-1], HEADER_BYTES + 3 * FRAME_BYTES, b"half a frame")
    assert run(source, ram_path / "b").ok
    assert check(ram_path / "b", ram_path / "r", 0, 9) == 9


def test_damage_in_the_source_is_told_and_kept(source: Path, ram_path: Path) -> None:
    """The backup is complete and not sound; its neighbours can be read after a restore."""
    segments = make(source, 60)
    flip(segments[0], (HEADER_BYTES + FRAME_BYTES - 20) * 8)
    report = run(source, ram_path / "b", files=NoLinks())
    assert [f.kind for f in report.findings] == ["records"]
    assert not restore(ram_path / "b", ram_path / "r", files=FAST_FILES).ok
    found, lost = read_past_damage(live(ram_path / "r"))
    assert lost == {0, 1, 2}
    assert set(found) == set(range(3, 180))
    # What is damaged is not taken from an earlier backup, as it may be repaired by now.
    assert not run(source, ram_path / "b", files=NoLinks()).ok


def test_a_missing_segment_is_missed_after_a_restore(source: Path, ram_path: Path) -> None:
    """What is left is there, and nothing looks whole that is not."""
    segments = make(source, 60)
    segments[1].unlink()
    assert not run(source, ram_path / "b").ok
    restore(ram_path / "b", ram_path / "r", files=FAST_FILES)
    assert not verify_data_dir(ram_path / "r").ok


class BadCopies(NoLinks):
    """A device that stores another byte than it was given, so often."""

    def __init__(self, times: int) -> None:
        self.times = times

    def write(self, handle: Handle, buffers: Buffers, position: int) -> int:
        """See `Files`."""
        done = super().write(handle, buffers, position)
        if handle.path.suffix == ".seg" and position == 0 and self.times > 0:
            self.times -= 1
            flip(handle.path, (HEADER_BYTES + 40) * 8)
        return done


def test_a_copy_that_is_not_the_original_is_found(source: Path, ram_path: Path) -> None:
    """Made once more; a device that does it again is not used."""
    make(source, 10)
    assert run(source, ram_path / "b", files=BadCopies(1)).ok
    check(ram_path / "b", ram_path / "r", 0, 30)
    with pytest.raises(DataDirError, match="can't be relied on"):
        run(source, ram_path / "c", files=BadCopies(2))
    assert not (ram_path / "c" / MANIFEST_NAME).exists()


def test_directories_that_cannot_be_used(source: Path, ram_path: Path) -> None:
    """Each is told with its reason, and nothing is written."""
    make(source, 5)
    full = ram_path / "full"
    full.mkdir()
    (full / "letter").touch()
    for destination, why in (
        (source, "one another"),
        (source / "b", "one another"),
        (ram_path, "one another"),
        (full, "is no backup"),
        (full / "letter", "is not a directory"),
        (ram_path / "no" / "b", "no directory .*/no to make b in"),
    ):
        with pytest.raises(DataDirError, match=why):
            run(source, destination)
    with pytest.raises(DataDirError, match="not an mq data directory"):
        run(full, ram_path / "b")
    with pytest.raises(DataDirError, match="no complete backup"):
        run(source, ram_path / "b", previous=full)
    assert sorted(p.name for p in full.iterdir()) == ["letter"]
    run(source, ram_path / "b")
    other = new_data_dir(ram_path / "other")
    (other / "format.json").write_text('{"format": 1, "id": "y"}\n')
    with pytest.raises(DataDirError, match="another data directory"):
        run(other, ram_path / "b")
    with pytest.raises(DataDirError, match=r"is a backup.*/b/data-1"):
        run(ram_path / "b", ram_path / "of-a-backup")
    lock = FAST_FILES.lock(ram_path / "b" / "backup.lock")
    with pytest.raises(DataDirError, match="is running"):
        run(source, ram_path / "b")
    del lock


def test_a_restore_needs_an_empty_directory_and_a_sound_backup(
    source: Path, ram_path: Path
) -> None:
    """It never writes over anything, and a broker takes nothing of a half-made one."""
    make(source, 60)
    run(source, ram_path / "b", files=NoLinks())
    with pytest.raises(DataDirError, match="has files in it"):
        restore(ram_path / "b", source, files=FAST_FILES)
    with pytest.raises(DataDirError, match=r"no directory .*/no to make r in"):
        restore(ram_path / "b", ram_path / "no" / "r", files=FAST_FILES)
    with pytest.raises(DataDirError, match="is not a directory"):
        restore(ram_path / "b", ram_path / "b" / "manifest.json", files=FAST_FILES)
    data = data_of(ram_path / "b")
    victim = max(data.rglob("*.seg"))
    flip(victim, (HEADER_BYTES + 40) * 8)
    with pytest.raises(DataDirError, match="is damaged"):
        restore(ram_path / "b", ram_path / "r", files=FAST_FILES)
    assert not (ram_path / "r" / "format.json").exists()
    victim.unlink()
    with pytest.raises(DataDirError, match="is missing"):
        restore(ram_path / "b", ram_path / "r2", files=FAST_FILES)


@pytest.mark.parametrize(
    "name", ("../x", "/etc/x", "channels/../../x", "channels/x/channel.json", "mq.lock")
)
def test_a_manifest_names_nothing_outside(source: Path, ram_path: Path, name: str) -> None:
    """Whoever wrote it: only files of a data directory are read or made."""
    make(source, 2)
    run(source, ram_path / "b")
    made = read_manifest(FAST_FILES, ram_path / "b")
    made.files[name] = made.files["format.json"]
    (ram_path / "b" / MANIFEST_NAME).write_bytes(made.encode())
    with pytest.raises(DataDirError, match="can't be used"):
        restore(ram_path / "b", ram_path / "r", files=FAST_FILES)
    assert not (ram_path / "r").exists()


def test_every_bit_of_a_manifest_matters(source: Path, ram_path: Path) -> None:
    """A damaged one is refused, not believed."""
    make(source, 2)
    run(source, ram_path / "b")
    path = ram_path / "b" / MANIFEST_NAME
    whole = path.read_bytes()
    parsed = json.loads(whole)
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        try:
            made = read_manifest(FAST_FILES, ram_path / "b")
        except DataDirError:
            continue
        assert json.loads(made.encode()) == parsed
