"""Bits flip, sectors are lost, files are cut, swapped and put back: damage is told, never hidden.

Below what is known to be durable: `DataLoss` with the range, or a refusal, and
the neighbours stay readable. Beyond it: cut off, reported, and kept aside.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.errors import ChannelFailed, ChannelReadOnly
from mq.log.format import HEADER_BYTES, SEAL_BYTES
from mq.log.log import Log
from tests.log.batches import (
    Clock,
    Record,
    append,
    batch,
    files_in,
    fill,
    numbered,
    open_log,
    read_all,
    rounds,
    seeded_ids,
)
from tests.log.breaking import flip, overwrite, read_past_damage

SEGMENT_BYTES = 4096
FIRST = "00000000000000000000.seg"


FRAME_BYTES = batch(*numbered(0, 3)).frame_bytes


def make(path: Path, batches: int, *, clean: bool) -> list[Record]:
    """A log of batches of three, each FRAME_BYTES long; stopped, or left as by a kill."""
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    fill(log, batches)
    records = read_all(log)
    if clean:
        log.close()
    return records


def frame_at(number: int) -> int:
    """The position of a frame in its segment."""
    return HEADER_BYTES + number * FRAME_BYTES


def check(path: Path, records: list[Record], *, lost_max: int = 3) -> Log | None:
    """The oracle: every record is there, told to be lost, or all is refused untouched."""
    before = files_in(path)
    try:
        log = open_log(path, segment_bytes=SEGMENT_BYTES)
    except ChannelFailed:
        assert files_in(path) == before
        return None
    found, lost = read_past_damage(log)
    assert found.keys().isdisjoint(lost)
    assert len(lost) <= lost_max
    for record in records:
        if record.offset in found:
            assert found[record.offset] == record.content
        else:
            assert record.offset in lost or record.offset >= log.durable_offset
    return log


def check_goes_on(path: Path, log: Log) -> None:
    """Appending goes on, and a restart finds the same."""
    before = read_past_damage(log)
    if log.read_only_reason is not None:
        with pytest.raises(ChannelReadOnly):
            log.sync()
        return
    base = append(log)
    log.sync()
    log.close()
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    found, lost = read_past_damage(log)
    assert lost == before[1]
    assert list(found) == [*before[0], base, base + 1, base + 2]


# ---- One bit ------------------------------------------------------------------


@pytest.mark.timeout(rounds(600, 3600))
def test_each_bit_of_a_stopped_log(ram_path: Path) -> None:
    """After a clean stop everything was durable: nothing is lost but the frame of the bit."""
    path = ram_path / "log"
    records = make(path, 5, clean=True)
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    end = frame_at(5)
    for bit in [*range(0, (end + 2) * 8, rounds(7, 1)), (SEGMENT_BYTES - 1) * 8]:
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        flip(path / FIRST, bit)
        log = check(path, records)
        if log is None:
            assert bit < HEADER_BYTES * 8
            continue
        assert log.durable_offset == 15
        found, lost = read_past_damage(log)
        assert found.keys() | lost == set(range(15))
        assert bool(lost) == (HEADER_BYTES * 8 <= bit < end * 8), f"bit {bit}"
        if lost:
            assert [d[:2] for d in log.damage] == [(min(lost), max(lost) + 1)]
        check_goes_on(path, log)


@pytest.mark.timeout(rounds(600, 3600))
def test_each_bit_of_a_killed_log(ram_path: Path) -> None:
    """Without a checkpoint, the last batch may look torn; the ones before it can't."""
    path = ram_path / "log"
    records = make(path, 5, clean=False)
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    for bit in range(HEADER_BYTES * 8, frame_at(5) * 8, rounds(7, 1)):
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        flip(path / FIRST, bit)
        log = check(path, records)
        assert log is not None
        damaged = (bit // 8 - HEADER_BYTES) // FRAME_BYTES
        _, lost = read_past_damage(log)
        if damaged < 4:
            assert lost == set(range(3 * damaged, 3 * damaged + 3))
            assert log.durable_offset == 15
        else:
            assert not lost
            assert log.durable_offset == 12
            assert "never acknowledged" in log.notices[0]
            assert len(list(path.glob("*.torn"))) == 1
        check_goes_on(path, log)


@pytest.mark.timeout(rounds(600, 3600))
@pytest.mark.parametrize("indexed", (True, False))
def test_bits_of_sealed_segments(ram_path: Path, indexed: bool) -> None:
    """One frame is lost, whichever bit of whichever segment; with the index or without."""
    path = ram_path / "log"
    records = make(path, 60, clean=True)
    if not indexed:
        for index in path.glob("*.idx"):
            index.unlink()
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    segments = sorted(p.name for p in path.glob("*.seg"))
    assert len(segments) >= 4
    source = random.Random(4)
    for _ in range(rounds(150, 4000)):
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        name = source.choice(segments[:-1])
        flip(path / name, source.randrange(8 * SEGMENT_BYTES))
        log = check(path, records)
        if log is not None:
            found, lost = read_past_damage(log)
            assert found.keys() | lost == set(range(180))
            check_goes_on(path, log)


@pytest.mark.timeout(rounds(600, 3600))
def test_many_bits(ram_path: Path) -> None:
    """Twenty bits flipped anywhere in the frames cost at most twenty frames."""
    path = ram_path / "log"
    records = make(path, 100, clean=True)
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    for seed in range(rounds(25, 1000)):
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        source = random.Random(seed)
        segments = sorted(path.glob("*.seg"))
        for _ in range(20):
            segment = source.choice(segments)
            end = len(segment.read_bytes()[:-SEAL_BYTES].rstrip(b"\0"))
            flip(segment, source.randrange(HEADER_BYTES * 8, end * 8))
        log = check(path, records, lost_max=60)
        assert log is not None, seed
        found, lost = read_past_damage(log, max_bytes=source.choice((1, 500, 100_000)))
        assert found.keys() | lost == set(range(300))


# ---- Sectors and ends ---------------------------------------------------------


@pytest.mark.timeout(rounds(600, 3600))
@pytest.mark.parametrize("clean", (True, False))
@pytest.mark.parametrize("fill_with", (b"\0", b"\xa5"))
def test_each_sector(ram_path: Path, clean: bool, fill_with: bytes) -> None:
    """A sector of zeros or garbage costs the frames that it touches, and no more."""
    path = ram_path / "log"
    records = make(path, 60, clean=clean)
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    for name in sorted(p.name for p in path.glob("*.seg")):
        for sector in range(SEGMENT_BYTES // 512):
            shutil.rmtree(path)
            shutil.copytree(saved, path)
            overwrite(path / name, sector * 512, fill_with * 512)
            log = check(path, records, lost_max=12)
            if log is not None:
                check_goes_on(path, log)


@pytest.mark.timeout(rounds(600, 3600))
@pytest.mark.parametrize("clean", (True, False))
@pytest.mark.parametrize("cut", (True, False))
def test_the_tail_is_lost_at_each_byte(ram_path: Path, clean: bool, cut: bool) -> None:
    """Truncated or zeroed: below what was durable it is refused or told, beyond it is cut."""
    path = ram_path / "log"
    records = make(path, 4, clean=clean)
    saved = ram_path / "saved"
    shutil.copytree(path, saved)
    content = (path / FIRST).read_bytes()
    end = frame_at(4)
    for position in [*range(0, end + 3, rounds(3, 1)), len(content) - 1]:
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        if cut:
            with (path / FIRST).open("r+b") as file:
                file.truncate(position)
        else:
            overwrite(path / FIRST, position, bytes(len(content) - position))
        log = check(path, records, lost_max=12)
        if position >= end:
            assert log is not None
            assert log.durable_offset == 12
            assert not log.damage
        elif log is not None:
            # Zeros that are cut off or overwritten with zeros are no loss.
            left = (path / FIRST).read_bytes().ljust(SEGMENT_BYTES, b"\0")
            whole = 0
            while whole < 4 and left[: frame_at(whole + 1)] == content[: frame_at(whole + 1)]:
                whole += 1
            found, lost = read_past_damage(log)
            assert sorted(found) == list(range(3 * whole))
            if clean:
                # The checkpoint knows what was there.
                assert log.durable_offset == 12
                assert lost == set(range(3 * whole, 12))
            else:
                assert not lost
        if log is not None:
            check_goes_on(path, log)


def test_an_older_copy_of_the_active_segment(ram_path: Path) -> None:
    """What the checkpoint knows to be durable is missing: told, and nothing is appended."""
    path = ram_path / "log"
    make(path, 2, clean=False)
    old = (path / FIRST).read_bytes()
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    fill(log, 3)
    log.close()
    (path / FIRST).write_bytes(old)
    before = files_in(path)
    for _ in range(2):
        log = open_log(path, segment_bytes=SEGMENT_BYTES)
        assert "offsets 6 to 14 were stored and are gone" in str(log.read_only_reason)
        found, lost = read_past_damage(log)
        assert (set(found), lost) == (set(range(6)), set(range(6, 15)))
        assert [d[:2] for d in log.damage] == [(6, 15)]
        assert log.durable_offset == log.end_offset == 15
        (refused,) = log.append([batch(b"x")])
        assert isinstance(refused, ChannelReadOnly)
        log.plan_checkpoint()()
        with pytest.raises(ChannelReadOnly):
            log.close()
        assert files_in(path) == before


# ---- Frames where they don't belong --------------------------------------------


def test_a_frame_copied_elsewhere_in_its_segment(ram_path: Path) -> None:
    """It has the wrong offset there: only the frame it was written over is lost."""
    path = ram_path / "log"
    records = make(path, 5, clean=True)
    content = (path / FIRST).read_bytes()
    for source, target in ((1, 3), (3, 1), (0, 4), (4, 0)):
        (path / FIRST).write_bytes(content)
        copied = content[frame_at(source) : frame_at(source + 1)]
        overwrite(path / FIRST, frame_at(target), copied)
        log = check(path, records)
        assert log is not None
        found, lost = read_past_damage(log)
        assert lost == set(range(3 * target, 3 * target + 3))
        assert len(found) == 12


@pytest.mark.parametrize("clean", (True, False))
def test_a_frame_copied_behind_the_end(ram_path: Path, clean: bool) -> None:
    """What was there once is not there again."""
    path = ram_path / "log"
    records = make(path, 3, clean=clean)
    content = (path / FIRST).read_bytes()
    for source in range(3):
        (path / FIRST).write_bytes(content)
        copied = content[frame_at(source) : frame_at(source + 1)]
        overwrite(path / FIRST, frame_at(3), copied)
        log = check(path, records, lost_max=0)
        assert log is not None
        assert read_all(log) == records
        assert "never acknowledged" in log.notices[0]


def test_a_frame_of_another_segment_or_channel(ram_path: Path) -> None:
    """Its header's seed is another: it is no frame here."""
    path, other = ram_path / "log", ram_path / "other"
    records = make(path, 3, clean=False)
    log = open_log(other, random_id=seeded_ids(99))
    fill(log, 6)
    stranger = (other / FIRST).read_bytes()
    # The very frame that would come next, with the offset and time that fit.
    overwrite(path / FIRST, frame_at(3), stranger[frame_at(3) : frame_at(4)])
    log = check(path, records, lost_max=0)  # type: ignore[assignment]
    assert read_all(log) == records
    assert "never acknowledged" in log.notices[0]


def test_frames_inside_a_message_are_not_taken_for_frames(ram_path: Path) -> None:
    """A channel's own bytes published into it don't come up when the frame around them breaks."""
    path = ram_path / "log"
    log = open_log(path, clock=Clock())
    fill(log, 3)
    result = log.read(0, 1 << 20)
    assert result is not None
    embedded = result.join()
    log.append([batch(embedded)])
    fill(log, 1)
    log.close()
    position = HEADER_BYTES + len(embedded)
    for at in (position + 20, position + 90):
        overwrite(path / FIRST, at, b"\xff")
        log = open_log(path)
        found, lost = read_past_damage(log)
        assert lost == {9}
        assert set(found) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}


# ---- Whole files --------------------------------------------------------------


def test_a_middle_segment_is_missing(ram_path: Path) -> None:
    """A gap is refused."""
    path = ram_path / "log"
    make(path, 60, clean=True)
    sorted(path.glob("*.seg"))[1].unlink()
    with pytest.raises(ChannelFailed, match="a segment is missing or old"):
        open_log(path)


def replaced(path: Path, change: Callable[[list[Path]], None], match: str) -> None:
    """Change a log's segments: that is refused, and nothing is touched."""
    make(path, 60, clean=True)
    segments = sorted(path.glob("*.seg"))
    change(segments)
    before = files_in(path)
    with pytest.raises(ChannelFailed, match=match):
        open_log(path)
    assert files_in(path) == before


def test_the_first_segment_is_missing(ram_path: Path) -> None:
    """The checkpoint knows where the log begins."""
    replaced(ram_path / "log", lambda s: s[0].unlink(), "the log begins at 0: a segment is missing")


def test_the_last_segment_is_missing(ram_path: Path) -> None:
    """The checkpoint knows which is the last."""
    replaced(ram_path / "log", lambda s: s[-1].unlink(), "seg is missing")


def test_all_segments_are_missing(ram_path: Path) -> None:
    """The checkpoint knows that there were some."""

    def remove(segments: list[Path]) -> None:
        for segment in segments:
            segment.unlink()

    replaced(ram_path / "log", remove, "all segments are missing")


def test_two_segments_are_swapped(ram_path: Path) -> None:
    """Each says itself which it is."""

    def swap(segments: list[Path]) -> None:
        one, two = segments[1].read_bytes(), segments[2].read_bytes()
        segments[1].write_bytes(two)
        segments[2].write_bytes(one)

    replaced(ram_path / "log", swap, "holds offsets from")


def test_a_segment_of_another_history(ram_path: Path) -> None:
    """The same offsets, times and sizes, and yet not the one that was written there."""
    other = open_log(ram_path / "other", segment_bytes=SEGMENT_BYTES, random_id=seeded_ids(7))
    fill(other, 60)
    strangers = sorted((ram_path / "other").glob("*.seg"))

    def replace(segments: list[Path]) -> None:
        segments[1].write_bytes(strangers[1].read_bytes())

    replaced(ram_path / "log", replace, "was not written after")


def test_the_last_segment_is_of_another_history(ram_path: Path) -> None:
    """The checkpoint knows the last one's id, as its neighbour's chain does the others'."""
    path, other = ram_path / "log", ram_path / "other"
    make(path, 3, clean=True)
    log = open_log(other, random_id=seeded_ids(7))
    fill(log, 3)
    shutil.copy(other / FIRST, path / FIRST)
    with pytest.raises(ChannelFailed, match="was replaced by another"):
        open_log(path)


def test_an_older_copy_of_a_sealed_segment(ram_path: Path) -> None:
    """From before it was sealed: it ends too early, and is refused."""
    path = ram_path / "log"
    make(path, 5, clean=False)
    old = (path / FIRST).read_bytes()
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    fill(log, 60)
    log.close()
    (path / FIRST).write_bytes(old)
    with pytest.raises(ChannelFailed, match="a segment is missing or old"):
        open_log(path)


def test_a_segment_of_another_channel(ram_path: Path) -> None:
    """It is refused by the id in its header."""
    path = ram_path / "log"
    path.mkdir()
    log = Log(path, b"another channel!", segment_bytes=SEGMENT_BYTES)
    fill(log, 1)
    with pytest.raises(ChannelFailed, match="belongs to another channel"):
        open_log(path)


@pytest.mark.parametrize("which", (0, 1, -1))
def test_a_newer_format(ram_path: Path, which: int) -> None:
    """Refused with a word on what to do, and not a byte changed."""
    from mq.log.envelope import encode_segment_header, parse_segment_header

    def renew(segments: list[Path]) -> None:
        raw = segments[which].read_bytes()
        header = parse_segment_header(raw[:HEADER_BYTES])
        assert header is not None
        newer = encode_segment_header(header._replace(format_version=2))
        overwrite(segments[which], 0, newer[:110] + b"new" + newer[113:])

    replaced(ram_path / "log", renew, r"has format 2, .* use the version that wrote it, or a later")


# ---- Footers and headers ------------------------------------------------------


@pytest.mark.timeout(rounds(600, 3600))
def test_each_bit_of_a_footer(ram_path: Path) -> None:
    """Nothing is lost but time: the segment is read whole."""
    path = ram_path / "log"
    records = make(path, 60, clean=True)
    segment = sorted(path.glob("*.seg"))[1]
    for bit in range(128 * 8):
        flip(segment, (SEGMENT_BYTES - 128) * 8 + bit)
        log = open_log(path, segment_bytes=SEGMENT_BYTES)
        assert log.notices == [
            f"the footer of segment {segment.name} is damaged; it was read whole"
        ]
        if bit % 64 == 0:
            assert read_all(log) == records
            assert log.seek_time(0) == 0
        flip(segment, (SEGMENT_BYTES - 128) * 8 + bit)


@pytest.mark.parametrize("frame", (0, 3, -1))
@pytest.mark.parametrize("at", (10, 90))
def test_a_footer_and_a_frame(ram_path: Path, frame: int, at: int) -> None:
    """Both damaged: the frame is told to be lost, at once, and the rest is readable."""
    path = ram_path / "log"
    records = make(path, 60, clean=True)
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    segment = log.segments[1]
    frames = segment.frame_count
    number = frame % frames
    first = segment.base_offset + 3 * number
    overwrite(segment.path, SEGMENT_BYTES - 20, b"\xff")
    overwrite(segment.path, frame_at(number) + at, b"\xff\xff")
    for _ in range(2):
        log = check(path, records)  # type: ignore[assignment]
        assert [d[:2] for d in log.damage] == [(first, first + 3)]
        assert f"offsets {first} to {first + 2} are damaged" in log.notices[1]
        for index in path.glob("*.idx"):
            index.unlink()


def test_a_header_is_recovered_from_the_footer(ram_path: Path) -> None:
    """All that a header says is known from elsewhere."""
    path = ram_path / "log"
    records = make(path, 60, clean=True)
    segments = sorted(path.glob("*.seg"))
    for segment in segments[:-1]:
        overwrite(segment, 0, bytes(HEADER_BYTES))
    log = open_log(path, segment_bytes=SEGMENT_BYTES)
    assert read_all(log) == records
    assert len(log.notices) == len(segments) - 1


def test_a_header_is_recovered_from_the_checkpoint(ram_path: Path) -> None:
    """The active segment has no footer yet; without a checkpoint too it is refused."""
    path = ram_path / "log"
    records = make(path, 3, clean=True)
    overwrite(path / FIRST, 0, b"\xff")
    log = open_log(path)
    assert read_all(log) == records
    assert "its id was recovered" in log.notices[0]
    (path / "checkpoint").unlink()
    with pytest.raises(ChannelFailed, match=r"the header of segment .* is damaged"):
        open_log(path)
