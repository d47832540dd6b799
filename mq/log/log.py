"""A channel's log: append, sync, read, and open again after anything.

One thread at a time appends and syncs; any number read. What readers may see
is one tuple, replaced in one step when it grows, so no lock is needed.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mq.errors import (
    ChannelReadOnly,
    DataLoss,
    DiskFull,
    MessageTooLarge,
    MQError,
    OffsetOutOfRange,
)
from mq.log.cache import SegmentCache
from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
)
from mq.log.files import OS_FILES, Files, Handle, Map
from mq.log.format import (
    CHECKPOINT_NAME,
    FOOTER_BYTES,
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    LENGTH_MAX,
    NO_ID,
    OVERHEAD_BYTES,
    PREPARED_NAME,
    SEAL_BYTES,
    SEGMENT_BYTES_DEFAULT,
    SEGMENT_BYTES_FIRST,
    SEGMENT_GROWTH,
    TORN_SUFFIX,
    index_name,
    segment_name,
)
from mq.log.frames import Frame, encode_header, segment_seed, walk_headers
from mq.log.index import SparseIndex
from mq.log.opening import Found, inspect
from mq.log.producers import Entry, Producers, Receipt
from mq.log.segment import Bound, Damage, Opened, Segment, Span

_PAGE = 4096
# How much is appended between checkpoints: what a restart has to scan at most.
CHECKPOINT_INTERVAL_BYTES = 8 << 20
# How far back from its end an active segment is taken to be in memory.
_HOT_BYTES = 4 << 20
_READAHEAD_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Append:
    """A batch to append: ``records`` is a serialized ``Records`` of ``record_count`` records."""

    records: bytes
    record_count: int
    records_crc: int
    producer_id: int = 0
    sequence: int = 0
    attributes: int = 0


class Appended(NamedTuple):
    """Where a batch went."""

    base_offset: int
    record_count: int
    append_time_ns: int
    duplicate: bool = False


class _View(NamedTuple):
    """What readers may see: the segments, and where the last one's durable part ends."""

    segments: tuple[Segment, ...]
    durable: Bound


class ReadResult(NamedTuple):
    """Frames from ``start_offset`` on, in ``spans``; pull next at ``next_offset``."""

    start_offset: int
    next_offset: int
    spans: list[Span]
    # Maps of sealed segments that this read has come to the end of.
    finished: list[Map]

    def join(self, *trailer: bytes) -> bytes:
        """All bytes in one object: the only copy made of them."""
        joined = b"".join([*(span.view() for span in self.spans), *trailer])
        for mapped in self.finished:
            # A replay of everything must not leave everything in our page tables.
            mapped.forget()
        return joined


