"""The steps of a repair: each keeps what it replaces, then puts one thing in order.

A step can be cut short at any write: what it leaves is found again as what it
was to mend, or as part of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mq.errors import DataDirError
from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
)
from mq.log.files import Files, Handle
from mq.log.filewalk import WINDOW_BYTES, FileReader, walk_file
from mq.log.format import (
    CHECKPOINT_NAME,
    FOOTER_BYTES,
    HEADER_BYTES,
    PADDING_PREFIX_BYTES,
    SCRATCH_SUFFIX,
    index_name,
    segment_name,
)
from mq.log.frames import segment_seed
from mq.log.index import SparseIndex
from mq.log.lost import lost_frames
from mq.log.repair.lineup import MOVED_SUFFIX
from mq.log.repair.quarantine import Quarantine
from mq.log.repair.report import Action
from mq.log.settle import settle
from mq.log.walk import Bound, Damage

_ALIGNMENT_BYTES: Final = 1 << 20


class Shop(NamedTuple):
    """What a step works with."""

    files: Files
    quarantine: Quarantine


class Step(Protocol):
    """One step."""

    @property
    def action(self) -> Action:
        """What it is about."""

    def run(self, shop: Shop) -> None:
        """Take it.

        Raises:
            OSError: The device fails; to be run again then.
        """


# ---- Whole files --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetAside:
    """Take a file or directory out of the way."""

    action: Action
    path: Path

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.move(self.path)


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a file or directory the name that it should have, which nothing has."""

    action: Action
    path: Path
    target: Path

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.files.rename(self.path, self.target)
        shop.files.sync_dir(self.target.parent)


@dataclass(frozen=True, slots=True)
class Rearrange:
    """Give segments the names that they say themselves, which others of them may have."""

    action: Action
    moves: Sequence[tuple[Path, Path]]

    def run(self, shop: Shop) -> None:
        """See `Step`. One that is on its way has a name by which it is found again."""
        files = shop.files
        for path, target in self.moves:
            moved = target.with_name(target.name + MOVED_SUFFIX)
            if path != moved:
                files.rename(path, moved)
        for _, target in self.moves:
            files.rename(target.with_name(target.name + MOVED_SUFFIX), target)
            files.sync_dir(target.parent)


@dataclass(frozen=True, slots=True)
class Replace:
    """Give a small file another content."""

    action: Action
    path: Path
    content: bytes

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.keep_file(self.path)
        shop.files.replace(self.path, self.content)


# ---- Parts of a segment -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WriteHeader:
    """Write a segment's header."""

    action: Action
    path: Path
    header: SegmentHeader

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.keep(self.path, 0, HEADER_BYTES)
        handle = shop.files.open(self.path, write=True)
        shop.files.write(handle, [encode_segment_header(self.header)], 0)
        shop.files.sync(handle)


@dataclass(frozen=True, slots=True)
class Resize:
    """Make a segment's file as long as its header says, with zeros at its end."""

    action: Action
    path: Path
    capacity_bytes: int

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        files = shop.files
        handle = files.open(self.path, write=True)
        size = files.size(handle)
        if size > self.capacity_bytes:
            shop.quarantine.keep(self.path, self.capacity_bytes, size)
            self._shorten(files, handle)
        else:
            files.allocate(handle, self.capacity_bytes)
            files.sync(handle)

    def _shorten(self, files: Files, handle: Handle) -> None:
        """By a copy: a file is never cut shorter."""
        copy = files.create(self.path.with_name(self.path.name + SCRATCH_SUFFIX))
        reader = FileReader(files, handle)
        for at in range(0, self.capacity_bytes, WINDOW_BYTES):
            data = reader.read(at, min(WINDOW_BYTES, self.capacity_bytes - at))
            files.write(copy, [data], at)
        files.sync(copy)
        files.rename(copy.path, self.path)
        files.sync_dir(self.path.parent)


@dataclass(frozen=True, slots=True)
class Clear:
    """Overwrite bytes that are no frames with zeros."""

    action: Action
    path: Path
    position: int
    end: int

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.keep(self.path, self.position, self.end)
        handle = shop.files.open(self.path, write=True)
        _write_zeros(shop.files, handle, self.position, self.end)
        shop.files.sync_data(handle)


@dataclass(frozen=True, slots=True)
class MarkLost:
    """Put a frame that stands for lost records over damage, or where nothing is left."""

    action: Action
    path: Path
    seed: int
    lost: Damage
    append_time_ns: int

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.keep(self.path, self.lost.position, self.lost.end)
        handle = shop.files.open(self.path, write=True)
        _write_lost(shop.files, handle, self.seed, self.lost, self.append_time_ns)
        shop.files.sync_data(handle)


