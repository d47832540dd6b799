"""Opening a channel's directory: which files there are, and whether they fit together.

Read-only until everything has been judged; a directory that is refused is left
exactly as it was found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mq.errors import ChannelFailed
from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    parse_segment_footer,
    parse_segment_header,
)
from mq.log.files import Files, Handle
from mq.log.format import (
    CHECKPOINT_NAME,
    FOOTER_BYTES,
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    INDEX_SUFFIX,
    NO_ID,
    SCRATCH_SUFFIX,
    SEAL_BYTES,
    index_name,
    parse_segment_name,
    segment_name,
)
from mq.log.frames import Frame
from mq.log.index import SparseIndex
from mq.log.producers import Producers, Receipt
from mq.log.recovery import Tail, padding_begin, scan_tail
from mq.log.segment import Segment
from mq.log.walk import Bound, walk


@dataclass
class Found:
    """A channel's files, judged sound enough to open."""

    segments: list[Segment]
    checkpoint: Checkpoint | None
    # Of the last segment, if it is not sealed: what a scan of its end found, and
    # the index of what lies before.
    tail: Tail | None = None
    index: SparseIndex = field(default_factory=SparseIndex)
    # Zeros at the end of its file are missing.
    shortened: bool = False
    # Files of segments that end before the log's start, whose removal a crash cut
    # short, and what was never finished. Not looked at.
    leftovers: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def inspect(files: Files, directory: Path, channel_id: bytes) -> Found:
    """Find the channel's segments and check that they follow each other.

    Raises:
        ChannelFailed: A file is missing, foreign, out of order, or of another format.
        OSError: The device can't be read.
    """
    found = Found([], None)
    found.checkpoint = _load_checkpoint(files, directory, found)
    start = found.checkpoint.log_start_offset if found.checkpoint else 0
    _load_segments(files, directory, channel_id, found, start)
    if found.checkpoint is not None:
        _check_against_checkpoint(found.checkpoint, found.segments)
    if found.segments and not found.segments[-1].sealed:
        _scan_last(files, found)
    return found


def rescan(
    files: Files, directory: Path, channel_id: bytes, log_start_offset: int, end: Bound
) -> Found:
    """The same where the checkpoint is to be made anew: all of the last segment is read.

    Args:
        files: The seam.
        directory: The log's.
        channel_id: In the header of each segment.
        log_start_offset: Where the log begins.
        end: Where the last segment's frames end, damaged ones included.

    Raises:
        ChannelFailed: The files don't fit together.
        OSError: The device can't be read.
    """
    found = Found([], None)
    _load_segments(files, directory, channel_id, found, log_start_offset)
    if found.segments and not found.segments[-1].sealed:
        _scan_last(files, found, end)
    return found


def _load_segments(
    files: Files, directory: Path, channel_id: bytes, found: Found, log_start_offset: int
) -> None:
    names = files.list(directory)
    bases = sorted(b for b in map(parse_segment_name, names) if b is not None)
    # Of several that were to be removed, a crash may have left any.
    while len(bases) > 1 and bases[1] <= log_start_offset:
        found.leftovers.append(segment_name(bases.pop(0)))
    used = set(map(index_name, bases))
    for name in names:
        if name.endswith(SCRATCH_SUFFIX) or (name.endswith(INDEX_SUFFIX) and name not in used):
            found.leftovers.append(name)
    for base, next_base in itertools.zip_longest(bases, bases[1:]):
        segment = _load_segment(files, directory / segment_name(base), channel_id, found, next_base)
        found.segments.append(segment)
    _check_chain(found)


def _refuse(what: str) -> ChannelFailed:
    return ChannelFailed(
        f"{what}; nothing was changed. Restore the file from a backup, or inspect the channel "
        "with `mq verify`"
    )