class Log:
    """A channel's log in one directory.

    Args:
        directory: Exists, and belongs to this log alone.
        channel_id: 16 random bytes, in every segment's header.
        segment_bytes: What a segment grows to.
        files: The operating system, or a test's stand-in.
        cache: Bounds how many sealed segments are open, over all logs.
        clock: Unix nanoseconds.
        random_id: Makes segment ids.

    Raises:
        ChannelFailed: The files don't fit together; nothing was touched.
        OSError: The device can't be read.
    """

    def __init__(
        self,
        directory: Path,
        channel_id: bytes,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        files: Files = OS_FILES,
        cache: SegmentCache | None = None,
        clock: Callable[[], int] = time.time_ns,
        random_id: Callable[[], bytes] = lambda: os.urandom(16),
    ) -> None:
        self.directory = directory
        self.channel_id = channel_id
        self.segment_bytes = segment_bytes
        self._files = files
        self._cache = cache or SegmentCache()
        self._clock = clock
        self._random_id = random_id
        self._producers = Producers()
        self._active: Opened | None = None
        self._prepared: tuple[Handle, int] | None = None
        self._prepare_lock = threading.Lock()
        self._checkpoint_lock = threading.Lock()
        self._since_checkpoint_bytes = 0
        self._checkpointed_offset = 0
        # Why the log takes no appends, or None.
        self.read_only_reason: str | None = None
        # What opening found out of the ordinary, for the caller to log.
        self.notices: list[str] = []
        self._open()

    # ---- Opening ----------------------------------------------------------

    def _open(self) -> None:
        found = inspect(self._files, self.directory, self.channel_id)
        self.notices.extend(found.notices)
        checkpoint = found.checkpoint
        for name in self._files.list(self.directory):
            if name.endswith(".tmp"):
                self._files.unlink(self.directory / name)
        start = checkpoint.log_start_offset if checkpoint else 0
        self.log_start_offset = max(start, found.segments[0].base_offset if found.segments else 0)
        self._last_append_time_ns = checkpoint.last_append_time_ns if checkpoint else 0
        self._end = Bound(self.log_start_offset, HEADER_BYTES)
        if found.segments:
            last = found.segments[-1]
            self._end = last.end
            self._last_append_time_ns = max(self._last_append_time_ns, last.last_append_time_ns)
        self._restore_producers(found)
        if found.tail is not None:
            self._resume(found)
        self._view = _View(tuple(found.segments), self._end)

    def _restore_producers(self, found: Found) -> None:
        """Replay the receipts of frames that the checkpoint doesn't know."""
        known = Bound(0, HEADER_BYTES)
        if found.checkpoint is not None:
            self._producers.load_json(found.checkpoint.producers)
            known = Bound(found.checkpoint.durable_offset, found.checkpoint.position)
        for segment in found.segments:
            if segment.sealed and segment.end.offset > known.offset:
                opened = segment.open(self._files)
                end, base = segment.end.position, segment.base_offset
                view = opened.map.view
                self._replay(walk_headers(view, HEADER_BYTES, end, opened.seed, base), known)
                segment.opened = None
        if found.tail is not None:
            self._replay(found.tail.frames, known)

    def _replay(self, frames: Iterable[Frame], known: Bound) -> None:
        for frame in frames:
            if frame.producer_id and frame.base_offset >= known.offset:
                receipt = Receipt(
                    frame.sequence,
                    frame.base_offset,
                    frame.record_count,
                    frame.append_time_ns,
                    frame.records_crc,
                )
                self._producers.record(frame.producer_id, receipt)

    def _resume(self, found: Found) -> None:
        """Take up the active segment where its sound frames end."""
        tail, segment, checkpoint = found.tail, found.segments[-1], found.checkpoint
        assert tail is not None
        handle = self._files.open(segment.path, write=True)
        if tail.torn is not None and tail.lost_through is None:
            self._cut(handle, segment, tail.torn)
        mapped = self._files.map(handle, segment.capacity_bytes)
        opened = Opened(handle, mapped, found.index, segment_seed(segment.segment_id))
        if found.index.count and checkpoint is not None:
            known = checkpoint.durable_offset
            new = sum(frame.base_offset >= known for frame in tail.frames)
            segment.frame_count = checkpoint.frame_count + new
        else:
            segment.frame_count = len(tail.frames)
        for damage in tail.damage:
            opened.add_damage(damage)
            self.notices.append(damage.error().message)
            if damage.position == HEADER_BYTES:
                # The first entry always stands for the segment's beginning.
                found.index.add(segment.base_offset, HEADER_BYTES, 0)
        for frame in tail.frames:
            found.index.add(frame.base_offset, frame.position, frame.append_time_ns)
        segment.opened = self._active = opened
        self._end = tail.end
        self._last_append_time_ns = tail.last_append_time_ns
        if tail.lost_through is not None:
            self.read_only_reason = (
                f"offsets {tail.end.offset} to {tail.lost_through - 1} were stored and are gone "
                "from the end of the log; run `mq verify` on the data directory"
            )
            self.notices.append(self.read_only_reason)

    def _cut(self, handle: Handle, segment: Segment, torn: tuple[int, int]) -> None:
        """Keep a torn tail aside, then zero it, so that nothing of it is ever found again."""
        start, end = torn
        aside = segment.path.with_suffix(f".{start}{TORN_SUFFIX}")
        self._files.replace(aside, self._files.read(handle, end - start, start))
        self._files.write_zeros(handle, start, end)
        self._files.sync_data(handle)
        self.notices.append(
            f"cut {end - start} bytes that were never acknowledged from the end of "
            f"{segment.path.name}; kept in {aside.name}"
        )

    # ---- State ------------------------------------------------------------

    @property
    def durable_offset(self) -> int:
        """One past the last record that readers may see."""
        return self._view.durable.offset

    @property
    def end_offset(self) -> int:
        """One past the last record written, synced or not."""
        return self._end.offset

    @property
    def last_append_time_ns(self) -> int:
        """The append time of the last record, Unix nanoseconds; 0 if there never was one."""
        return self._last_append_time_ns

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, oldest first."""
        return self._view.segments

    @property
    def stored_bytes(self) -> int:
        """The bytes of all durable frames."""
        view = self._view
        sealed = sum(s.stored_bytes for s in view.segments if s.sealed)
        active = bool(view.segments) and not view.segments[-1].sealed
        return sealed + (view.durable.position - HEADER_BYTES if active else 0)

    @property
    def allocated_bytes(self) -> int:
        """The bytes that the segment files occupy."""
        return sum(s.capacity_bytes for s in self._view.segments)

    @property
    def damage(self) -> list[Damage]:
        """The damaged ranges found so far, in order."""
        opened = [s.opened for s in self._view.segments]
        return [d for o in opened if o is not None for d in o.damage]

    # ---- Appending --------------------------------------------------------

    def append(self, batches: Sequence[Append]) -> list[Appended | MQError]:
        """Write batches, in order, in as few writes as can be; ``sync`` makes them durable.

        Returns:
            For each batch where it went, or why it went nowhere. A batch is
            written whole or not at all, and one that fails takes no other with
            it, except that a device's refusal fails all that it was asked for.
        """
        group = _Group(self)
        for batch in batches:
            group.add(batch)
        group.flush()
        return group.results

    def sync(self) -> int:
        """Make all that was appended durable, and visible to readers.

        Returns:
            The durable offset.

        Raises:
            ChannelReadOnly: The device failed the sync. That is final: whether
                the data is there can only be known after opening again.
        """
        if self.read_only_reason is not None:
            raise ChannelReadOnly(self.read_only_reason)
        end, opened = self._end, self._active
        if opened is not None and end.offset > self._view.durable.offset:
            try:
                self._files.sync_data(opened.handle)
            except OSError as error:
                raise self._fail(f"a sync failed: {error}") from error
            self._view = self._view._replace(durable=end)
        return end.offset

    def _fail(self, what: str) -> ChannelReadOnly:
        self.read_only_reason = (
            f"{what}; the channel takes no publishes until the broker is restarted "
            "and has read the device again"
        )
        return ChannelReadOnly(self.read_only_reason)

    def _next_capacity(self, frame_bytes: int) -> int:
        segments = self._view.segments
        grown = segments[-1].capacity_bytes * SEGMENT_GROWTH if segments else SEGMENT_BYTES_FIRST
        capacity = max(min(grown, self.segment_bytes), frame_bytes + OVERHEAD_BYTES)
        return -(-capacity // _PAGE) * _PAGE

    @property
    def wants_prepare(self) -> bool:
        """Whether the active segment is half full and the next one not yet prepared."""
        if self._active is None or self._prepared is not None:
            return False
        return self._end.position * 2 > self._view.segments[-1].capacity_bytes

    def prepare(self) -> None:
        """Allocate the next segment's file before it is needed. From any thread.

        Raises:
            OSError: There is no room; appending goes on in the active segment.
        """
        with self._prepare_lock:
            if self._prepared is None:
                self._prepared = self._allocate(self._next_capacity(0))

    def _allocate(self, capacity: int) -> tuple[Handle, int]:
        handle = self._files.create(self.directory / PREPARED_NAME)
        try:
            self._files.allocate(handle, capacity)
            self._files.sync(handle)
        except OSError:
            self._files.unlink(handle.path)
            raise
        return handle, capacity

    def _take_prepared(self, frame_bytes: int) -> tuple[Handle, int]:
        with self._prepare_lock:
            prepared, self._prepared = self._prepared, None
            if prepared is not None and prepared[1] >= frame_bytes + OVERHEAD_BYTES:
                return prepared
            return self._allocate(self._next_capacity(frame_bytes))

    def _roll(self, frame_bytes: int) -> None:
        """Seal the active segment, if there is one, and begin the next.

        Raises:
            OSError: There is no room for another; the active one stays as it is.
            ChannelReadOnly: The device failed.
        """
        handle, capacity = self._take_prepared(frame_bytes)
        try:
            self._seal()
            self._begin(handle, capacity)
        except OSError as error:
            raise self._fail(f"a new segment could not be begun: {error}") from error

    def _seal(self) -> None:
        """Sync, then index, padding and footer: the segment is never written again."""
        if self._active is None:
            return
        self.sync()
        segment, opened, end = self._view.segments[-1], self._active, self._end
        index = opened.index
        footer = SegmentFooter(
            base_offset=segment.base_offset,
            end_offset=end.offset,
            end_position=end.position,
            frame_count=segment.frame_count,
            first_append_time_ns=index.append_time_ns(0) if index.count else 0,
            last_append_time_ns=self._last_append_time_ns,
            segment_id=segment.segment_id,
        )
        with self._checkpoint_lock:
            # A checkpoint planned earlier and written later must not shorten it again.
            self._checkpointed_offset = end.offset
            path = self.directory / index_name(segment.base_offset)
            self._files.replace(path, index.encode(segment.segment_id))
        padding = encode_padding_prefix(end.position, segment.capacity_bytes)
        self._files.write(opened.handle, [padding], end.position)
        at = segment.capacity_bytes - FOOTER_BYTES
        self._files.write(opened.handle, [encode_segment_footer(footer)], at)
        self._files.sync_data(opened.handle)
        segment.seal(footer)
        self._active = None
        self._cache.touch(segment)

    def _begin(self, handle: Handle, capacity: int) -> None:
        segments = self._view.segments
        base = self._end.offset
        header = SegmentHeader(
            base_offset=base,
            capacity_bytes=capacity,
            created_ns=self._clock(),
            channel_id=self.channel_id,
            segment_id=self._random_id(),
            previous_segment_id=segments[-1].segment_id if segments else NO_ID,
        )
        path = self.directory / segment_name(base)
        self._files.write(handle, [encode_segment_header(header)], 0)
        self._files.sync(handle)
        self._files.rename(handle.path, path)
        self._files.sync_dir(self.directory)
        segment = Segment(path, header)
        seed = segment_seed(header.segment_id)
        opened = Opened(handle, self._files.map(handle, capacity), SparseIndex(), seed)
        segment.opened = opened
        self._active = opened
        self._end = Bound(base, HEADER_BYTES)
        self._view = _View((*segments, segment), self._end)

    # ---- Reading ----------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, max_records: int = 0, *, may_block: bool = True
    ) -> ReadResult | None:
        """Find frames from the one that holds ``offset``; at least one if any is durable.

        Args:
            offset: The first offset wanted.
            max_bytes: About how many bytes; one frame is returned whole, even if larger.
            max_records: About how many records; 0: no limit.
            may_block: False: return None rather than wait for the device.

        Returns:
            The frames; none at the end of the log.

        Raises:
            OffsetOutOfRange: Before the log's start or after its end.
            DataLoss: The frame that holds ``offset`` is damaged.
        """
        view = self._view
        if not self.log_start_offset <= offset <= max(view.durable.offset, self._end.offset):
            raise self._out_of_range(f"offset {offset}", offset > self.log_start_offset)
        result = ReadResult(offset, offset, [], [])
        records = max_records
        while result.next_offset < view.durable.offset and max_bytes > 0:
            segment, bound = self._segment_at(view, result.next_offset)
            opened = self._opened(segment, result.next_offset, max_bytes, bound, may_block)
            if opened is None:
                return None if not result.spans else result
            try:
                span = opened.span(result.next_offset, max_bytes, max(records, 0), bound)
            except DataLoss:
                if result.spans:
                    break
                raise
            records -= span.next_offset - result.next_offset
            max_bytes -= span.end - span.start
            result.spans.append(span)
            if segment.sealed and span.end >= bound.position:
                result.finished.append(opened.map)
            result = result._replace(next_offset=span.next_offset)
            if span.end < bound.position or (max_records and records <= 0):
                break
        return result

    def _out_of_range(self, what: str, past_end: bool) -> OffsetOutOfRange:
        start, end = self.log_start_offset, self.durable_offset
        side = "after the end" if past_end else "before the start"
        return OffsetOutOfRange(
            f"{what} is {side} of the log, which holds offsets from {start} up to {end}; "
            f"pull from {end if past_end else start}, or from beginning or latest",
            log_start_offset=start,
            next_offset=end,
        )

    def _segment_at(self, view: _View, offset: int) -> tuple[Segment, Bound]:
        segments = view.segments
        low, high = 0, len(segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if segments[middle].base_offset <= offset:
                low = middle
            else:
                high = middle - 1
        last = low == len(segments) - 1
        return segments[low], view.durable if last else segments[low].end

    def _opened(
        self, segment: Segment, offset: int, max_bytes: int, bound: Bound, may_block: bool
    ) -> Opened | None:
        """The segment, open, with what is to be read of it in memory; None: it would block."""
        opened = segment.opened
        if opened is None:
            if not may_block:
                return None
            opened = segment.open(self._files)
        if opened is not self._active:
            self._cache.touch(segment)
        start = opened.index.position(max(opened.index.floor_offset(offset), 0))
        if opened is self._active and bound.position - start < _HOT_BYTES:
            return opened
        end = min(bound.position, start + max_bytes + _PAGE)
        if not opened.map.resident(start, end):
            if not may_block:
                return None
            # Faulting it in through the map would hold the GIL while the device works.
            self._files.will_need(opened.handle, start, max_bytes + _READAHEAD_BYTES)
            for at in range(start, end, 1 << 20):
                self._files.read(opened.handle, min(1 << 20, end - at), at)
        return opened

    def seek_time(self, append_time_ns: int) -> int:
        """The offset of the first durable record appended at or after the time.

        The durable offset if there is none. May read from the device.
        """
        view = self._view
        for position, segment in enumerate(view.segments):
            last = position == len(view.segments) - 1
            bound = view.durable if last else segment.end
            if not last and segment.last_append_time_ns < append_time_ns:
                continue
            if bound.offset == segment.base_offset:
                continue
            opened = segment.open(self._files)
            if opened is not self._active:
                self._cache.touch(segment)
            found = opened.locate_time(append_time_ns, bound)
            if found < bound.offset:
                return max(found, self.log_start_offset)
        return view.durable.offset

    # ---- Checkpoints and closing ------------------------------------------

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was appended since the last checkpoint."""
        return self._since_checkpoint_bytes >= CHECKPOINT_INTERVAL_BYTES

    def plan_checkpoint(self, *, clean: bool = False) -> Callable[[], None]:
        """Capture what a checkpoint says now; the returned call writes it, from any thread.

        To be called by the appending thread just after a ``sync``; with
        something unsynced it would say nothing new, and writes nothing.
        """
        self._since_checkpoint_bytes = 0
        view = self._view
        index_content = None
        if self._active is None:
            point = Bound(view.durable.offset, HEADER_BYTES)
            base, segment_id, index_count, frames = view.durable.offset, "", 0, 0
            if view.segments:
                last = view.segments[-1]
                base, segment_id, point = last.base_offset, last.segment_id.hex(), last.end
                frames = last.frame_count
        else:
            point = view.durable
            segment, index = view.segments[-1], self._active.index
            if point != self._end:
                return lambda: None
            index_content, index_count = index.encode(segment.segment_id), index.count
            base, segment_id = segment.base_offset, segment.segment_id.hex()
            frames = segment.frame_count
        checkpoint = Checkpoint(
            segment_base=base,
            segment_id=segment_id,
            position=point.position,
            durable_offset=point.offset,
            last_append_time_ns=self._last_append_time_ns,
            log_start_offset=self.log_start_offset,
            index_count=index_count,
            frame_count=frames,
            clean=clean,
            producers=self._producers.to_json(),
        )
        return lambda: self._write_checkpoint(checkpoint, index_content)

    def _write_checkpoint(self, checkpoint: Checkpoint, index_content: bytes | None) -> None:
        with self._checkpoint_lock:
            if checkpoint.durable_offset < self._checkpointed_offset:
                return
            self._checkpointed_offset = checkpoint.durable_offset
            if index_content is not None:
                path = self.directory / index_name(checkpoint.segment_base)
                self._files.replace(path, index_content)
            self._files.replace(self.directory / CHECKPOINT_NAME, checkpoint.encode())

    def close(self) -> None:
        """Sync, write a clean checkpoint, and let go of all files.

        Raises:
            ChannelReadOnly: The log had failed, or the last sync does; what was
                durable stays so.
        """
        try:
            self.sync()
            self.plan_checkpoint(clean=True)()
        finally:
            with self._prepare_lock:
                if self._prepared is not None:
                    self._files.unlink(self._prepared[0].path)
                    self._prepared = None
            self._active = None
            for segment in self._view.segments:
                self._cache.drop(segment)


