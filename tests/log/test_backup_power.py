"""A backup whose power is cut at any moment: complete, or not taken for one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from mq.log.backup.backup import back_up
from mq.log.backup.manifest import MANIFEST_NAME
from mq.log.backup.restore import restore
from mq.log.files import Files
from mq.log.verify import verify_data_dir
from tests.log.batches import FAST_FILES, fill, numbered, open_log, read_all, rounds
from tests.log.repairing import SEGMENT_BYTES, channel_of, make, new_data_dir
from tests.log.seams import Call, Names, PowerCut, RecordingFiles


class RecordingBackup(RecordingFiles):
    """Also what only a backup does."""

    def link(self, source: Path, target: Path) -> None:
        """See `Files`."""
        Files.link(self, source, target)
        inode = self._names[self._name(source)]
        self._names[self._name(target)] = inode
        self.trace.append(Names(((self._name(target), inode),)))


def run(root: Path, files: Files, *, link: bool) -> None:
    """Back up."""
    back_up(root / "data", root / "b", link=link, clock=lambda: 1, files=files)


def check(root: Path, ends: set[int]) -> int:
    """What is said to be a backup is one: it restores, is sound, and has all up to an end."""
    to = root / "r"
    restore(root / "b", to, files=FAST_FILES)
    assert verify_data_dir(to).ok
    log = open_log(channel_of(to), segment_bytes=SEGMENT_BYTES)
    assert log.notices == []
    assert log.durable_offset in ends
    assert [r.content for r in read_all(log)] == numbered(0, log.durable_offset)
    shutil.rmtree(to)
    return log.durable_offset


def names_manifest(call: Call) -> bool:
    """Whether a call makes a manifest what there is."""
    return isinstance(call, Names) and call.changes[-1][0] == f"b/{MANIFEST_NAME}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("link", (True, False), ids=("linked", "copied"))
@pytest.mark.parametrize("second", (False, True), ids=("first", "second"))
def test_the_power_goes_at_each_call(ram_path: Path, link: bool, second: bool) -> None:
    """The earlier backup, or the new one, or none; and the next run makes it complete."""
    root = ram_path / "root"
    root.mkdir()
    make(new_data_dir(root / "data"), 25, clean=False)
    if second:
        run(root, FAST_FILES, link=link)
        log = open_log(channel_of(root / "data"), segment_bytes=SEGMENT_BYTES)
        fill(log, 25)
        log.abandon()
    files = RecordingBackup(root)
    start = files.adopt(root)
    run(root, files, link=link)
    old, new = ({75}, 150) if second else (set[int](), 75)
    named = next(n for n, call in enumerate(files.trace) if n >= start and names_manifest(call))
    lengths = range(start, len(files.trace) + 1)
    for length in (n for n in lengths if n > named or n % rounds(2, 1) == 0):
        # Once there is a new manifest, all that it names has to be there already.
        for chance in range(rounds(10 if named < length < named + 4 else 1, 20)):
            cut = ram_path / "cut"
            PowerCut(files.trace[:length]).leave(cut, random.Random(f"{length} {chance}"))
            if second or (cut / "b" / MANIFEST_NAME).exists():
                check(cut, old | {new})
            run(cut, FAST_FILES, link=link)
            assert check(cut, {new}) == new
            shutil.rmtree(cut)
