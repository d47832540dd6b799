"""Sealing a segment where something around it fails."""

from __future__ import annotations

from pathlib import Path

from mq.log.format import index_name
from mq.log.verify import verify_log
from tests.log.batches import append, open_log, read_all
from tests.log.seams import FullDiskFiles


def test_no_room_for_the_index_leaves_none(ram_path: Path) -> None:
    """An index of an earlier checkpoint does not stay: it would know less than the segment holds.

    Without one the segment is read through when it is next opened.
    """
    files = FullDiskFiles()
    path = ram_path / "log"
    log = open_log(path, segment_bytes=65_536, files=files)
    append(log, 3, 9_000)
    log.sync()
    log.plan_checkpoint()()
    assert (path / index_name(0)).exists()
    append(log, 2, 9_000)
    log.sync()
    log.prepare()
    files.full = True
    append(log, 3, 9_000)
    log.sync()
    assert [segment.sealed for segment in log.segments] == [True, False]
    assert not (path / index_name(0)).exists()
    assert verify_log(path).ok
    stored = read_all(log)
    log.abandon()

    files.full = False
    again = open_log(path, segment_bytes=65_536, files=files)
    assert read_all(again) == stored
    assert (path / index_name(0)).exists()
    again.close()
    assert verify_log(path).ok
