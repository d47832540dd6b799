"""Both ends of a segment file, as far as they can be read: its header and its footer."""

from __future__ import annotations

from typing import Final, NamedTuple

from mq.errors import DataDirError
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    parse_segment_footer,
    parse_segment_header,
)
from mq.log.filewalk import FileReader
from mq.log.format import FOOTER_BYTES, FORMAT_VERSION, HEADER_BYTES, OVERHEAD_BYTES

# A header that says more is not believed in this.
_CAPACITY_MAX: Final = 1 << 31


class Ends(NamedTuple):
    """What is sound of a segment's header and footer.

    ``capacity_bytes`` is what the header says, or else the file's size.
    """

    header: SegmentHeader | None
    footer: SegmentFooter | None
    capacity_bytes: int


def read_ends(reader: FileReader, size: int, known: SegmentHeader | None = None) -> Ends:
    """Read a segment's header and footer.

    Args:
        reader: Reads the file.
        size: The file's length.
        known: What the header says or should say, where that is known.

    Raises:
        DataDirError: It is of another format.
        OSError: The device fails otherwise than by unreadable sectors.
    """
    raw = reader.read(0, HEADER_BYTES)
    header = parse_segment_header(raw) if size >= HEADER_BYTES else None
    if header is not None and header.format_version != FORMAT_VERSION:
        raise DataDirError(
            f"{reader.path} has format {header.format_version}, this version of mq reads format "
            f"{FORMAT_VERSION}: use the version that wrote it, or a later one"
        )
    capacity, said = size, known or header
    if said is not None and OVERHEAD_BYTES <= said.capacity_bytes <= _CAPACITY_MAX:
        capacity = said.capacity_bytes
    footer = None
    if capacity >= OVERHEAD_BYTES:
        footer = parse_segment_footer(reader.read(capacity - FOOTER_BYTES, FOOTER_BYTES))
    return Ends(header, footer, capacity)
