"""Checking the records in the journal of consumer groups: that they can be replayed.

What the records mean is the broker's business (``mq/broker/coordinator``). What
every record begins with is checked here; whoever knows more passes a function.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mq.log.files import Files
from mq.log.filewalk import FileReader, walk_file
from mq.log.format import FRAME_HEADER_BYTES, HEADER_BYTES
from mq.log.frames import segment_seed
from mq.log.report import Severity
from mq.log.segment_check import Checked
from mq.log.walk import Bound

# What is wrong with a record, or None.
Complain = Callable[[bytes], str | None]

_HEAD = struct.Struct("<cI")
_NAME = struct.Struct("<H")
_KINDS = (b"C", b"E", b"S", b"D")
_TAG_CONTENTS = 0x0A


def complain_of_head(content: bytes) -> str | None:
    """What is wrong with what every record of a journal begins with."""
    if len(content) < _HEAD.size:
        return "it is too short"
    kind, _ = _HEAD.unpack_from(content)
    if kind not in _KINDS:
        return f"it is of the unknown kind {kind!r}"
    name = b""
    if kind == b"C":
        name = content[_HEAD.size :]
    elif kind == b"S":
        if len(content) < _HEAD.size + _NAME.size:
            return "it is too short for a snapshot"
        (length,) = _NAME.unpack_from(content, _HEAD.size)
        name = content[_HEAD.size + _NAME.size :][:length]
        if len(name) < length:
            return "it ends inside the group's name"
    try:
        name.decode()
    except UnicodeDecodeError:
        return "the group's name is no text"
    return None


def check_records(files: Files, path: Path, checked: Checked, complain: Complain) -> None:
    """Look into every sound frame of a checked segment, and report what can't be replayed.

    Args:
        files: The seam.
        path: The segment's file.
        checked: Its check, whose report is added to.
        complain: Tells what is wrong with a record.

    Raises:
        OSError: It is gone, or can't be read.
    """
    if checked.header is None:
        return
    start = Bound(checked.header.base_offset, HEADER_BYTES)
    reader = FileReader(files, files.open(path))
    seed = segment_seed(checked.header.segment_id)
    for frame, damage in walk_file(reader, start, checked.end, seed):
        if frame is None or damage is not None:
            continue
        data = reader.read(frame.position + FRAME_HEADER_BYTES, frame.size - FRAME_HEADER_BYTES)
        for complaint in _complaints(data, complain):
            message = f"a record in the frame of offset {frame.base_offset} can't be replayed: "
            checked.report.add(
                Severity.FAULT, "journal", message + complaint, position=frame.position
            )


def _complaints(data: bytes, complain: Complain) -> Iterator[str]:
    try:
        for content in contents_of(data):
            complaint = complain(content)
            if complaint is not None:
                yield complaint
    except ValueError as error:
        yield str(error)


def contents_of(records: bytes) -> Iterator[bytes]:
    """The contents of a serialized ``Records`` that has nothing else.

    Raises:
        ValueError: It is no such thing.
    """
    position = 0
    while position < len(records):
        if records[position] != _TAG_CONTENTS:
            raise ValueError("the frame holds something else than contents")
        length, position = _varint(records, position + 1)
        if length > len(records) - position:
            raise ValueError("a content is longer than the frame")
        yield records[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position == len(data) or shift > 63:
            raise ValueError("a length in the frame is cut short")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