class _Group:
    """The batches of one ``append``, gathered into as few writes as can be."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.results: list[Appended | MQError] = []
        self._begin()

    def _begin(self) -> None:
        log = self._log
        self._buffers: list[bytes] = []
        self._start = self._end = log._end
        self._time_ns = max(log._last_append_time_ns, log._clock())
        self._pending: list[int] = []
        self._entries: list[tuple[int, int]] = []
        self._snapshot: dict[int, Entry] | None = None

    def add(self, batch: Append) -> None:
        """Frame one batch behind the ones before it, in a new segment if need be."""
        try:
            self.results.append(self._place(batch))
        except MQError as error:
            self.results.append(error)

    def _place(self, batch: Append) -> Appended:
        log = self._log
        if log.read_only_reason is not None:
            raise ChannelReadOnly(log.read_only_reason)
        if batch.producer_id:
            receipt = log._producers.check(batch.producer_id, batch.sequence, batch.records_crc)
            if receipt is not None:
                return Appended(*receipt[1:4], duplicate=True)
        size = FRAME_HEADER_BYTES + len(batch.records)
        if size + OVERHEAD_BYTES > LENGTH_MAX:
            raise MessageTooLarge(f"a batch of {len(batch.records)} bytes can't be stored")
        self._make_room(size)
        assert log._active is not None, "no segment after making room"
        base = self._end.offset
        header = encode_header(
            log._active.seed,
            len(batch.records),
            base,
            batch.record_count,
            self._time_ns,
            batch.records_crc,
            attributes=batch.attributes,
            producer_id=batch.producer_id,
            sequence=batch.sequence,
            durable_through=log._view.durable.offset,
        )
        self._buffers += (header, batch.records)
        self._entries.append((base, self._end.position))
        self._pending.append(len(self.results))
        self._end = Bound(base + batch.record_count, self._end.position + size)
        if batch.producer_id:
            receipt = Receipt(
                batch.sequence, base, batch.record_count, self._time_ns, batch.records_crc
            )
            if self._snapshot is None:
                self._snapshot = log._producers.snapshot()
            log._producers.record(batch.producer_id, receipt)
        return Appended(base, batch.record_count, self._time_ns)

    def _make_room(self, size: int) -> None:
        log = self._log
        if log._active is not None:
            limit = log._view.segments[-1].capacity_bytes - SEAL_BYTES
            if self._end.position + size <= limit:
                return
        self.flush()
        if log.read_only_reason is not None:
            raise ChannelReadOnly(log.read_only_reason)
        try:
            log._roll(size)
        except OSError as error:
            raise _no_room(error) from error
        finally:
            self._begin()

    def flush(self) -> None:
        """Write what was gathered; on failure none of it was appended."""
        log = self._log
        if not self._buffers:
            return
        assert log._active is not None, "frames without a segment"
        try:
            log._files.write(log._active.handle, self._buffers, self._start.position)
        except OSError as error:
            self._undo(error)
            return
        for base, position in self._entries:
            log._active.index.add(base, position, self._time_ns)
        log._view.segments[-1].frame_count += len(self._entries)
        log._since_checkpoint_bytes += self._end.position - self._start.position
        log._last_append_time_ns = self._time_ns
        log._end = self._end
        self._buffers = []

    def _undo(self, error: OSError) -> None:
        """Forget a failed write, and leave nothing of it to be found after a restart."""
        log = self._log
        if self._snapshot is not None:
            log._producers.restore(self._snapshot)
        failure: MQError
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            failure = _no_room(error)
        else:
            failure = log._fail(f"a write failed: {error}")
        assert log._active is not None
        try:
            log._files.write_zeros(log._active.handle, self._start.position, self._end.position)
        except OSError as again:
            log._fail(f"a failed write could not be undone: {again}")
        for position in self._pending:
            self.results[position] = failure
        self._buffers = []


def _no_room(error: OSError) -> MQError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            "no room left on the device: nothing was written. Free some space, or delete "
            "channels; publishing works again by itself"
        )
    return ChannelReadOnly(f"a segment could not be made: {error}")
