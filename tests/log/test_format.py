"""The bytes of format 1. The hex here is what is on disks out there: it never changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.log import format as fmt
from mq.log.checkpoint import Checkpoint
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
    parse_segment_footer,
    parse_segment_header,
)
from mq.log.frames import encode_header, parse_header, segment_seed
from mq.log.index import SparseIndex

SEGMENT_ID = bytes(range(0x20, 0x30))
HEADER = SegmentHeader(
    base_offset=0x0102030405060708,
    capacity_bytes=0x1112131415161718,
    created_ns=0x2122232425262728,
    channel_id=bytes(range(0x30, 0x40)),
    segment_id=SEGMENT_ID,
    previous_segment_id=bytes(range(0x40, 0x50)),
)
FOOTER = SegmentFooter(
    base_offset=0x0102030405060708,
    end_offset=0x0102030405060999,
    end_position=0x3132333435363738,
    frame_count=0x4142434445464748,
    first_append_time_ns=0x5152535455565758,
    last_append_time_ns=0x6162636465666768,
    segment_id=SEGMENT_ID,
)
CHECKPOINT = Checkpoint(
    segment_base=7,
    segment_id=SEGMENT_ID.hex(),
    position=128,
    durable_offset=9,
    last_append_time_ns=11,
    log_start_offset=1,
    index_count=1,
    frame_count=2,
    clean=True,
    producers=[[5, [[1, 2, 3, 4, 5]]]],
)


def frame_header() -> bytes:
    """A frame header with every field different."""
    return encode_header(
        segment_seed(SEGMENT_ID),
        records_size=300,
        base_offset=0x0102030405060708,
        record_count=0x11121314,
        append_time_ns=0x2122232425262728,
        records_crc=0x31323334,
        attributes=3,
        producer_id=0x4142434445464748,
        sequence=0x5152535455565758,
        durable_through=0x0102030405060700,
        last_offset_delta=0x11121315,
    )


def index() -> SparseIndex:
    """An index of two entries."""
    made = SparseIndex()
    made.add(7, 128, 1_000)
    made.add(12, 128 + 4096, 2_000)
    return made


# Written down once, when format 1 was made.
GOLDEN = {
    "header": (
        "72fa80808000094d515345474d4e5415010000001908070605040302012118171615141312112928"
        "272625242322213210303132333435363738393a3b3c3d3e3f3a10202122232425262728292a2b2c"
        "2d2e2f4210404142434445464748494a4b4c4d4e4f4d05b839ad7a14000000000000000000000000"
        "0000000000000000"
    ),
    "frame": (
        "0af88280800009080706050403020115151312111d141312112128272625242322212d0300000031"
        "48474645444342413958575655545352514100070605040302014d3433323155867ba45d7aac8280"
        "8000"
    ),
    "footer": (
        "7afa8080800009080706050403020111990906050403020119383736353433323121484746454443"
        "42412958575655545352513168676665646362613a10202122232425262728292a2b2c2d2e2f4591"
        "fc33737a2b0000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000"
    ),
    "padding": ("6a92f7ff9f00"),
    "index": (
        "4d5153454749445801000000865975dc202122232425262728292a2b2c2d2e2f0200000000000000"
        "07000000000000000c0000000000000080000000000000008010000000000000e803000000000000"
        "d007000000000000"
    ),
    "checkpoint": (
        "35366339336166380a7b22666f726d6174223a20312c20227365676d656e745f62617365223a2037"
        "2c20227365676d656e745f6964223a20223230323132323233323432353236323732383239326132"
        "623263326432653266222c2022706f736974696f6e223a203132382c202264757261626c655f6f66"
        "66736574223a20392c20226c6173745f617070656e645f74696d655f6e73223a2031312c20226c6f"
        "675f73746172745f6f6666736574223a20312c2022696e6465785f636f756e74223a20312c202266"
        "72616d655f636f756e74223a20322c2022636c65616e223a20747275652c202270726f6475636572"
        "73223a205b5b352c205b5b312c20322c20332c20342c20355d5d5d5d7d0a"
    ),
}


def encode(kind: str) -> bytes:
    """The bytes of each part of the format."""
    made: dict[str, bytes] = {
        "header": encode_segment_header(HEADER),
        "frame": frame_header(),
        "footer": encode_segment_footer(FOOTER),
        "padding": encode_padding_prefix(1000, 1 << 26),
        "index": index().encode(SEGMENT_ID),
        "checkpoint": CHECKPOINT.encode(),
    }
    return made[kind]


def slow_crc32c(data: bytes, seed: int = 0) -> int:
    """CRC32C bit by bit, as its definition has it."""
    crc = seed ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("kind", tuple(GOLDEN))
def test_bytes_are_those_of_format_1(kind: str) -> None:
    """Every part is encoded as it always was."""
    assert encode(kind).hex() == GOLDEN[kind]


def test_format_1_is_read() -> None:
    """Every part of format 1 is decoded to what it was made of."""
    raw = {kind: bytes.fromhex(golden) for kind, golden in GOLDEN.items()}
    assert parse_segment_header(raw["header"]) == HEADER
    assert parse_segment_footer(raw["footer"]) == FOOTER
    assert Checkpoint.decode(raw["checkpoint"]) == CHECKPOINT
    frame = parse_header(raw["frame"] + bytes(300), 0, 382, segment_seed(SEGMENT_ID))
    assert frame is not None
    assert (frame.size, frame.end, frame.next_offset) == (382, 382, 0x0102030416181A1E)
    assert frame.record_count == 0x11121314
    assert frame.durable_through == 0x0102030405060700
    decoded = SparseIndex.decode(raw["index"], SEGMENT_ID)
    assert decoded is not None
    assert [decoded.base_offset(n) for n in range(decoded.count)] == [7, 12]
    assert [decoded.position(n) for n in range(decoded.count)] == [128, 4224]
    assert [decoded.append_time_ns(n) for n in range(decoded.count)] == [1_000, 2_000]


def test_checksums_are_crc32c() -> None:
    """The CRCs are what the documentation says they are, over the bytes it says."""
    raw = {kind: bytes.fromhex(golden) for kind, golden in GOLDEN.items()}

    def crc_at(kind: str, position: int) -> int:
        return int.from_bytes(raw[kind][position : position + 4], "little")

    assert slow_crc32c(b"123456789") == 0xE3069283
    assert crc_at("header", 102) == slow_crc32c(raw["header"][:101])
    assert crc_at("footer", 79) == slow_crc32c(raw["footer"][:78])
    assert crc_at("frame", 72) == slow_crc32c(raw["frame"][:71], slow_crc32c(SEGMENT_ID))
    assert crc_at("index", 12) == slow_crc32c(raw["index"][16:])
    crc, _, body = raw["checkpoint"].partition(b"\n")
    assert int(crc, 16) == slow_crc32c(body.rstrip(b"\n"))


def test_positions_in_the_documentation() -> None:
    """The dtype, the struct and the constants describe the same places."""
    raw = bytes.fromhex(GOLDEN["frame"])
    fields = np.frombuffer(raw, fmt.FRAME_DTYPE)[0]
    assert fields["base_offset"] == 0x0102030405060708
    assert fields["last_offset_delta"] == 0x11121315
    assert fields["record_count"] == 0x11121314
    assert fields["append_time_ns"] == 0x2122232425262728
    assert fields["attributes"] == 3
    assert fields["producer_id"] == 0x4142434445464748
    assert fields["sequence"] == 0x5152535455565758
    assert fields["durable_through"] == 0x0102030405060700
    assert fields["records_crc"] == 0x31323334
    assert raw[fmt.FRAME_CRC_END] == fmt.TAG_HEADER_CRC
    assert len(raw) == fmt.FRAME_HEADER_BYTES
    assert fmt.FRAME_PATTERN.match(raw)


def test_no_tag_is_zero() -> None:
    """A zero byte is never the start of anything."""
    tags = [value for name, value in vars(fmt).items() if name.startswith("TAG_")]
    assert len(tags) >= 14
    assert all(tags)


@pytest.mark.parametrize("kind", ("header", "footer"))
def test_each_flipped_bit_of_an_envelope_shows(kind: str) -> None:
    """Header and footer are refused with any one bit wrong, reserved bytes included."""
    raw = bytes.fromhex(GOLDEN[kind])
    parse = parse_segment_header if kind == "header" else parse_segment_footer
    for bit in range(len(raw) * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        assert parse(bytes(broken)) is None, f"bit {bit}"
    assert parse(raw[:-1]) is None
    assert parse(b"") is None


def test_a_newer_header_is_recognised() -> None:
    """The version of a newer format is read, whatever its reserved bytes hold by then."""
    newer = bytearray(encode_segment_header(HEADER._replace(format_version=2)))
    newer[110] = 1
    parsed = parse_segment_header(bytes(newer))
    assert parsed is not None
    assert parsed.format_version == 2


@pytest.mark.parametrize("kind", ("index", "checkpoint"))
def test_each_flipped_bit_of_a_hint_shows(kind: str) -> None:
    """Index and checkpoint are ignored with any one bit wrong, or cut short."""
    raw = bytes.fromhex(GOLDEN[kind])

    def decode(data: bytes) -> object:
        return (
            Checkpoint.decode(data)
            if kind == "checkpoint"
            else SparseIndex.decode(data, SEGMENT_ID)
        )

    assert decode(raw) is not None
    for bit in range(len(raw) * 8):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        same = kind == "checkpoint" and decode(bytes(broken)) == CHECKPOINT
        assert same or decode(bytes(broken)) is None, f"bit {bit}"
    for length in range(len(raw) - 1):
        assert decode(raw[:length]) is None
    assert decode(b"") is None


def test_a_checkpoint_of_another_version_is_ignored() -> None:
    """A sound checksum over fields that this version does not know is no checkpoint."""
    for body in (b'{"format": 1, "more": 1}', b'{"format": 2}', b"{}", b"[]", b"1", b"{"):
        raw = b"%08x\n%s\n" % (slow_crc32c(body), body)
        assert Checkpoint.decode(raw) is None


@given(st.integers(0, fmt.LENGTH_MAX))
def test_padded_varints(value: int) -> None:
    """Lengths are five bytes whatever they are, and read back."""
    raw = fmt.pad_varint(value)
    assert len(raw) == 5
    assert fmt.read_varint(raw) == value


@pytest.mark.parametrize("raw", (b"\0\0\0\0\0", b"\x80\x80\x80\x80\x08", b"\x80\x80\x80\0\0"))
def test_other_varints_are_refused(raw: bytes) -> None:
    """Shorter ones, and lengths past 2 GiB, are no lengths."""
    assert fmt.read_varint(raw) == -1


def test_segment_names() -> None:
    """Names sort as their offsets do, and only exact ones are taken for segments."""
    offsets = [0, 9, 10, 1 << 63, (1 << 64) - 1]
    names = [fmt.segment_name(offset) for offset in offsets]
    assert sorted(names) == names
    assert [fmt.parse_segment_name(name) for name in names] == offsets
    assert fmt.index_name(10) == "00000000000000000010.idx"
    arabic = "\N{ARABIC-INDIC DIGIT ONE}" * 20
    for other in (
        "1.seg",
        f"{arabic}.seg",
        "00000000000000000000.seg.tmp",
        "00000000000000000000.128-1.torn",
        "-0000000000000000001.seg",
        "00000000000000000000.idx",
        "checkpoint",
    ):
        assert fmt.parse_segment_name(other) is None
