"""The end of a log that is being written to: what of it a backup takes.

A read beside a writer is not of one instant: it can miss a frame and see the
one after it, which looks like damage. So the segment is read twice. The first
time finds the last sound frame: all before it was written by then, and so was
all that was acknowledged before. What the second time reads up to there stands
still.
"""

from __future__ import annotations

from pathlib import Path

from mq.log.backup.transfer import copy_file
from mq.log.checkpoint import Checkpoint
from mq.log.ends import read_ends
from mq.log.files import Files
from mq.log.filewalk import FileReader, walk_file
from mq.log.format import FRAME_HEADER_BYTES, HEADER_BYTES, SEAL_BYTES
from mq.log.frames import segment_seed
from mq.log.walk import OFFSET_MAX, Bound


def copy_tail(files: Files, source: Path, target: Path, known: Checkpoint | None) -> int:
    """Copy a segment that is not sealed, up to the end of its last sound frame.

    All that is copied is durable in the source by then: it is synced in between.

    Args:
        files: The seam.
        source: The segment; a broker may be writing to it.
        target: The copy.
        known: The log's checkpoint, read before.

    Returns:
        How many bytes were copied; zeros follow them.

    Raises:
        DataDirError: It is of another format.
        OSError: It is gone, or can't be read, or the copy not written.
    """
    end = _find_end(files, source, known)
    files.sync_data(files.open(source))
    return copy_file(files, source, target, end)


def _find_end(files: Files, source: Path, known: Checkpoint | None) -> int | None:
    """Where the last sound frame ends; None: that can't be said, as of a damaged header."""
    handle = files.open(source)
    reader = FileReader(files, handle)
    header, _, capacity = read_ends(reader, files.size(handle))
    if header is None:
        return None
    end = HEADER_BYTES
    if known is not None and known.segment_id == header.segment_id.hex():
        end = max(end, known.position)
    data_end = min(files.data_end(handle, HEADER_BYTES), capacity - SEAL_BYTES)
    limit = min(capacity, max(HEADER_BYTES, data_end) + FRAME_HEADER_BYTES)
    start = Bound(header.base_offset, HEADER_BYTES)
    steps = walk_file(reader, start, Bound(OFFSET_MAX, limit), segment_seed(header.segment_id))
    for frame, damage in steps:
        if frame is not None and (damage is None or damage.marked):
            end = max(end, frame.end)
    return end
