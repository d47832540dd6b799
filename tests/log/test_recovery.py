"""The verdict on the end of a log, as a pure function of its bytes."""

from __future__ import annotations

from crc32c import crc32c

from mq.log.envelope import encode_padding_prefix
from mq.log.format import HEADER_BYTES, SEAL_BYTES
from mq.log.frames import encode_header, segment_seed
from mq.log.recovery import Tail, padding_begin, scan_tail
from mq.log.walk import Bound, Damage

SEED = segment_seed(b"0123456789abcdef")
CAPACITY = 1 << 16
START = Bound(100, HEADER_BYTES)
RECORDS = b"ten bytes."
FRAME_BYTES = 82 + len(RECORDS)


def frame(number: int, durable: int | None = None, time_ns: int = 50) -> bytes:
    """The frame of two records at offset 100 + 2 * number, which knows the one before."""
    base = 100 + 2 * number
    return (
        encode_header(
            SEED,
            len(RECORDS),
            base,
            2,
            time_ns,
            crc32c(RECORDS),
            durable_through=base if durable is None else durable,
        )
        + RECORDS
    )


def torn(number: int, durable: int = 100) -> bytes:
    """A frame whose records are not there."""
    return frame(number, durable)[:82] + bytes(10)


LOST = b"\xff" * FRAME_BYTES


def at(number: int) -> int:
    """The position of a frame."""
    return HEADER_BYTES + number * FRAME_BYTES


def scan(data: bytes, offset: int = 100, position: int = 0) -> Tail:
    """Judge data that begins with frame 0; ``offset`` and ``position`` are vouched for."""
    return scan_tail(data + bytes(82), START, SEED, CAPACITY, 0, Bound(offset, position))


def summary(
    tail: Tail,
) -> tuple[list[int], Bound, list[Damage], tuple[int, int] | None, int | None]:
    """What of a verdict is compared."""
    frames = [f.base_offset for f in tail.frames]
    return frames, tail.end, tail.damage, tail.torn, tail.lost_through


def test_nothing() -> None:
    """Is the end."""
    assert summary(scan(b"")) == ([], START, [], None, None)


def test_sound_frames() -> None:
    """Are all of it, durable or not."""
    tail = scan(frame(0) + frame(1, 100) + frame(2, 100))
    assert summary(tail) == ([100, 102, 104], Bound(106, at(3)), [], None, None)
    assert tail.last_append_time_ns == 50


def test_an_unfinished_frame() -> None:
    """Is cut, and what follows it too, sound or not: the pages came in another order."""
    for rest in (frame(2, 102), frame(2, 102) + frame(3, 102), b"", b"\xff" * 500):
        for unfinished in (torn(1), LOST, frame(1)[:50].ljust(FRAME_BYTES, b"\0")):
            data = frame(0) + unfinished + rest
            end = at(0) + len(data.rstrip(b"\0"))
            expected: object = ([100], Bound(102, at(1)), [], (at(1), end), None)
            assert summary(scan(data)) == expected


def test_zeros_before_sound_frames() -> None:
    """The first page of a group was not written, the last one was: it is cut."""
    data = frame(0) + bytes(FRAME_BYTES) + frame(2, 102)
    assert summary(scan(data)) == ([100], Bound(102, at(1)), [], (at(1), at(3)), None)


def test_damage_that_a_later_frame_vouches_for() -> None:
    """Was durable by its time."""
    for lost in (LOST, bytes(FRAME_BYTES)):
        tail = scan(frame(0) + lost + frame(2, 104))
        damage = [Damage(102, 104, at(1), at(2))]
        assert summary(tail) == ([100, 104], Bound(106, at(3)), damage, None, None)
    tail = scan(frame(0) + torn(1) + frame(2, 104))
    assert summary(tail)[2] == [Damage(102, 104, at(1), at(2))]
    assert [f.base_offset for f in tail.headers] == [100, 102, 104]


def test_damage_that_an_unsound_frame_vouches_for() -> None:
    """A header says what was durable, whatever became of its records."""
    tail = scan(frame(0) + LOST + torn(2, 104))
    damage = [Damage(102, 104, at(1), at(2))]
    expected = ([100], Bound(104, at(2)), damage, (at(2), at(2) + 82 - 1), None)
    assert summary(tail)[:3] == expected[:3]
    assert tail.torn is not None
    assert tail.lost_through is None