def _load_checkpoint(files: Files, directory: Path, found: Found) -> Checkpoint | None:
    try:
        handle = files.open(directory / CHECKPOINT_NAME)
        checkpoint = Checkpoint.decode(files.read(handle, files.size(handle), 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        found.notices.append(f"the checkpoint can't be read ({error}); all was scanned")
        return None
    if checkpoint is None:
        found.notices.append("the checkpoint is damaged; all was scanned")
    return checkpoint


# ---- Segments -----------------------------------------------------------------


def _load_segment(
    files: Files, path: Path, channel_id: bytes, found: Found, next_base: int | None
) -> Segment:
    base = int(path.stem)
    handle = files.open(path)
    size = files.size(handle)
    header = parse_segment_header(files.read(handle, HEADER_BYTES, 0))
    footer = parse_segment_footer(files.read(handle, FOOTER_BYTES, max(0, size - FOOTER_BYTES)))
    if header is None:
        header = _header_from_elsewhere(base, size, channel_id, footer, found)
        if header is None:
            raise _refuse(f"the header of segment {path.name} is damaged")
        found.notices.append(f"the header of segment {path.name} is damaged; its id was recovered")
    if header.format_version != FORMAT_VERSION:
        raise _refuse(
            f"segment {path.name} has format {header.format_version}, "
            f"this version of mq reads format {FORMAT_VERSION}: use the version that wrote it, "
            "or a later one"
        )
    if header.channel_id != channel_id:
        raise _refuse(f"segment {path.name} belongs to another channel")
    if header.base_offset != base:
        raise _refuse(f"segment {path.name} holds offsets from {header.base_offset}")
    if header.capacity_bytes < size or (header.capacity_bytes > size and next_base is not None):
        raise _refuse(_wrong_size(path, size, header.capacity_bytes))
    segment = Segment(path, header)
    if footer is not None and _belongs(footer, segment, size):
        segment.seal(footer)
    elif next_base is not None:
        _seal_by_scan(files, handle, segment, next_base, found)
    return segment


def _wrong_size(path: Path, size: int, capacity_bytes: int) -> str:
    return f"segment {path.name} is {size} bytes long and should be {capacity_bytes}"


def _belongs(footer: SegmentFooter, segment: Segment, size: int) -> bool:
    return (
        (footer.segment_id, footer.base_offset) == (segment.segment_id, segment.base_offset)
        and size == segment.capacity_bytes
        and HEADER_BYTES <= footer.end_position <= size - SEAL_BYTES
    )


def _header_from_elsewhere(
    base: int, size: int, channel_id: bytes, footer: SegmentFooter | None, found: Found
) -> SegmentHeader | None:
    """A stand-in for a damaged header: the id is also in the footer and the checkpoint."""
    checkpoint = found.checkpoint
    if footer is not None and footer.base_offset == base:
        segment_id = footer.segment_id
    elif (
        checkpoint is not None
        and checkpoint.segment_base == base
        and checkpoint.segment_id
        and size >= checkpoint.position + SEAL_BYTES
    ):
        segment_id = bytes.fromhex(checkpoint.segment_id)
    else:
        return None
    previous = found.segments[-1].segment_id if found.segments else NO_ID
    return SegmentHeader(base, size, 0, channel_id, segment_id, previous)


def _seal_by_scan(
    files: Files, handle: Handle, segment: Segment, next_base: int, found: Found
) -> None:
    """A segment followed by another was sealed; its footer is damaged, so read it all.

    All of it was durable before the next one began, so whatever can't be read
    is damage. Where it simply ends too early it is an older copy: its end does
    not meet the next one's beginning then, and the chain is refused.
    """
    capacity = segment.capacity_bytes
    data = files.read(handle, capacity - HEADER_BYTES - FOOTER_BYTES, HEADER_BYTES)
    end = Bound(next_base, padding_begin(data, HEADER_BYTES, capacity))
    tail = scan_tail(data, Bound(segment.base_offset, HEADER_BYTES), segment.seed, capacity, 0, end)
    segment.end = tail.end
    segment.frame_count = len(tail.headers)
    segment.last_append_time_ns = tail.last_append_time_ns
    segment.sealed = True
    found.notices.append(f"the footer of segment {segment.path.name} is damaged; it was read whole")
    for damage in tail.damage:
        segment.damage.add(damage)
        found.notices.append(damage.error().message)


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


def _check_against_checkpoint(checkpoint: Checkpoint, segments: list[Segment]) -> None:
    durable = checkpoint.durable_offset
    if not segments:
        if durable > checkpoint.log_start_offset:
            raise _refuse(f"all segments are missing; offsets up to {durable} were stored")
        return
    last = segments[-1]
    if segments[0].base_offset > checkpoint.log_start_offset:
        raise _refuse(
            f"the oldest segment begins at offset {segments[0].base_offset}, but the log "
            f"begins at {checkpoint.log_start_offset}: a segment is missing"
        )
    if checkpoint.segment_base > last.base_offset:
        raise _refuse(f"segment {segment_name(checkpoint.segment_base)} is missing")
    if last.sealed and durable > last.end.offset:
        raise _refuse(
            f"segment {last.path.name} ends at offset {last.end.offset}, but offsets up to "
            f"{durable} were stored: it is an older copy, or a segment is missing"
        )
    for segment in segments:
        same_base = segment.base_offset == checkpoint.segment_base
        # A log without segments has a checkpoint without a segment's id.
        if same_base and checkpoint.segment_id not in ("", segment.segment_id.hex()):
            raise _refuse(f"segment {segment.path.name} was replaced by another")


# ---- The active segment -------------------------------------------------------


def _scan_last(files: Files, found: Found, end: Bound | None = None) -> None:
    """Scan the active segment from just before the checkpoint, or from its beginning."""
    segment, checkpoint = found.segments[-1], found.checkpoint
    start = Bound(segment.base_offset, HEADER_BYTES)
    vouched = end or start
    time_ns = found.segments[-2].last_append_time_ns if len(found.segments) > 1 else 0
    if checkpoint is not None and checkpoint.segment_id != segment.segment_id.hex():
        vouched = Bound(max(segment.base_offset, checkpoint.durable_offset), 0)
    elif checkpoint is not None:
        vouched = Bound(checkpoint.durable_offset, checkpoint.position)
        index = segment.read_index(files)
        if index is not None and index.count >= checkpoint.index_count > 0:
            # From the last entry, not from the checkpoint itself: an older
            # copy of the file, put back, ends before it.
            last = checkpoint.index_count - 1
            start = Bound(index.base_offset(last), index.position(last))
            time_ns = index.append_time_ns(last)
            found.index = index.truncated(start.position)
    handle = files.open(segment.path, write=True)
    # A killed process leaves pages that are written but not synced, and a failed
    # sync leaves pages that only look clean: sync, drop them, ask the device.
    files.sync_data(handle)
    files.forget(handle)
    size, capacity = files.size(handle), segment.capacity_bytes
    # What a seal had begun to write at the very end is left to the next seal.
    data_end = min(files.data_end(handle, start.position), capacity - SEAL_BYTES)
    length = max(0, data_end - start.position) + FRAME_HEADER_BYTES
    data = files.read(handle, length, start.position).ljust(length, b"\0")
    found.tail = scan_tail(data, start, segment.seed, capacity, time_ns, vouched)
    found.shortened = size < capacity
    if found.shortened and found.tail.lost_through is not None:
        raise _refuse(_wrong_size(segment.path, size, capacity))


# ---- Producers ----------------------------------------------------------------


def restore_producers(files: Files, found: Found) -> Producers:
    """The table as it was: the checkpoint's, and the frames after it.

    Raises:
        OSError: The device can't be read.
    """
    producers = Producers()
    known_offset = 0
    if found.checkpoint is not None:
        producers.load_json(found.checkpoint.producers)
        known_offset = found.checkpoint.durable_offset
    for segment in found.segments:
        if segment.sealed and segment.end.offset > known_offset:
            handle = files.open(segment.path)
            # Not through the map: a bad sector is an error here, and fatal there.
            data = files.read(handle, segment.end.position, 0)
            start = Bound(segment.base_offset, HEADER_BYTES)
            steps = walk(data, start, segment.end, segment.seed)
            _replay(producers, (s.frame for s in steps if s.frame is not None), known_offset)
    if found.tail is not None:
        _replay(producers, found.tail.headers, known_offset)
    return producers


def _replay(producers: Producers, frames: Iterable[Frame], known_offset: int) -> None:
    for frame in frames:
        if frame.producer_id and frame.base_offset >= known_offset:
            receipt = Receipt(
                frame.sequence,
                frame.base_offset,
                frame.record_count,
                frame.append_time_ns,
                frame.records_crc,
            )
            producers.record(frame.producer_id, receipt)
