"""Breaking a channel's files in every way, repairing them, and seeing that it serves again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.errors import RecordsLost
from mq.log.files import Files
from mq.log.format import HEADER_BYTES
from mq.log.layout import QUARANTINE_NAME
from mq.log.log import Log
from mq.log.repair.repair import repair_data_dir
from mq.log.repair.report import RepairReport
from mq.log.verify import verify_data_dir
from tests.log.batches import CHANNEL, FAST_FILES, append, batch, fill, numbered, open_log
from tests.log.breaking import put_channel_json, read_past_damage

SEGMENT_BYTES = 4096
FRAME_BYTES = batch(*numbered(0, 3)).frame_bytes
BATCHES = 60


def tree(path: Path) -> dict[str, bytes]:
    """All files of a directory but those in quarantine, by path."""
    files = (p for p in sorted(path.rglob("*")) if p.is_file())
    named = ((str(p.relative_to(path)), p) for p in files)
    return {n: p.read_bytes() for n, p in named if not n.startswith(QUARANTINE_NAME)}


def new_data_dir(path: Path) -> Path:
    """A data directory of one channel, without a log yet."""
    channel = path / "channels" / CHANNEL.hex()
    channel.mkdir(parents=True)
    (path / "format.json").write_text('{"format": 1, "id": "x"}\n')
    (path / "mq.lock").touch()
    put_channel_json(channel, "orders")
    return path


def channel_of(data_dir: Path) -> Path:
    """The channel's directory."""
    return data_dir / "channels" / CHANNEL.hex()


def make(data_dir: Path, batches: int = BATCHES, *, clean: bool = True) -> list[Path]:
    """Fill the channel; its segments."""
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    fill(log, batches)
    if clean:
        log.close()
    return sorted(channel_of(data_dir).glob("*.seg"))


def repair(data_dir: Path, files: Files = FAST_FILES) -> RepairReport:
    """Plan, see that planning changes nothing, repair as planned, and see that it is done."""
    before = tree(data_dir)
    planned = repair_data_dir(data_dir, files=files)
    assert tree(data_dir) == before
    done = repair_data_dir(data_dir, dry_run=False, files=files)
    assert [a.kind for a in done.actions] == [a.kind for a in planned.actions]
    assert done.verified is not None
    assert done.ok, list(done.lines())
    after = tree(data_dir)
    again = repair_data_dir(data_dir, dry_run=False, files=files)
    assert (again.actions, again.left, again.quarantine) == ([], [], None)
    assert tree(data_dir) == after
    json.dumps(done.to_json())
    return done


def check_serves(data_dir: Path, lost: set[int], end: int, size: int = 40) -> Log:
    """All but what is lost is there as it was, and appending goes on where it should."""
    log = open_log(channel_of(data_dir), segment_bytes=SEGMENT_BYTES)
    assert log.read_only_reason is None
    found, gone = read_past_damage(log)
    assert gone == lost
    first = log.log_start_offset
    assert found == {o: numbered(o, 1, size)[0] for o in range(first, end) if o not in lost}
    if lost:
        with pytest.raises(RecordsLost):
            log.read(min(lost), 100)
    assert append(log) == end
    log.sync()
    log.close()
    report = verify_data_dir(data_dir)
    assert report.ok
    assert report.logs[0].lost_records == len(lost)
    return log


def kinds(report: RepairReport) -> list[str]:
    """What was done."""
    return [action.kind for action in report.actions]


def offsets(path: Path, first_frame: int, count: int = 1) -> set[int]:
    """The offsets of some frames of a segment."""
    base = int(path.stem) + 3 * first_frame
    return set(range(base, base + 3 * count))


Change = Callable[[list[Path]], object]


def _swap(segments: list[Path]) -> None:
    one, two = segments[1].read_bytes(), segments[2].read_bytes()
    segments[1].write_bytes(two)
    segments[2].write_bytes(one)


def _three_turned(segments: list[Path]) -> None:
    contents = [segment.read_bytes() for segment in segments[:3]]
    for segment, each in zip(segments[:3], contents[1:] + contents[:1], strict=True):
        segment.write_bytes(each)


def _unlink(*numbers: int) -> Change:
    def change(segments: list[Path]) -> None:
        for number in numbers:
            segments[number].unlink()

    return change


def _edit(number: int, change: Callable[[bytes], bytes], suffix: str = ".seg") -> Change:
    def edit(segments: list[Path]) -> None:
        path = segments[number].with_suffix(suffix)
        path.write_bytes(change(path.read_bytes()))

    return edit


def _checkpoint(change: Callable[[bytes], bytes]) -> Change:
    def edit(segments: list[Path]) -> None:
        path = segments[0].with_name("checkpoint")
        path.write_bytes(change(path.read_bytes()))

    return edit


def _without_checkpoint(change: Change) -> Change:
    def edit(segments: list[Path]) -> None:
        segments[0].with_name("checkpoint").unlink()
        change(segments)

    return edit