def test_damage_that_the_checkpoint_vouches_for() -> None:
    """Also at the very end, where its position is known; what follows is torn."""
    tail = scan(frame(0) + LOST + LOST, 104, at(2))
    damage = [Damage(102, 104, at(1), at(2))]
    assert summary(tail) == ([100], Bound(104, at(2)), damage, (at(2), at(3)), None)


def test_damage_across_the_durable_offset() -> None:
    """Is damage up to it, and torn from there, where the position is known."""
    data = frame(0) + LOST + LOST + frame(3, 104)
    tail = scan(data, 104, at(2))
    damage = [Damage(102, 104, at(1), at(2))]
    assert summary(tail) == ([100], Bound(104, at(2)), damage, (at(2), at(4)), None)
    # Where it is not, what lies behind can be kept, and hides nothing.
    tail = scan(data, 104)
    damage = [Damage(102, 106, at(1), at(3))]
    assert summary(tail) == ([100, 106], Bound(108, at(4)), damage, None, None)


def test_what_is_gone() -> None:
    """Zeros where something durable was: an older file, and nothing to go on from."""
    for position in (0, at(3)):
        tail = scan(frame(0), 106, position)
        assert summary(tail) == ([100], Bound(102, at(1)), [], None, 106)
    tail = scan(frame(0) + LOST, 106)
    assert summary(tail) == ([100], Bound(102, at(1)), [], (at(1), at(2)), 106)


def test_time_that_goes_back() -> None:
    """A frame of before is not the next one, however sound."""
    tail = scan(frame(0, time_ns=60) + frame(1, time_ns=59))
    assert summary(tail) == ([100], Bound(102, at(1)), [], (at(1), at(2)), None)
    tail = scan(frame(0, time_ns=60) + frame(1, time_ns=59) + frame(2, 104, time_ns=61))
    assert summary(tail)[2] == [Damage(102, 104, at(1), at(2))]


def test_a_stale_frame_in_the_place_of_the_next() -> None:
    """A frame written twice is there once."""
    tail = scan(frame(0) + frame(0) + frame(1))
    assert tail.end == Bound(102, at(1))
    tail = scan(frame(0) + frame(0) + frame(1, 102) + frame(2, 104))
    assert [f.base_offset for f in tail.frames] in ([100], [100, 102, 104])


def test_a_seal_that_got_no_further_than_its_padding() -> None:
    """Is no torn tail where it fits the end; elsewhere it is."""
    padding = encode_padding_prefix(at(1), CAPACITY)
    assert summary(scan(frame(0) + padding)) == ([100], Bound(102, at(1)), [], None, None)
    data = frame(0) + bytes(FRAME_BYTES) + encode_padding_prefix(at(2), CAPACITY)
    tail = scan(data)
    assert tail.end == Bound(102, at(1))
    assert tail.torn == (at(1), at(0) + len(data.rstrip(b"\0")))


def test_where_padding_begins() -> None:
    """At its prefix, if that is the last thing there; else where the content ends."""
    for number in range(1, 5):
        data = b"".join(frame(n) for n in range(number))
        padding = encode_padding_prefix(at(number), CAPACITY)
        assert padding_begin(data + padding + bytes(90), HEADER_BYTES, CAPACITY) == at(number)
        assert padding_begin(data + bytes(90), HEADER_BYTES, CAPACITY) == at(number)
        assert padding_begin(data + padding[:3], HEADER_BYTES, CAPACITY) == at(number) + 3
    assert padding_begin(b"", HEADER_BYTES, CAPACITY) == HEADER_BYTES
    assert padding_begin(bytes(50), HEADER_BYTES, CAPACITY) == HEADER_BYTES
    for capacity in range(200, 300):
        data = b"\x6a\x80\x80\x80\x80\x00"
        found = padding_begin(data, HEADER_BYTES, capacity)
        fits = capacity == HEADER_BYTES + SEAL_BYTES
        assert found == (HEADER_BYTES if fits else HEADER_BYTES + 5)


def test_records_that_look_like_padding_are_records() -> None:
    """A frame that ends with a padding's prefix is read whole."""
    end = HEADER_BYTES + 82 + 6
    records = encode_padding_prefix(end - 6, CAPACITY)
    header = encode_header(SEED, len(records), 100, 2, 50, crc32c(records))
    tail = scan(header + records)
    assert summary(tail) == ([100], Bound(102, end), [], None, None)
