"""Opening a channel's directory: which files there are, and whether they fit together.

Read-only until everything has been judged; a directory that is refused is left
exactly as it was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mq.errors import ChannelFailed
from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentHeader,
    parse_segment_footer,
    parse_segment_header,
)
from mq.log.files import Files, Handle
from mq.log.format import (
    CHECKPOINT_NAME,
    FOOTER_BYTES,
    FORMAT_VERSION,
    HEADER_BYTES,
    NO_ID,
    parse_segment_name,
)
from mq.log.frames import segment_seed
from mq.log.index import SparseIndex
from mq.log.recovery import Tail, scan_tail
from mq.log.segment import Bound, Segment


@dataclass
class Found:
    """A channel's files, judged sound enough to open."""

    segments: list[Segment]
    checkpoint: Checkpoint | None
    # Of the last segment, if it is not sealed: what a scan of its end found, and
    # the index of what lies before.
    tail: Tail | None = None
    index: SparseIndex = field(default_factory=SparseIndex)
    notices: list[str] = field(default_factory=list)


def load_checkpoint(files: Files, directory: Path) -> Checkpoint | None:
    """The directory's checkpoint, or None if there is none that can be used."""
    try:
        handle = files.open(directory / CHECKPOINT_NAME)
    except FileNotFoundError:
        return None
    return Checkpoint.decode(files.read(handle, files.size(handle), 0))


def inspect(files: Files, directory: Path, channel_id: bytes) -> Found:
    """Find the channel's segments and check that they follow each other.

    Raises:
        ChannelFailed: A file is missing, foreign, out of order, or of a newer format.
        OSError: The device can't be read.
    """
    checkpoint = load_checkpoint(files, directory)
    bases = [b for b in map(parse_segment_name, files.list(directory)) if b is not None]
    found = Found([], checkpoint)
    for base in sorted(bases):
        last = base == max(bases)
        found.segments.append(_load_segment(files, directory, base, channel_id, found, last))
    _check_chain(found)
    _check_against_checkpoint(found)
    if found.segments and not found.segments[-1].sealed:
        _scan_last(files, found)
    return found


def _refuse(what: str) -> ChannelFailed:
    return ChannelFailed(
        f"{what}; nothing was changed. Restore the file from a backup, or inspect the channel "
        "with `mq verify`"
    )


def _load_segment(
    files: Files, directory: Path, base: int, channel_id: bytes, found: Found, last: bool
) -> Segment:
    path = directory / f"{base:020d}.seg"
    handle = files.open(path)
    size = files.size(handle)
    header = parse_segment_header(files.read(handle, HEADER_BYTES, 0))
    footer = parse_segment_footer(files.read(handle, FOOTER_BYTES, max(0, size - FOOTER_BYTES)))
    if header is None:
        header = _header_from_elsewhere(base, size, channel_id, footer and footer.segment_id, found)
        if header is None:
            raise _refuse(f"the header of segment {path.name} is damaged")
        found.notices.append(f"the header of segment {path.name} is damaged; its id was recovered")
    if header.format_version > FORMAT_VERSION:
        raise _refuse(
            f"segment {path.name} has format {header.format_version}, "
            f"this version of mq reads up to {FORMAT_VERSION}: upgrade mq"
        )
    if header.channel_id != channel_id:
        raise _refuse(f"segment {path.name} belongs to another channel")
    if header.base_offset != base:
        raise _refuse(f"segment {path.name} holds offsets from {header.base_offset}")
    if header.capacity_bytes != size:
        raise _refuse(
            f"segment {path.name} is {size} bytes long and should be {header.capacity_bytes}"
        )
    segment = Segment(path, header)
    if footer is not None and footer.segment_id == header.segment_id:
        segment.seal(footer)
    elif not last:
        _seal_by_scan(files, handle, segment, found)
    return segment


