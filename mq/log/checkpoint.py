"""The checkpoint: a small checked file that bounds what opening must scan.

It is a hint. A missing or damaged one costs a longer scan, and is never ahead
of what was durable when it was written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from crc32c import crc32c

from mq.log.format import FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point of the log up to which everything is durable and known.

    ``position`` lies in the segment that begins at ``segment_base``;
    ``durable_offset`` is the offset of the frame that begins (or will begin)
    there, and ``frame_count`` counts the segment's frames before it. ``clean``
    says that the broker stopped in order: the log ends here.
    """

    segment_base: int
    segment_id: str
    position: int
    durable_offset: int
    last_append_time_ns: int
    log_start_offset: int
    index_count: int
    frame_count: int
    clean: bool = False
    producers: list[Any] = field(default_factory=list)

    def encode(self) -> bytes:
        """The file's content: a line with the CRC32C of the rest, then JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        body = json.dumps({"format": FORMAT_VERSION, **values}).encode()
        return b"%08x\n%s\n" % (crc32c(body), body)

    @classmethod
    def decode(cls, raw: bytes) -> Checkpoint | None:
        """The checkpoint in a file's content, or None if it can't be used."""
        crc, _, body = raw.partition(b"\n")
        body = body.removesuffix(b"\n")
        if crc != b"%08x" % crc32c(body):
            return None
        values = json.loads(body)
        if values.pop("format", None) != FORMAT_VERSION:
            return None
        return cls(**values)
