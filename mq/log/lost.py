"""Frames that stand for lost records: offsets without records, zeros in place of them.

A repair puts them where damage was (docs/log_format.md, "Lost records"), so that
offsets stay as they were and everything that reads a log can walk on. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

from mq.log.format import ATTRIBUTE_LOST, FRAME_HEADER_BYTES
from mq.log.frames import encode_header
from mq.log.walk import Damage

# The most offsets that one frame covers.
_OFFSETS_MAX = 1 << 32
_ZEROS = memoryview(bytes(1 << 20))


class LostFrame(NamedTuple):
    """A frame to be written at ``position``: its header, then zeros up to ``end``."""

    position: int
    header: bytes
    end: int


def lost_frames(seed: int, lost: Damage, append_time_ns: int) -> Iterator[LostFrame]:
    """The frames that mark ``lost``; as many as its offsets take, one as a rule.

    They fill its bytes exactly. Where it has none, because nothing is left
    there, they are as short as can be, and follow each other from its position.

    Args:
        seed: The seed of the segment's header CRCs.
        lost: What is lost; its bytes have room, see `lost_bytes`.
        append_time_ns: The append time of the frame before.
    """
    offset, position = lost.first_offset, lost.position
    while offset < lost.next_offset:
        count = min(lost.next_offset - offset, _OFFSETS_MAX)
        last = offset + count == lost.next_offset
        end = max(position + FRAME_HEADER_BYTES, lost.end if last else 0)
        size = end - position - FRAME_HEADER_BYTES
        header = encode_header(
            seed,
            size,
            offset,
            0,
            append_time_ns,
            crc_of_zeros(size),
            attributes=ATTRIBUTE_LOST,
            # All before it is on the device.
            durable_through=offset,
            last_offset_delta=count - 1,
        )
        yield LostFrame(position, header, end)
        offset, position = offset + count, end


def lost_bytes(lost: Damage) -> int:
    """How many bytes the frames that mark ``lost`` take at least."""
    return -(-(lost.next_offset - lost.first_offset) // _OFFSETS_MAX) * FRAME_HEADER_BYTES


def crc_of_zeros(size: int) -> int:
    """The CRC32C of so many zero bytes."""
    crc = 0
    while size > 0:
        crc = crc32c(_ZEROS[:size], crc)
        size -= len(_ZEROS)
    return crc