def _header_from_elsewhere(
    base: int, size: int, channel_id: bytes, footer_id: bytes | None, found: Found
) -> SegmentHeader | None:
    """A stand-in for a damaged header: the id is also in the footer and the checkpoint."""
    segment_id = footer_id
    if segment_id is None and found.checkpoint and found.checkpoint.segment_base == base:
        segment_id = bytes.fromhex(found.checkpoint.segment_id)
    if segment_id is None:
        return None
    previous = found.segments[-1].segment_id if found.segments else NO_ID
    return SegmentHeader(base, size, 0, channel_id, segment_id, previous)


def _seal_by_scan(files: Files, handle: Handle, segment: Segment, found: Found) -> None:
    """A segment followed by another was sealed; its footer is damaged, so read it all."""
    data = files.read(handle, segment.capacity_bytes - HEADER_BYTES - FOOTER_BYTES, HEADER_BYTES)
    seed = segment_seed(segment.segment_id)
    tail = scan_tail(data, HEADER_BYTES, seed, segment.base_offset, 0, 0)
    segment.end = tail.end
    segment.frame_count = len(tail.frames)
    segment.last_append_time_ns = tail.last_append_time_ns
    segment.sealed = True
    found.notices.append(f"the footer of segment {segment.path.name} is damaged; it was read whole")


def _check_chain(found: Found) -> None:
    for before, after in zip(found.segments, found.segments[1:], strict=False):
        if before.end.offset != after.base_offset:
            raise _refuse(
                f"segment {before.path.name} ends at offset {before.end.offset} and the next, "
                f"{after.path.name}, begins at {after.base_offset}: a segment is missing or old"
            )
        if after.previous_segment_id != before.segment_id:
            raise _refuse(
                f"segment {after.path.name} was not written after {before.path.name}: "
                "one of them was replaced"
            )


def _check_against_checkpoint(found: Found) -> None:
    checkpoint, segments = found.checkpoint, found.segments
    if checkpoint is None:
        return
    if not segments:
        if checkpoint.durable_offset > checkpoint.log_start_offset:
            raise _refuse(
                f"all segments are missing; offsets up to {checkpoint.durable_offset} were stored"
            )
        return
    if segments[0].base_offset > checkpoint.log_start_offset:
        raise _refuse(
            f"the oldest segment begins at offset {segments[0].base_offset}, but the log "
            f"begins at {checkpoint.log_start_offset}: a segment is missing"
        )
    if checkpoint.segment_base > segments[-1].base_offset:
        raise _refuse(f"segment {checkpoint.segment_base:020d}.seg is missing")


def _scan_last(files: Files, found: Found) -> None:
    """Scan the active segment from just before the checkpoint, or from its beginning."""
    segment, checkpoint = found.segments[-1], found.checkpoint
    start = Bound(segment.base_offset, HEADER_BYTES)
    time_ns = found.segments[-2].last_append_time_ns if len(found.segments) > 1 else 0
    durable = segment.base_offset
    if checkpoint is not None:
        durable = max(durable, checkpoint.durable_offset)
        if checkpoint.segment_id == segment.segment_id.hex():
            index = segment.read_index(files)
            if index is not None and index.count >= checkpoint.index_count > 0:
                # From the last entry, not from the checkpoint itself: an older
                # copy of the file, put back, ends before it.
                last = checkpoint.index_count - 1
                start = Bound(index.base_offset(last), index.position(last))
                time_ns = index.append_time_ns(last)
                found.index = index.truncated(start.position)
        elif checkpoint.segment_base == segment.base_offset:
            raise _refuse(f"segment {segment.path.name} is not the one that was written last")
    handle = files.open(segment.path, write=True)
    # A killed process leaves pages that are written but not synced, and a failed
    # sync leaves pages that only look clean: sync, drop them, ask the device.
    files.sync_data(handle)
    files.forget(handle)
    end = min(files.data_end(handle, start.position), segment.capacity_bytes - FOOTER_BYTES)
    data = files.read(handle, max(0, end - start.position), start.position)
    seed = segment_seed(segment.segment_id)
    found.tail = scan_tail(data, start.position, seed, start.offset, time_ns, durable)
