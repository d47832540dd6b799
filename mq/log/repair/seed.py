"""Finding a segment's seed again where its header is gone and no other file knows its id.

Every frame's header ends with a CRC that is seeded with that of the segment's
id. A CRC can be run backwards: from a frame's header follows the seed with
which it is sound, and where others agree, that is the one. The id itself can't
be had, but any other with the same CRC does as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from mq.log.filewalk import WINDOW_BYTES, FileReader
from mq.log.format import (
    FRAME_CRC_END,
    FRAME_HEADER_BYTES,
    FRAME_PATTERN,
    HEADER_BYTES,
    ID_BYTES,
    SEAL_BYTES,
)
from mq.log.frames import parse_header, records_sound

_ONES: Final = 0xFFFFFFFF
# Where a frame's header says its CRC, behind the tag.
_CRC_AT: Final = FRAME_CRC_END + 1
# The register after one byte, from zero; and which byte it was, by its top.
_AFTER: Final = tuple(crc32c(bytes((byte,)), _ONES) ^ _ONES for byte in range(256))
_BYTE_OF: Final = {after >> 24: byte for byte, after in enumerate(_AFTER)}
_AGREEING_MIN: Final = 2


def _before(register: int, data: bytes) -> int:
    """The CRC's register before it was fed ``data``."""
    for byte in reversed(data):
        index = _BYTE_OF[register >> 24]
        register = ((register ^ _AFTER[index]) << 8 | index ^ byte) & _ONES
    return register


def seed_of(header: bytes) -> int:
    """The seed with which a frame's header is sound."""
    stated = int.from_bytes(header[_CRC_AT : _CRC_AT + 4], "little")
    return _before(stated ^ _ONES, header[:FRAME_CRC_END]) ^ _ONES


def id_with_seed(seed: int, salt: bytes) -> bytes:
    """A segment id whose CRC is ``seed``; the same for the same salt."""
    prefix = hashlib.blake2b(salt, digest_size=ID_BYTES - 4, person=b"mq-repair").digest()
    rest = _before(seed ^ _ONES, bytes(4)) ^ crc32c(prefix) ^ _ONES
    return prefix + rest.to_bytes(4, "little")


def find_seed(reader: FileReader, base_offset: int, capacity_bytes: int) -> int | None:
    """The seed of a segment's frames, or None where they don't tell.

    If the first frame is where it belongs and its records are sound, its word is
    enough. Otherwise it is the seed on which most headers agree.

    Raises:
        OSError: The device fails otherwise than by unreadable sectors.
    """
    limit = capacity_bytes - SEAL_BYTES
    found: Counter[int] = Counter()
    for position, header in _candidates(reader, limit):
        seed = seed_of(header)
        frame = parse_header(header, 0, limit - position, seed)
        if frame is None:
            continue
        found[seed] += 1
        if position == HEADER_BYTES and frame.base_offset == base_offset:
            whole = reader.read(position, frame.size)
            if records_sound(whole, frame):
                return seed
    for seed, count in found.most_common(1):
        if count >= _AGREEING_MIN:
            return seed
    return None


def _candidates(reader: FileReader, limit: int) -> Iterator[tuple[int, bytes]]:
    """All that has the constant bytes of a frame's header, and where it is."""
    for begin in range(HEADER_BYTES, limit, WINDOW_BYTES):
        # One that begins in this window may end in the next.
        window = reader.read(begin, min(WINDOW_BYTES + FRAME_HEADER_BYTES - 1, limit - begin))
        for match in FRAME_PATTERN.finditer(window):
            header = window[match.start() : match.start() + FRAME_HEADER_BYTES]
            if match.start() < WINDOW_BYTES and len(header) == FRAME_HEADER_BYTES:
                yield begin + match.start(), header
