"""Headers, footers, indexes and checkpoints decode to nothing, or to what encodes the same."""

from __future__ import annotations

from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_segment_footer,
    encode_segment_header,
    parse_segment_footer,
    parse_segment_header,
)
from mq.log.format import FORMAT_VERSION, HEADER_BYTES, parse_segment_name, segment_name
from mq.log.index import SparseIndex
from tests.fuzz.harness import Harness

_ID = bytes(range(16))


def run(data: bytes) -> None:
    """Decode the bytes as each of them."""
    kind, data = data[:1], data[1:]
    if kind == b"h":
        header = parse_segment_header(data)
        if header is not None and header.format_version <= FORMAT_VERSION:
            assert encode_segment_header(header) == data[:HEADER_BYTES]
    elif kind == b"f":
        footer = parse_segment_footer(data)
        assert footer is None or encode_segment_footer(footer) == data
    elif kind == b"i":
        index = SparseIndex.decode(data, _ID)
        assert index is None or index.encode(_ID) == data
    elif kind == b"c":
        checkpoint = Checkpoint.decode(data)
        assert checkpoint is None or Checkpoint.decode(checkpoint.encode()) == checkpoint
    else:
        name = data.decode("latin-1")
        base = parse_segment_name(name)
        assert base is None or segment_name(base) == name


def seeds() -> list[bytes]:
    """One of each."""
    index = SparseIndex()
    for n in range(5):
        index.add(n, 128 + 5000 * n, 1000 + n)
    return [
        b"h" + encode_segment_header(SegmentHeader(7, 65_536, 1, _ID, _ID, _ID)),
        b"f" + encode_segment_footer(SegmentFooter(7, 9, 500, 2, 1, 2, _ID)),
        b"i" + index.encode(_ID),
        b"c" + Checkpoint(0, _ID.hex(), 128, 0, 0, 0, 0, 0).encode(),
        b"n" + segment_name(123).encode(),
    ]


HARNESS = Harness("hints", run, seeds)
