"""Writing the hints of a log anew, once all of its segments are in order and durable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mq.log.checkpoint import Checkpoint
from mq.log.files import Files
from mq.log.format import CHECKPOINT_NAME, HEADER_BYTES, index_name
from mq.log.opening import Found, rescan, restore_producers
from mq.log.walk import Bound


def settle(
    files: Files,
    directory: Path,
    channel_id: bytes,
    known: Checkpoint | None,
    log_start_offset: int,
    end: Bound,
) -> Checkpoint:
    """Write a log's checkpoint, and the index of its last segment if that is not sealed.

    The checkpoint vouches for everything up to the log's end: what can't be
    read later is damage then, and no torn tail.

    Args:
        files: The seam.
        directory: The log's.
        channel_id: In the header of each segment.
        known: The latest checkpoint, for the producers' receipts and the time.
        log_start_offset: Where the log begins.
        end: Where the last segment's frames end, damaged ones included.

    Returns:
        The checkpoint.

    Raises:
        ChannelFailed: The segments don't fit together.
        OSError: The device fails.
    """
    found = rescan(files, directory, channel_id, log_start_offset, end)
    found.checkpoint = known
    made = Checkpoint(
        segment_base=log_start_offset,
        segment_id="",
        position=HEADER_BYTES,
        durable_offset=log_start_offset,
        last_append_time_ns=_last_append_time(found),
        log_start_offset=log_start_offset,
        index_count=0,
        frame_count=0,
        producers=restore_producers(files, found).to_json(),
    )
    if found.segments:
        last, tail = found.segments[-1], found.tail
        base, end, frame_count = last.base_offset, last.end, last.frame_count
        if tail is not None:
            end, frame_count = tail.end, len(tail.headers)
            tail.add_to(found.index, base)
            files.replace(directory / index_name(base), found.index.encode(last.segment_id))
        made = replace(
            made,
            segment_base=base,
            segment_id=last.segment_id.hex(),
            position=end.position,
            durable_offset=end.offset,
            index_count=found.index.count,
            frame_count=frame_count,
        )
    files.replace(directory / CHECKPOINT_NAME, made.encode())
    return made


def _last_append_time(found: Found) -> int:
    times = [segment.last_append_time_ns for segment in found.segments]
    if found.checkpoint is not None:
        times.append(found.checkpoint.last_append_time_ns)
    if found.tail is not None:
        times.append(found.tail.last_append_time_ns)
    return max(times, default=0)
