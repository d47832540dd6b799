"""A channel's log: append, sync, read, and open again after anything.

One thread at a time appends and syncs; any number read. What readers may see
is one tuple, replaced in one step when it grows, so no lock is needed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mq.errors import MQError, OffsetOutOfRange
from mq.log.cache import SegmentCache
from mq.log.checkpoint import Checkpoint, CheckpointWriter
from mq.log.compaction.compact import Compaction, dirty_ratio
from mq.log.compaction.history import History
from mq.log.compaction.rewrite import Rewritten
from mq.log.files import NO_ROOM, OS_FILES, Files
from mq.log.format import (
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    SEGMENT_BYTES_DEFAULT,
    index_name,
    segment_name,
)
from mq.log.group import Append, Appended
from mq.log.opening import Found, inspect, restore_producers
from mq.log.reader import Position, Reader, ReadResult, View
from mq.log.segment import Opened, Segment
from mq.log.torn import TornTail
from mq.log.walk import Bound, Damage
from mq.log.writer import CHECKPOINT_INTERVAL_BYTES, Environment, Writer

__all__ = ["Append", "Appended", "Log", "ReadResult"]


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

    Attributes:
        log_start_offset: The first offset that can be read.
        notices: What opening found out of the ordinary, for the caller to log.

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
        self.notices: list[str] = []
        self._files = files
        self._env = Environment(
            files=files,
            directory=directory,
            channel_id=channel_id,
            cache=SegmentCache() if cache is None else cache,
            clock=clock,
            random_id=random_id,
            segment_bytes=segment_bytes,
        )
        self._reader = Reader(files, self._env.cache)
        self._checkpoints = CheckpointWriter(files, directory)
        self._closed = False
        # Whether a checkpoint was planned, if not yet written.
        self._planned = False
        self._history = History()
        self._open()

    # ---- Opening ----------------------------------------------------------

    def _open(self) -> None:
        found = inspect(self._files, self.directory, self.channel_id)
        self.notices.extend(found.notices)
        segments, checkpoint, tail = found.segments, found.checkpoint, found.tail
        producers = restore_producers(self._files, found)
        if found.leftovers:
            self._remove(found.leftovers)
        start = checkpoint.log_start_offset if checkpoint else 0
        self.log_start_offset = max(start, segments[0].base_offset if segments else 0)
        if checkpoint is not None:
            self._history = History.of(checkpoint.compacted)
        end = Bound(self.log_start_offset, HEADER_BYTES)
        times = [checkpoint.last_append_time_ns if checkpoint else 0]
        if segments:
            end = segments[-1].end
            times.append(segments[-1].last_append_time_ns)
        settle = None
        if tail is not None:
            end = tail.end if tail.lost_through is None else self._mark_lost(found)
            times.append(tail.last_append_time_ns)
            settle = self._resume(found)
        view = View(tuple(segments), end)
        self._writer = Writer(self._env, self._checkpoints, producers, view, max(times))
        self._writer.settle = settle
        if checkpoint is not None and checkpoint.clean:
            retracted = replace(checkpoint, clean=False)
            self._writer.retract = partial(self._checkpoints.write, retracted, None)
        if tail is not None:
            known = checkpoint.durable_offset if checkpoint else 0
            new_bytes = sum(f.size for f in tail.headers if f.base_offset >= known)
            self._writer.since_checkpoint_bytes = new_bytes
            if tail.lost_through is not None:
                lost = segments[-1].damage.ranges[-1]
                self._writer.read_only_reason = (
                    f"offsets {lost.first_offset} to {lost.next_offset - 1} were stored and are "
                    "gone from the end of the log; restore its last segment from a backup, or "
                    "inspect the channel with `mq verify`"
                )
                self.notices.append(self._writer.read_only_reason)

    def _mark_lost(self, found: Found) -> Bound:
        """What was durable and is gone is damage at the end; its offsets stay taken."""
        assert found.tail is not None
        assert found.tail.lost_through is not None
        (first, position), after = found.tail.end, found.tail.lost_through
        found.tail.damage.append(Damage(first, after, position, position))
        return Bound(after, position)

    def _resume(self, found: Found) -> Callable[[], None] | None:
        """Take up the active segment where its sound frames end.

        Returns:
            What has to be done before the first append, if it could not be done now.
        """
        tail, segment, checkpoint = found.tail, found.segments[-1], found.checkpoint
        assert tail is not None
        lost = tail.lost_through is not None
        settle = None
        handle = self._files.open(segment.path, write=not lost)
        if found.shortened:
            self._files.allocate(handle, segment.capacity_bytes)
            self._files.sync(handle)
            self.notices.append(f"zeros were missing at the end of {segment.path.name}")
        if tail.torn is not None and not lost:
            settle = self._cut(TornTail(self._files, handle, *tail.torn))

        index = found.index
        segment.frame_count = len(tail.headers)
        if index.count and checkpoint is not None:
            known = checkpoint.durable_offset
            new = sum(frame.base_offset >= known for frame in tail.headers)
            segment.frame_count = checkpoint.frame_count + new
        for damage in tail.damage:
            segment.damage.add(damage)
            if not lost or damage is not tail.damage[-1]:
                self.notices.append(damage.error().message)
        tail.add_to(index, segment.base_offset)
        mapped = self._files.map(handle, segment.capacity_bytes)
        segment.opened = Opened(handle, mapped, index, segment.seed, segment.damage)
        return settle

    def _cut(self, torn: TornTail) -> Callable[[], None] | None:
        """Cut a torn tail off.

        A full disk has no room to keep it. Then the log opens all the same, and
        the first append does it, or is refused.
        """
        try:
            torn.cut()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self.notices.append(
                f"{torn.description} are to be cut off; there is no room to keep them in a file "
                "of their own, so the channel takes no publishes until there is"
            )
            return torn.cut
        assert torn.aside is not None, "what was cut was kept"
        self.notices.append(f"cut {torn.description}; kept in {torn.aside.name}")
        return None

    # ---- State ------------------------------------------------------------

    @property
    def segment_bytes(self) -> int:
        """What a segment grows to."""
        return self._env.segment_bytes

    @segment_bytes.setter
    def segment_bytes(self, value: int) -> None:
        self._env.segment_bytes = value

    @property
    def durable_offset(self) -> int:
        """One past the last record that readers may see."""
        return self._writer.view.durable.offset

    @property
    def end_offset(self) -> int:
        """One past the last record written, synced or not."""
        return self._writer.end.offset

    @property
    def last_append_time_ns(self) -> int:
        """The append time of the last record, Unix nanoseconds; 0 if there never was one."""
        return self._writer.last_append_time_ns

    @property
    def read_only_reason(self) -> str | None:
        """Why the log takes no appends, or None."""
        return self._writer.read_only_reason

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, oldest first."""
        return self._writer.view.segments

    @property
    def stored_bytes(self) -> int:
        """The bytes of all durable frames."""
        view = self._writer.view
        sealed = sum(s.stored_bytes for s in view.segments if s.sealed)
        active = bool(view.segments) and not view.segments[-1].sealed
        return sealed + (view.durable.position - HEADER_BYTES if active else 0)

    @property
    def allocated_bytes(self) -> int:
        """The bytes that the segment files occupy."""
        return sum(s.occupied_bytes for s in self._writer.view.segments)

    @property
    def damage(self) -> list[Damage]:
        """The damaged ranges found so far, in order."""
        found = (d for s in self._writer.view.segments for d in s.damage.ranges)
        return [d for d in found if d.first_offset < d.next_offset]

    # ---- Appending --------------------------------------------------------

    def append(self, batches: Sequence[Append]) -> list[Appended | MQError]:
        """Write batches, in order, in as few writes as can be; ``sync`` makes them durable.

        Returns:
            For each batch where it went, or why it went nowhere. A batch is
            written whole or not at all, and one that fails takes no other with
            it, except that a device's refusal fails all that it was asked for.
        """
        return self._writer.append(batches)

    def fits(self, records_bytes: int) -> bool:
        """Whether a batch of that size can be appended by a write and nothing else.

        No segment to begin, no blocks to write ahead, no checkpoint to take back.
        """
        return self._writer.fits(records_bytes + FRAME_HEADER_BYTES)

    def sync(self) -> int:
        """Make all that was appended durable, and visible to readers.

        Returns:
            The durable offset.

        Raises:
            ChannelReadOnly: The device failed the sync. That is final: whether
                the data is there can only be known after opening again.
        """
        return self._writer.sync()

    def note_synced(self) -> int:
        """All that was appended is durable: the whole file system was synced since.

        Returns:
            The durable offset.

        Raises:
            ChannelReadOnly: The log has failed.
        """
        return self._writer.note_synced()

    @property
    def wants_prepare(self) -> bool:
        """Whether the active segment is half full and the next one not yet prepared."""
        return self._writer.wants_prepare

    def prepare(self) -> None:
        """Allocate the next segment's file before it is needed. From any thread.

        Raises:
            OSError: There is no room; appending goes on in the active segment.
        """
        self._writer.prepare()

    def roll_aged(self, age_ns: int) -> bool:
        """Seal the active segment and begin another if its first record is that old.

        For the appending thread. So that a quiet channel's records can expire.

        Raises:
            MQError: As of `append`.
        """
        return self._writer.roll_aged(age_ns)

    def trim(self, offset: int) -> list[Segment]:
        """Remove the sealed segments that hold nothing from ``offset`` on.

        For the appending thread. First the durable log start moves, then files
        go. What readers hold of them stays theirs.

        Returns:
            The segments that were removed, oldest first.

        Raises:
            ChannelReadOnly: The log has failed.
            OSError: The new log start could not be made durable, and no record was
                removed; or it is, and the next start removes the rest.
        """
        self._writer.sync()
        segments = self._writer.view.segments
        count = sum(s.sealed and s.end.offset <= offset for s in segments[:-1])
        gone = list(segments[:count])
        if gone:
            start = gone[-1].end.offset
            # The indexes first: that makes room for the checkpoint on a full disk.
            self._remove(index_name(s.base_offset) for s in gone)
            self._checkpoint(clean=False, log_start_offset=start)()
            self.log_start_offset = start
            self._writer.trim(count)
            self._remove(segment_name(s.base_offset) for s in gone)
        return gone

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(self.directory / name)
        self._files.sync_dir(self.directory)

    # ---- Compaction -------------------------------------------------------

    @property
    def dirty_ratio(self) -> float:
        """How much of the sealed segments was never compacted: 0 to 1, in bytes of frames."""
        return dirty_ratio(self._writer.view.segments[:-1], self._history.cleaned_offset)

    def begin_compaction(
        self, tombstones_since_ns: int, breathe: Callable[[], object] = bool
    ) -> Compaction:
        """Begin a pass over the sealed segments: of each key the latest record is kept.

        For the appending thread. What the pass does then is for any one thread;
        what it has rewritten is put in place by `swap`, in order, and at the end
        `note_compaction` is told.

        Args:
            tombstones_since_ns: Tombstones appended later are kept, Unix nanoseconds.
            breathe: Called with each frame; what it raises ends the pass.

        Raises:
            ChannelReadOnly: The log has failed.
            OSError: A checkpoint could not be written. It has to be: frames that
                are rewritten don't tell of producers any more.
        """
        self._writer.sync()
        self._checkpoint(clean=False, log_start_offset=self.log_start_offset)()
        segments = self._writer.view.segments[:-1]
        now_ns = self._env.clock()
        return Compaction(
            self._files, segments, self._history, now_ns, tombstones_since_ns, breathe
        )

    def swap(self, old: Segment, rewritten: Rewritten) -> bool:
        """Put a rewritten segment in a sealed one's place; readers of that go on reading it.

        For the appending thread. A crash leaves the old one or the new one.

        Returns:
            False if the old one was removed meanwhile; the new one is, too.

        Raises:
            ChannelReadOnly: The log has failed.
            OSError: The device fails. The log is whole, with either of them.
        """
        files, base = self._files, old.base_offset
        if old not in self._writer.view.segments[:-1]:
            rewritten.discard()
            return False
        try:
            self._writer.sync()
            old.keep(files)
            # First: it would be taken for that of the new file.
            self._checkpoints.remove_index(base)
            files.rename(rewritten.path, old.path)
        except (MQError, OSError):
            rewritten.discard()
            old.let_go()
            self._env.cache.touch(old)
            raise
        new = Segment(old.path, rewritten.header)
        new.seal(rewritten.footer)
        self._writer.swap(old, new)
        files.sync_dir(self.directory)
        with contextlib.suppress(OSError):
            content = rewritten.index.encode(new.segment_id)
            self._checkpoints.write_new_index(base, content)
        return True

    def note_compaction(
        self, compaction: Compaction, finished_ns: int, tombstones_since_ns: int
    ) -> None:
        """A pass is over, with all of its segments in place. For the appending thread.

        Raises:
            ChannelReadOnly: The log has failed.
            OSError: It could not be noted durably: after a restart it is made again.
        """
        self._history = self._history.after(compaction.done(finished_ns), tombstones_since_ns)
        self._writer.sync()
        self._checkpoint(clean=False, log_start_offset=self.log_start_offset)()

    # ---- Reading ----------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, max_records: int = 0, *, may_block: bool = True
    ) -> ReadResult | None:
        """Find frames from the one that holds ``offset``; at least one if any is durable.

        Args:
            offset: The first offset wanted.
            max_bytes: About how many bytes; a first frame is returned whole, even if larger.
            max_records: About how many records; 0: no limit.
            may_block: False: return None rather than wait for the device.

        Returns:
            The frames; none at the end of the log.

        Raises:
            OffsetOutOfRange: Before the log's start or after its end.
            DataLoss: The frame that holds ``offset`` is damaged.
            OSError: The device can't be read.
        """
        # The view first: the end never lies before the durable offset.
        view = self._writer.view
        if not self.log_start_offset <= offset <= max(view.durable.offset, self.end_offset):
            raise self._out_of_range(f"offset {offset}", offset > self.log_start_offset)
        try:
            return self._reader.read(view, offset, max_bytes, max_records, may_block=may_block)
        except FileNotFoundError:
            if offset >= self.log_start_offset:
                raise
            # It was removed since the view was taken.
            raise self._out_of_range(f"offset {offset}", past_end=False) from None

    def _out_of_range(self, what: str, past_end: bool) -> OffsetOutOfRange:
        start, end = self.log_start_offset, self.durable_offset
        side = "after the end" if past_end else "before the start"
        return OffsetOutOfRange(
            f"{what} is {side} of the log, which holds offsets from {start} up to {end}; "
            f"pull from {end if past_end else start}, or from beginning or latest",
            log_start_offset=start,
            next_offset=end,
        )

    def seek_time(self, append_time_ns: int) -> int:
        """The offset of the first durable record appended at or after the time.

        The durable offset if there is none. Of damaged records the time can't
        be known: where they lie just before that record, it is the first of
        them. May read from the device.

        Raises:
            OSError: The device can't be read.
        """
        while True:
            view = self._writer.view
            try:
                found = self._reader.seek_time(view, append_time_ns)
            except FileNotFoundError:
                if view.segments[0] is self._writer.view.segments[0]:
                    raise
                # It was removed since the view was taken.
            else:
                return max(found, self.log_start_offset)

    def locate(self, offset: int) -> Position:
        """When a durable record was appended, and how many bytes lie from it to the end.

        Both are as exact as the index, within a few kilobytes. May read from the
        device, to open a segment.

        Raises:
            OSError: The device can't be read.
        """
        return self._reader.locate(self._writer.view, offset)

    def is_open_at(self, offset: int) -> bool:
        """Whether the segment that holds a durable record is open: `locate` won't wait."""
        segment, _ = self._writer.view.at(offset)
        return segment.opened is not None

    # ---- Checkpoints and closing ------------------------------------------

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was appended since the last checkpoint."""
        return self._writer.since_checkpoint_bytes >= CHECKPOINT_INTERVAL_BYTES

    def plan_checkpoint(self, *, clean: bool = False) -> Callable[[], None]:
        """Capture what a checkpoint says now; the returned call writes it, from any thread.

        To be called by the appending thread just after a ``sync``. With
        something unsynced there is nothing new to say, and of a log that has
        failed nothing is known for certain: then it writes nothing.
        """
        return self._checkpoint(clean=clean, log_start_offset=self.log_start_offset)

    def _checkpoint(self, *, clean: bool, log_start_offset: int) -> Callable[[], None]:
        writer = self._writer
        view = writer.view
        if view.durable != writer.end or writer.read_only_reason is not None:
            return lambda: None
        writer.since_checkpoint_bytes = 0
        self._planned = True
        base, segment_id, position, frame_count = view.durable.offset, "", HEADER_BYTES, 0
        if view.segments:
            last = view.segments[-1]
            base, segment_id = last.base_offset, last.segment_id.hex()
            position, frame_count = view.durable.position, last.frame_count
        index_content, index_count = None, 0
        if writer.active is not None:
            index = writer.active.index
            index_content, index_count = index.encode(view.segments[-1].segment_id), index.count
        checkpoint = Checkpoint(
            segment_base=base,
            segment_id=segment_id,
            position=position,
            durable_offset=view.durable.offset,
            last_append_time_ns=writer.last_append_time_ns,
            log_start_offset=log_start_offset,
            index_count=index_count,
            frame_count=frame_count,
            clean=clean,
            producers=writer.producers.to_json(),
            compacted=self._history.to_json(),
        )
        return partial(self._checkpoints.write, checkpoint, index_content)

    def close(self) -> None:
        """Sync, write a clean checkpoint, and let go of all files. Again: does nothing.

        Raises:
            ChannelReadOnly: The log had failed, or the last sync does; what was
                durable stays so.
            OSError: The checkpoint could not be written; opening scans a little more.
        """
        if self._closed:
            return
        try:
            self._writer.sync()
            # A log that was only read has nothing to add to its checkpoint.
            if self._writer.since_checkpoint_bytes or self._planned:
                self.plan_checkpoint(clean=True)()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of all files and write nothing more, as before removing the directory."""
        self._closed = True
        self._checkpoints.close()
        self._writer.close()
