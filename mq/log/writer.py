"""Appending to a log: groups into the active segment, syncs, and the next segment.

One thread at a time appends and syncs; `prepare` may run beside it. Whatever
fails leaves the log either as it was, so that appending can go on once there is
room again, or read-only until it is opened again: never in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mq.errors import ChannelReadOnly, DiskFull, MQError, Overloaded
from mq.log.cache import SegmentCache
from mq.log.checkpoint import CheckpointWriter
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
)
from mq.log.files import NO_RESOURCES, NO_ROOM, Files, Handle
from mq.log.format import (
    FOOTER_BYTES,
    HEADER_BYTES,
    NO_ID,
    OVERHEAD_BYTES,
    PADDING_PREFIX_BYTES,
    SEAL_BYTES,
    SEGMENT_BYTES_FIRST,
    SEGMENT_GROWTH,
    segment_name,
)
from mq.log.group import Append, Appended, Group
from mq.log.index import SparseIndex
from mq.log.producers import Producers
from mq.log.reader import View
from mq.log.segment import Opened, Segment
from mq.log.spare import ZERO_AHEAD_BYTES, Spare, zeroed_bytes
from mq.log.walk import Bound

# How much is appended between checkpoints: what a restart has to scan at most.
CHECKPOINT_INTERVAL_BYTES: Final = 8 << 20
_CAPACITY_STEP_BYTES: Final = 4096


@dataclass(slots=True)
class Environment:
    """What a writer is given: the outside world, and what identifies its log."""

    files: Files
    directory: Path
    channel_id: bytes
    cache: SegmentCache
    clock: Callable[[], int]
    random_id: Callable[[], bytes]
    segment_bytes: int


class Writer:
    """The growing end of a log.

    Attributes:
        view: What readers may see.
        end: Where the next frame goes.
        active: The segment that is appended to; None where there is none or the
            last one is sealed.
        read_only_reason: Why nothing can be appended any more, or None.
    """

    def __init__(
        self,
        env: Environment,
        checkpoints: CheckpointWriter,
        producers: Producers,
        view: View,
        last_append_time_ns: int,
    ) -> None:
        self._env = env
        self._files = env.files
        self._checkpoints = checkpoints
        self._spare = Spare(env.files, env.directory)
        self.producers = producers
        self.view = view
        self.end = view.durable
        self.active: Opened | None = None
        if view.segments and not view.segments[-1].sealed:
            self.active = view.segments[-1].opened
        # Up to here blocks of the active segment were written by us, or are about to be.
        # Not asked of the file system: it takes blocks that were only read for written.
        self._zeroed_through = self.end.position
        self.last_append_time_ns = last_append_time_ns
        self.read_only_reason: str | None = None
        self.since_checkpoint_bytes = 0
        # Does what opening could not for lack of room; no append before that.
        self.settle: Callable[[], None] | None = None
        # Takes back, durably, the checkpoint's word that the log ends there; before the
        # first append, and not at opening, because most logs are only opened.
        self.retract: Callable[[], None] | None = None

    # ---- Appending --------------------------------------------------------

    def append(self, batches: Sequence[Append]) -> list[Appended | MQError]:
        """See `Log.append`."""
        group = Group(self.producers)
        self._begin_group(group)
        for batch in batches:
            try:
                self._place(batch, group)
            except MQError as error:
                group.results.append(error)
        self._flush(group)
        return group.results

    def _begin_group(self, group: Group) -> None:
        limit = seed = 0
        if self.active is not None:
            limit = self.view.segments[-1].capacity_bytes - SEAL_BYTES
            seed = self.active.seed
        # The log's time never goes back, whatever the clock does.
        time_ns = max(self.last_append_time_ns, self._env.clock())
        group.begin(self.end, limit, seed, time_ns, self.view.durable.offset)

    def _place(self, batch: Append, group: Group) -> None:
        """Put one batch behind the ones before it, in a new segment if need be."""
        if self.read_only_reason is not None or self.settle is not None:
            self._check_writable()
        if self.retract is not None:
            self._retract()
        if batch.producer_id and group.repeats(batch):
            return
        size = batch.frame_bytes
        if not group.fits(size):
            try:
                failure = self._flush(group)
                if failure is not None:
                    # This one may have to come after one that is now not there.
                    raise failure
                self._roll(size)
            finally:
                self._begin_group(group)
        group.add(batch, size)

    def _check_writable(self) -> None:
        if self.read_only_reason is not None:
            raise ChannelReadOnly(self.read_only_reason)
        if self.settle is not None:
            try:
                self.settle()
            except OSError as error:
                raise self._refusal("the end of the log could not be set in order", error) from None
            self.settle = None

    def _retract(self) -> None:
        if self.retract is not None:
            try:
                self.retract()
            except OSError as error:
                raise self._refusal("the checkpoint could not be written", error) from None
            self.retract = None

    def _flush(self, group: Group) -> MQError | None:
        """Write what was gathered; on failure none of it was appended."""
        if not group.buffers:
            return None
        assert self.active is not None, "frames without a segment"
        start, end = group.start.position, group.end.position
        failure: MQError | None = None
        try:
            if end > self._zeroed_through:
                self._zero_ahead(self.active, start, end)
            self._files.write(self.active.handle, group.buffers, start)
        except ChannelReadOnly as error:
            failure = error
            group.fail(error)
        except OSError as error:
            failure = self._refusal("a write failed", error)
            # Nothing of it may be found after a restart.
            try:
                self._files.write_zeros(self.active.handle, start, end)
            except OSError as again:
                failure = self.fail(f"a failed write could not be undone: {again}")
            group.fail(failure)
        else:
            for base_offset, position in group.frames:
                self.active.index.add(base_offset, position, group.append_time_ns)
            self.view.segments[-1].frame_count += len(group.frames)
            self.since_checkpoint_bytes += end - start
            self.last_append_time_ns = group.append_time_ns
            self.end = group.end
        return failure

    def _zero_ahead(self, active: Opened, start: int, end: int) -> None:
        """Write, and sync, the blocks that frames are about to be written to, and some more.

        The first write to a block that is only allocated is durable once the file
        system's journal has noted it. If the journal has failed, ext4 tells a
        ``fdatasync`` of nothing, and the block reads as zeros after the next mount.
        To a block that was written before, a frame is data and nothing else.
        """
        end = min(self.view.segments[-1].capacity_bytes, end + ZERO_AHEAD_BYTES)
        self._files.write_zeros(active.handle, max(start, self._zeroed_through), end)
        self._sync(active)
        self._zeroed_through = end

    def fits(self, size_bytes: int) -> bool:
        """See `Log.fits`."""
        if self.active is None or self.settle is not None or self.retract is not None:
            return False
        limit = self.view.segments[-1].capacity_bytes - SEAL_BYTES
        return self.end.position + size_bytes <= min(limit, self._zeroed_through)

    def sync(self) -> int:
        """See `Log.sync`."""
        if self.read_only_reason is not None:
            raise ChannelReadOnly(self.read_only_reason)
        if self.active is not None and self.end.offset > self.view.durable.offset:
            self._sync_active(self.active)
        return self.end.offset

    def note_synced(self) -> int:
        """See `Log.note_synced`."""
        if self.read_only_reason is not None:
            raise ChannelReadOnly(self.read_only_reason)
        if self.active is not None:
            self.view = self.view._replace(durable=self.end)
        return self.end.offset

    def _sync_active(self, active: Opened) -> None:
        """Rule 5: first the device has it, then readers do, then the publisher is told."""
        end = self.end
        self._sync(active)
        self.view = self.view._replace(durable=end)

    def _sync(self, active: Opened) -> None:
        try:
            self._files.sync_data(active.handle)
        except OSError as error:
            raise self.fail(f"a sync failed: {error}") from error

    # ---- Failing ----------------------------------------------------------

    def fail(self, what: str) -> ChannelReadOnly:
        """Take no appends from now on; the error that says so."""
        self.read_only_reason = (
            f"{what}; the channel takes no publishes until the broker is restarted "
            "and has read the device again"
        )
        return ChannelReadOnly(self.read_only_reason)

    def _refusal(self, what: str, error: OSError) -> MQError:
        """What an error means for the publisher; the log has failed if it is the device's."""
        if error.errno in NO_ROOM:
            return DiskFull(
                "no room left on the device: nothing was written. Free some space, or delete "
                "channels; publishing works again by itself"
            )
        if error.errno in NO_RESOURCES:
            return Overloaded(f"{what}: {error}; try again, or raise the limit that was met")
        return self.fail(f"{what}: {error}")

    # ---- The next segment -------------------------------------------------

    @property
    def wants_prepare(self) -> bool:
        """See `Log.wants_prepare`."""
        if self.active is None or self._spare.ready or self.read_only_reason is not None:
            return False
        return self.end.position * 2 > self.view.segments[-1].capacity_bytes

    def prepare(self) -> None:
        """See `Log.prepare`."""
        # Asked again: it may have been a while, and a segment, ago.
        if self.wants_prepare:
            self._spare.prepare(self._capacity(0))

    def _capacity(self, frame_bytes: int) -> int:
        """The size of the next segment, which is to hold a frame of that size."""
        grown = SEGMENT_BYTES_FIRST
        if self.view.segments:
            last = self.view.segments[-1].capacity_bytes
            # One that was sealed by age, hardly used, is followed by a smaller one.
            full = self.end.position * 2 > last or frame_bytes
            grown = last * SEGMENT_GROWTH if full else max(grown, last // SEGMENT_GROWTH)
        capacity = max(min(grown, self._env.segment_bytes), frame_bytes + OVERHEAD_BYTES)
        return -(-capacity // _CAPACITY_STEP_BYTES) * _CAPACITY_STEP_BYTES

    def roll_aged(self, age_ns: int) -> bool:
        """See `Log.roll_aged`."""
        self._check_writable()
        if self.active is None or self._active_is_empty:
            return False
        if self._env.clock() - self.active.index.append_time_ns(0) < age_ns:
            return False
        self._retract()
        self._roll(0)
        return True

    def trim(self, count: int) -> None:
        """Forget the first ``count`` segments; readers find them no more."""
        for segment in self.view.segments[:count]:
            self._env.cache.drop(segment)
        self.view = self.view._replace(segments=self.view.segments[count:])

    def swap(self, old: Segment, new: Segment) -> None:
        """Let readers find another file's records in place of a sealed segment's."""
        segments = tuple(new if segment is old else segment for segment in self.view.segments)
        self.view = self.view._replace(segments=segments)
        self._env.cache.drop(old)

    def _roll(self, frame_bytes: int) -> None:
        """Seal the active segment, if there is one, and begin the next.

        Raises:
            DiskFull: There is no room for it; the active one stays as it is.
            MQError: The device failed.
        """
        try:
            handle, capacity = self._spare.take(
                frame_bytes + OVERHEAD_BYTES, self._capacity(frame_bytes)
            )
        except OSError as error:
            raise self._refusal("a segment could not be allocated", error) from error
        if not self._active_is_empty:
            try:
                self._seal()
            except OSError as error:
                self._spare.give_back(handle, capacity)
                raise self._refusal("a segment could not be sealed", error) from error
        self._begin(handle, capacity)

    @property
    def _active_is_empty(self) -> bool:
        """A crash came between its beginning and its first frame, or a write failed then."""
        return self.active is not None and self.end.offset == self.view.segments[-1].base_offset

    def _seal(self) -> None:
        """Padding, index, footer: the segment is never written again."""
        if self.active is None:
            return
        segment, active, end = self.view.segments[-1], self.active, self.end
        index = active.index
        padding = encode_padding_prefix(end.position, segment.capacity_bytes)
        self._files.write(active.handle, [padding], end.position)
        # Before the footer is written: whatever has a footer is whole.
        self._sync_active(active)
        # A hint: without it the segment is read through once more, some day.
        with contextlib.suppress(OSError):
            self._checkpoints.write_sealed_index(
                segment.base_offset, end.offset, index.encode(segment.segment_id)
            )
        footer = SegmentFooter(
            base_offset=segment.base_offset,
            end_offset=end.offset,
            end_position=end.position,
            frame_count=segment.frame_count,
            first_append_time_ns=index.append_time_ns(0) if index.count else 0,
            last_append_time_ns=self.last_append_time_ns,
            segment_id=segment.segment_id,
        )
        at = segment.capacity_bytes - FOOTER_BYTES
        self._files.write(active.handle, [encode_segment_footer(footer)], at)
        self._sync_active(active)
        segment.seal(footer)
        self._files.release(active.handle, end.position + PADDING_PREFIX_BYTES, at)
        self.active = None
        self._env.cache.touch(segment)

    def _begin(self, handle: Handle, capacity_bytes: int) -> None:
        """Make an allocated file the active segment.

        In place of an empty one, if that is too small for the next frame: it has the
        same name, and so the same id, which the checkpoint may know.
        """
        env, segments, base = self._env, self.view.segments, self.end.offset
        segment_id = env.random_id()
        if self._active_is_empty:
            segment_id, segments = segments[-1].segment_id, segments[:-1]
        header = SegmentHeader(
            base_offset=base,
            capacity_bytes=capacity_bytes,
            created_ns=env.clock(),
            channel_id=env.channel_id,
            segment_id=segment_id,
            previous_segment_id=segments[-1].segment_id if segments else NO_ID,
        )
        segment = Segment(env.directory / segment_name(base), header)
        try:
            self._files.write(handle, [encode_segment_header(header)], 0)
            self._files.sync(handle)
            self._files.rename(handle.path, segment.path)
        except OSError as error:
            self._spare.discard(handle)
            raise self._refusal("a segment could not be begun", error) from error
        try:
            self._files.sync_dir(env.directory)
            mapped = self._files.map(handle, capacity_bytes)
        except OSError as error:
            raise self.fail(f"a segment could not be begun: {error}") from error
        active = Opened(handle, mapped, SparseIndex(), segment.seed, segment.damage)
        segment.opened = self.active = active
        self.end = Bound(base, HEADER_BYTES)
        self._zeroed_through = zeroed_bytes(capacity_bytes)
        self.view = View((*segments, segment), self.end)
        if segments:
            # From then on, a last segment that is missing is missed.
            self.since_checkpoint_bytes = CHECKPOINT_INTERVAL_BYTES

    def close(self) -> None:
        """Let go of all files."""
        if self.read_only_reason is None:
            self.read_only_reason = "the log is closed"
        self._spare.close()
        self.active = None
        for segment in self.view.segments:
            self._env.cache.drop(segment)