def _flipped(position: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = position % len(content)
        return content[:at] + bytes((content[at] ^ 4,)) + content[at + 1 :]

    return change


FOOTER = SEGMENT_BYTES - 60
# The segments hold 18 frames of 3 records each; the last one 6.
CHANGES: dict[str, tuple[Change, list[str], set[int]]] = {
    "first header": (_edit(0, _flipped(60)), ["header"], set()),
    "middle header": (_edit(1, _flipped(60)), ["header"], set()),
    "last header": (_edit(-1, _flipped(60)), ["header"], set()),
    "last header, no checkpoint": (
        _without_checkpoint(_edit(-1, _flipped(60))),
        ["header", "checkpoint"],
        set(),
    ),
    "last header and first frame, no checkpoint": (
        _without_checkpoint(_edit(-1, lambda c: bytes(HEADER_BYTES + 90) + c[HEADER_BYTES + 90 :])),
        ["header", "mark-lost", "checkpoint"],
        set(range(162, 165)),
    ),
    "footer": (_edit(1, _flipped(FOOTER)), ["seal"], set()),
    "last footer but one": (_edit(-2, _flipped(FOOTER)), ["seal"], set()),
    "header and footer": (
        _edit(1, lambda c: _flipped(60)(_flipped(FOOTER)(c))),
        ["header", "seal"],
        set(),
    ),
    "padding": (_edit(1, _flipped(SEGMENT_BYTES - 140)), ["seal"], set()),
    "zeroed": (
        _edit(1, lambda c: bytes(len(c))),
        ["header", "mark-lost", "seal", "checkpoint"],
        set(range(54, 108)),
    ),
    "garbage": (
        _edit(1, lambda c: b"\xa5" * len(c)),
        ["header", "mark-lost", "seal", "checkpoint"],
        set(range(54, 108)),
    ),
    "empty": (
        _edit(1, lambda _: b""),
        ["header", "size", "mark-lost", "seal", "checkpoint"],
        set(range(54, 108)),
    ),
    "last empty": (
        _edit(-1, lambda _: b""),
        ["header", "size", "mark-lost", "checkpoint"],
        set(range(162, 180)),
    ),
    "first missing": (_unlink(0), ["add-segment", "checkpoint"], set(range(54))),
    "middle missing": (_unlink(1), ["add-segment", "checkpoint"], set(range(54, 108))),
    "two missing": (_unlink(1, 2), ["add-segment", "checkpoint"], set(range(54, 162))),
    "last missing": (_unlink(-1), ["add-segment", "checkpoint"], set(range(162, 180))),
    "last two missing": (_unlink(-1, -2), ["add-segment", "checkpoint"], set(range(108, 180))),
    "all missing": (_unlink(0, 1, 2, 3), ["add-segment", "checkpoint"], set(range(180))),
    "first and last missing": (
        _unlink(0, -1),
        ["add-segment", "add-segment", "checkpoint"],
        {*range(54), *range(162, 180)},
    ),
    "only a middle one left": (
        _unlink(0, 2, 3),
        ["add-segment", "add-segment", "checkpoint"],
        {*range(54), *range(108, 180)},
    ),
    "swapped": (_swap, ["rename"], set()),
    "three turned": (_three_turned, ["rename"], set()),
    "moved away": (
        lambda s: s[1].rename(s[1].with_name("00000000000000009999.seg")),
        ["rename"],
        set(),
    ),
    "last shortened": (_edit(-1, lambda c: c[:3000]), ["size"], set()),
    "last cut": (
        _edit(-1, lambda c: c[: HEADER_BYTES + 4 * FRAME_BYTES + 20]),
        ["size", "mark-lost", "checkpoint"],
        set(range(174, 180)),
    ),
    "sealed shortened": (_edit(1, lambda c: c[:4000]), ["size", "seal"], set()),
    "sealed cut": (
        _edit(1, lambda c: c[: HEADER_BYTES + 4 * FRAME_BYTES]),
        ["size", "mark-lost", "seal", "checkpoint"],
        set(range(66, 108)),
    ),
    "sealed cut in a frame": (
        _edit(1, lambda c: c[: HEADER_BYTES + 4 * FRAME_BYTES + 9]),
        ["size", "mark-lost", "seal", "checkpoint"],
        set(range(66, 108)),
    ),
    "lengthened": (_edit(1, lambda c: c + b"more"), ["size", "seal"], set()),
    "last lengthened": (_edit(-1, lambda c: c + bytes(4096)), ["size"], set()),
    "last zeroed behind a frame": (
        _edit(-1, lambda c: c[: HEADER_BYTES + FRAME_BYTES].ljust(len(c), b"\0")),
        ["mark-lost", "checkpoint"],
        set(range(165, 180)),
    ),
    "index flipped": (_edit(1, _flipped(50), ".idx"), ["index"], set()),
    "index empty": (_edit(1, lambda _: b"", ".idx"), ["index"], set()),
    "last index flipped": (_edit(-1, _flipped(50), ".idx"), ["checkpoint"], set()),
    "index missing": (lambda s: s[1].with_suffix(".idx").unlink(), ["index"], set()),
    "checkpoint flipped": (_checkpoint(_flipped(50)), ["checkpoint"], set()),
    "checkpoint empty": (_checkpoint(lambda _: b""), ["checkpoint"], set()),
}