@dataclass(frozen=True, slots=True)
class Seal:
    """Write padding, footer and index of a segment as its frames have them.

    Only what is not so already is written.
    """

    action: Action
    path: Path
    header: SegmentHeader
    end: Bound

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        handle = shop.files.open(self.path, write=True)
        index, footer = read_through(shop.files, handle, self.header, self.end)
        self._write_padding(shop, handle)
        self._write_footer(shop, handle, footer)
        _write_index(shop, self.path, self.header, index)

    def _write_padding(self, shop: Shop, handle: Handle) -> None:
        position, end = self.end.position, self.header.capacity_bytes - FOOTER_BYTES
        prefix = encode_padding_prefix(position, self.header.capacity_bytes)
        reader = FileReader(shop.files, handle)
        sound = reader.read(position, PADDING_PREFIX_BYTES) == prefix
        for at in range(position + PADDING_PREFIX_BYTES, end, WINDOW_BYTES):
            sound = sound and not reader.read(at, min(WINDOW_BYTES, end - at)).strip(b"\0")
        if sound and not reader.unreadable:
            return
        shop.quarantine.keep(self.path, position, end)
        _write_zeros(shop.files, handle, position, end)
        shop.files.write(handle, [prefix], position)
        # Whatever has a footer is whole.
        shop.files.sync_data(handle)

    def _write_footer(self, shop: Shop, handle: Handle, footer: SegmentFooter) -> None:
        at = self.header.capacity_bytes - FOOTER_BYTES
        encoded = encode_segment_footer(footer)
        reader = FileReader(shop.files, handle)
        if reader.read(at, FOOTER_BYTES) != encoded:
            shop.quarantine.keep(self.path, at, self.header.capacity_bytes)
            shop.files.write(handle, [encoded], at)
        shop.files.sync_data(handle)


@dataclass(frozen=True, slots=True)
class AddSegment:
    """Add a segment that stands for lost records and has nothing else.

    Unless it is ``sealed`` it is the log's last one, to be appended to.
    """

    action: Action
    directory: Path
    header: SegmentHeader
    lost: Damage
    append_time_ns: int
    sealed: bool

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        files, header = shop.files, self.header
        name = segment_name(header.base_offset)
        handle = files.create(self.directory / (name + SCRATCH_SUFFIX))
        files.allocate(handle, header.capacity_bytes)
        files.write(handle, [encode_segment_header(header)], 0)
        seed = segment_seed(header.segment_id)
        position = _write_lost(files, handle, seed, self.lost, self.append_time_ns)
        end = Bound(self.lost.next_offset, position)
        index, footer = read_through(files, handle, header, end)
        if self.sealed:
            prefix = encode_padding_prefix(position, header.capacity_bytes)
            files.write(handle, [prefix], position)
            at = header.capacity_bytes - FOOTER_BYTES
            files.write(handle, [encode_segment_footer(footer)], at)
        files.sync(handle)
        files.rename(handle.path, self.directory / name)
        files.sync_dir(self.directory)
        _write_index(shop, self.directory / name, header, index)


@dataclass(frozen=True, slots=True)
class Settle:
    """Write a log's checkpoint as its segments have it."""

    action: Action
    directory: Path
    channel_id: bytes
    known: Checkpoint | None
    log_start_offset: int
    end: Bound

    def run(self, shop: Shop) -> None:
        """See `Step`."""
        shop.quarantine.keep_file(self.directory / CHECKPOINT_NAME)
        settle(
            shop.files,
            self.directory,
            self.channel_id,
            self.known,
            self.log_start_offset,
            self.end,
        )


# ---- What they share ----------------------------------------------------------


def read_through(
    files: Files, handle: Handle, header: SegmentHeader, end: Bound
) -> tuple[SparseIndex, SegmentFooter]:
    """The index and the footer that belong to a segment's frames.

    Raises:
        DataDirError: They don't end where they should.
        OSError: The device fails otherwise than by unreadable sectors.
    """
    index, count, first_ns, last_ns = SparseIndex(), 0, 0, 0
    at = Bound(header.base_offset, HEADER_BYTES)
    for step in walk_file(FileReader(files, handle), at, end, segment_seed(header.segment_id)):
        at, frame = step.after(), step.frame
        if frame is not None:
            index.add(frame.base_offset, frame.position, frame.append_time_ns)
            count += 1
            first_ns = first_ns if count > 1 else frame.append_time_ns
            last_ns = frame.append_time_ns
    if at != end:
        raise DataDirError(
            f"{handle.path} ends at offset {at.offset}, byte {at.position}, and should end at "
            f"offset {end.offset}, byte {end.position}; look at it with `mq dump`"
        )
    footer = SegmentFooter(
        header.base_offset, end.offset, end.position, count, first_ns, last_ns, header.segment_id
    )
    return index, footer


def _write_index(shop: Shop, segment: Path, header: SegmentHeader, index: SparseIndex) -> None:
    path = segment.with_name(index_name(header.base_offset))
    encoded = index.encode(header.segment_id)
    try:
        handle = shop.files.open(path)
        if shop.files.read(handle, shop.files.size(handle), 0) == encoded:
            return
    except OSError:
        # Missing, or on a bad sector: it is made again anyway.
        pass
    else:
        shop.quarantine.keep_file(path)
    shop.files.replace(path, encoded)


def _write_lost(files: Files, handle: Handle, seed: int, lost: Damage, append_time_ns: int) -> int:
    """Write the frames that mark a range; returns where they end."""
    end = lost.position
    for frame in lost_frames(seed, lost, append_time_ns):
        files.write(handle, [frame.header], frame.position)
        _write_zeros(files, handle, frame.position + len(frame.header), frame.end)
        end = frame.end
    return end


def _write_zeros(files: Files, handle: Handle, start: int, end: int) -> None:
    """In pieces that end at page boundaries: a bad page that is overwritten whole is mended."""
    while start < end:
        after = min(end, (start // _ALIGNMENT_BYTES + 1) * _ALIGNMENT_BYTES)
        files.write_zeros(handle, start, after)
        start = after
