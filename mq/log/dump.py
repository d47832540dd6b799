"""What is in a segment file, part by part: for people who look at bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mq.errors import DataDirError
from mq.log.envelope import parse_segment_footer, parse_segment_header
from mq.log.files import OS_FILES, Files
from mq.log.filewalk import FileReader, walk_file
from mq.log.format import FOOTER_BYTES, HEADER_BYTES, OVERHEAD_BYTES
from mq.log.frames import segment_seed
from mq.log.walk import OFFSET_MAX, Bound


def dump_segment(path: Path, files: Files = OS_FILES) -> Iterator[dict[str, Any]]:
    """The parts of a segment file, in order of position.

    Yields:
        Dictionaries with ``kind``, ``position``, ``size``, and by kind:

        - ``header``: the fields of `SegmentHeader`;
        - ``frame``: the fields of the frame's header;
        - ``lost``: a frame that a repair has put where records were lost, with
          ``first_offset`` and ``next_offset``;
        - ``damage``: ``first_offset``, and ``next_offset`` if it is known, and
          ``reason``. Where a frame's header is sound and its records are not, it
          comes in the place of the frame, with the fields of the header;
        - ``padding``: the zeros behind the last frame, or anything else that
          follows the last one of a segment without a footer, as ``damage``;
        - ``footer``: the fields of `SegmentFooter`.

    Raises:
        DataDirError: It is no segment file.
        OSError: It can't be read.
    """
    handle = files.open(path)
    reader = FileReader(files, handle)
    size = files.size(handle)
    raw = reader.read(0, HEADER_BYTES)
    header = parse_segment_header(raw) if size >= OVERHEAD_BYTES else None
    footer = None
    if size >= OVERHEAD_BYTES:
        footer = parse_segment_footer(reader.read(size - FOOTER_BYTES, FOOTER_BYTES))
    if header is not None:
        segment_id = header.segment_id
        yield {"kind": "header", "position": 0, "size": HEADER_BYTES, **header._asdict()}
    elif footer is not None:
        segment_id = footer.segment_id
        reason = "the segment's header is damaged; its id is in the footer"
        yield {"kind": "damage", "position": 0, "size": HEADER_BYTES, "reason": reason}
    else:
        raise DataDirError(
            f"{path} is no segment file, or both its header and its footer are damaged"
        )
    base = header.base_offset if header is not None else footer.base_offset if footer else 0
    end = Bound(OFFSET_MAX, size)
    if footer is not None and footer.segment_id == segment_id:
        end = Bound(footer.end_offset, footer.end_position)
    else:
        footer = None
    position = HEADER_BYTES
    for part in _frames(reader, Bound(base, HEADER_BYTES), end, segment_seed(segment_id)):
        yield part
        position = part["position"] + part["size"]
    if footer is not None:
        yield {"kind": "padding", "position": position, "size": size - FOOTER_BYTES - position}
        yield {
            "kind": "footer",
            "position": size - FOOTER_BYTES,
            "size": FOOTER_BYTES,
            **footer._asdict(),
        }


def _frames(reader: FileReader, start: Bound, end: Bound, seed: int) -> Iterator[dict[str, Any]]:
    for frame, damage in walk_file(reader, start, end, seed):
        fields = frame._asdict() if frame is not None else {}
        if damage is None:
            yield {"kind": "frame", **fields}
            continue
        position, size = damage.position, damage.end - damage.position
        if damage.marked:
            where = {"first_offset": damage.first_offset, "next_offset": damage.next_offset}
            yield {"kind": "lost", **fields, **where}
            continue
        if damage.next_offset == OFFSET_MAX:
            yield _rest(reader, position, size, damage.first_offset)
            return
        yield {
            "kind": "damage",
            **fields,
            "position": position,
            "size": size,
            "first_offset": damage.first_offset,
            "next_offset": damage.next_offset,
            "reason": "no sound header" if frame is None else "the records' checksum is wrong",
        }


def _rest(reader: FileReader, position: int, size: int, first_offset: int) -> dict[str, Any]:
    """What follows the last frame of a segment without a footer."""
    if not reader.read(position, size).strip(b"\0"):
        return {"kind": "padding", "position": position, "size": size}
    return {
        "kind": "damage",
        "position": position,
        "size": size,
        "first_offset": first_offset,
        "reason": "no frame, and not zeros: torn by a crash, or damaged",
    }
