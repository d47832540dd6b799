"""Sound checksums over content that can't be: verification tells, opening refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from crc32c import crc32c

from mq.errors import ChannelFailed, DataDirError
from mq.log.checkpoint import Checkpoint
from mq.log.dump import dump_segment
from mq.log.envelope import (
    SegmentFooter,
    SegmentHeader,
    encode_padding_prefix,
    encode_segment_footer,
    encode_segment_header,
)
from mq.log.files import Handle
from mq.log.filewalk import FileReader
from mq.log.format import FOOTER_BYTES, FRAME_HEADER_BYTES, HEADER_BYTES, NO_ID, segment_name
from mq.log.frames import encode_header, segment_seed
from mq.log.report import size_text
from mq.log.verify import verify_data_dir, verify_log
from tests.log.batches import (
    CHANNEL,
    FAST_FILES,
    UnsyncedFiles,
    encode_records,
    fill,
    open_log,
)
from tests.log.breaking import put_channel_json

CAPACITY = 4096
RECORDS = encode_records([b"one", b"two"])
FRAME_BYTES = FRAME_HEADER_BYTES + len(RECORDS)


def segment_id(base: int) -> bytes:
    """The id of the segment at an offset."""
    return base.to_bytes(16, "little")


def frame(base: int, **changes: int) -> bytes:
    """A frame of two records, with other values in its header."""
    seed = segment_seed(segment_id(changes.pop("segment", 0) + 1))
    values: dict[str, int] = {
        "record_count": 2,
        "append_time_ns": 50,
        "records_crc": crc32c(RECORDS),
        "durable_through": base,
        **changes,
    }
    positional = [values.pop(n) for n in ("record_count", "append_time_ns", "records_crc")]
    return encode_header(seed, len(RECORDS), base, *positional, **values) + RECORDS


def forge(
    path: Path,
    frames: list[bytes],
    *,
    base: int = 0,
    previous: int | None = None,
    capacity: int = CAPACITY,
    **footer: int,
) -> Path:
    """Write a segment; sealed if anything of its footer is given."""
    path.mkdir(exist_ok=True)
    header = SegmentHeader(
        base_offset=base,
        capacity_bytes=capacity,
        created_ns=0,
        channel_id=CHANNEL,
        segment_id=segment_id(base + 1),
        previous_segment_id=NO_ID if previous is None else segment_id(previous + 1),
    )
    content = bytearray(CAPACITY)
    body = encode_segment_header(header) + b"".join(frames)
    content[: len(body)] = body
    if footer:
        sealed = SegmentFooter(
            base_offset=base,
            end_offset=base + 2 * len(frames),
            end_position=len(body),
            frame_count=len(frames),
            first_append_time_ns=50,
            last_append_time_ns=50,
            segment_id=header.segment_id,
        )
        sealed = sealed._replace(**footer)  # type: ignore[arg-type]
        padding = encode_padding_prefix(len(body), CAPACITY)
        content[len(body) : len(body) + len(padding)] = padding
        content[-FOOTER_BYTES:] = encode_segment_footer(sealed)
    file = path / segment_name(base)
    file.write_bytes(content)
    return file


def put_checkpoint(path: Path, **changes: object) -> None:
    """Write a checkpoint of the segment at 0."""
    values: dict[str, object] = {
        "segment_base": 0,
        "segment_id": segment_id(1).hex(),
        "position": HEADER_BYTES,
        "durable_offset": 0,
        "last_append_time_ns": 0,
        "log_start_offset": 0,
        "index_count": 0,
        "frame_count": 0,
        **changes,
    }
    made = Checkpoint(**values)  # type: ignore[arg-type]
    (path / "checkpoint").write_bytes(made.encode())


def kinds(path: Path) -> list[str]:
    """What verification finds, but for indexes, which are not forged here."""
    return [f.kind for f in verify_log(path).findings if f.kind != "index-missing"]


@pytest.fixture
def path(ram_path: Path) -> Path:
    """Where the log goes."""
    return ram_path / "log"


def test_the_forgery_itself_is_sound(path: Path) -> None:
    """What is changed below is all that is wrong."""
    forge(path, [frame(0), frame(2)], frame_count=2)
    forge(path, [frame(4, segment=4)], base=4, previous=0)
    assert kinds(path) == []
    assert open_log(path).durable_offset == 6


@pytest.mark.parametrize(
    "changes",
    (
        {"record_count": 3, "last_offset_delta": 1},
        {"durable_through": 3},
    ),
)
def test_headers_that_make_no_sense(path: Path, changes: dict[str, int]) -> None:
    """More records than offsets, or durable before it was written."""
    forge(path, [frame(0), frame(2, **changes), frame(4)])
    assert kinds(path) == ["frame-fields"]


@pytest.mark.parametrize(
    "footer",
    (
        {"frame_count": 3},
        {"last_append_time_ns": 49},
        {"first_append_time_ns": 51},
    ),
)
def test_footers_that_the_frames_contradict(path: Path, footer: dict[str, int]) -> None:
    """In counts and times."""
    forge(path, [frame(0), frame(2)], **footer)
    assert kinds(path) == ["footer-content"]


def test_a_footer_that_ends_elsewhere(path: Path) -> None:
    """The frames say what there is."""
    forge(path, [frame(0), frame(2)], end_offset=9)
    assert kinds(path) == ["footer-content"]
    with pytest.raises(ChannelFailed, match="a segment is missing or old"):
        forge(path, [], base=4, previous=0)
        open_log(path)


def test_a_footer_that_ends_nowhere(path: Path) -> None:
    """A position outside the file is no footer."""
    for position in (0, CAPACITY, 1 << 40):
        file = forge(path, [frame(0)], end_position=position)
        log = open_log(path)
        assert not log.segments[0].sealed
        assert log.durable_offset == 2
        assert [p["kind"] for p in dump_segment(file)][:2] == ["header", "frame"]


def test_times_that_go_back_between_segments(path: Path) -> None:
    """Within one it is damage; between two, each is sound by itself."""
    forge(path, [frame(0)], frame_count=1)
    forge(path, [frame(2, segment=2, append_time_ns=49)], base=2, previous=0)
    assert kinds(path) == ["time"]


def test_a_checkpoint_that_the_frames_contradict(path: Path) -> None:
    """It lies in the middle of a frame, or at another offset's."""
    forge(path, [frame(0), frame(2)])
    put_checkpoint(path, durable_offset=2, position=HEADER_BYTES + FRAME_BYTES)
    assert kinds(path) == []
    for durable, position in ((2, HEADER_BYTES + 10), (3, HEADER_BYTES + FRAME_BYTES)):
        put_checkpoint(path, durable_offset=durable, position=position)
        assert "checkpoint" in kinds(path)


def test_a_checkpoint_ahead_of_a_sealed_end(path: Path) -> None:
    """The last segment has a footer, and yet more was stored: something is old or missing."""
    forge(path, [frame(0)], frame_count=1)
    put_checkpoint(path, durable_offset=7, position=900)
    assert kinds(path) == ["records"]
    with pytest.raises(ChannelFailed, match="offsets up to 7 were stored"):
        open_log(path)


def test_a_checkpoint_of_another_segment(path: Path) -> None:
    """By its id."""
    forge(path, [frame(0)])
    put_checkpoint(path, segment_id="ab" * 16)
    assert kinds(path) == ["replaced"]
    with pytest.raises(ChannelFailed, match="was replaced by another"):
        open_log(path)


def test_a_checkpoint_of_a_segment_that_is_not_there(path: Path) -> None:
    """Below the last one, its durable offset still counts: what it knew of is gone."""
    forge(path, [frame(0)], frame_count=1)
    forge(path, [frame(2, segment=2)], base=2, previous=0)
    put_checkpoint(path, segment_base=1, durable_offset=9)
    log = open_log(path)
    assert "offsets 4 to 8 were stored and are gone" in str(log.read_only_reason)


def test_a_file_that_is_longer_than_it_says(path: Path) -> None:
    """Someone has appended to it: refused."""
    forge(path, [frame(0)], capacity=CAPACITY - 100)
    assert kinds(path) == ["size"]
    with pytest.raises(ChannelFailed, match="is 4096 bytes long and should be 3996"):
        open_log(path)


def test_a_version_that_never_was(path: Path) -> None:
    """Is refused like a newer one."""
    file = forge(path, [frame(0)])
    header = SegmentHeader(0, CAPACITY, 0, CHANNEL, segment_id(1), NO_ID, format_version=0)
    with file.open("r+b") as raw:
        raw.write(encode_segment_header(header))
    with pytest.raises(ChannelFailed, match="has format 0"):
        open_log(path)
    with pytest.raises(DataDirError, match="has format 0"):
        verify_log(path)


# ---- What the system answers ---------------------------------------------------


class Refusing(UnsyncedFiles):
    """Answers reads with an error."""

    def __init__(self, code: int, only: str = "") -> None:
        self.code = code
        self.only = only

    def read(self, handle: Handle, length: int, position: int) -> bytes:
        """See `Files`."""
        if handle.path.name.endswith(self.only):
            raise OSError(self.code, "refused")
        return super().read(handle, length, position)


def test_other_errors_than_bad_sectors(path: Path) -> None:
    """Are no finding: the check could not be made."""
    forge(path, [frame(0)])
    put_checkpoint(path)
    for only in (".seg", "checkpoint"):
        with pytest.raises(OSError, match="refused"):
            verify_log(path, files=Refusing(errno.EACCES, only))


def test_a_checkpoint_on_a_bad_sector(path: Path) -> None:
    """Is a damaged one."""
    forge(path, [frame(0)])
    put_checkpoint(path)
    report = verify_log(path, files=Refusing(errno.EIO, "checkpoint"))
    assert [f.kind for f in report.findings] == ["checkpoint"]
    log = open_log(path, files=Refusing(errno.EIO, "checkpoint"))
    assert "the checkpoint can't be read" in log.notices[0]
    assert log.durable_offset == 2


def test_a_read_that_fails_for_good_below_the_windows(path: Path) -> None:
    """Page by page, an error that is not the sector's is passed on."""

    class Changing(UnsyncedFiles):
        def read(self, handle: Handle, length: int, position: int) -> bytes:
            raise OSError(errno.EIO if length > 4096 else errno.EACCES, "refused")

    forge(path, [frame(0)])
    files = Changing()
    reader = FileReader(files, files.open(path / segment_name(0)))
    with pytest.raises(OSError, match="refused") as caught:
        reader.read(0, 8192)
    assert caught.value.errno == errno.EACCES


def test_a_reader_whose_error_is_no_bad_sector(path: Path) -> None:
    """It is passed on; only bad sectors are damage."""
    log = open_log(path, segment_bytes=4096)
    fill(log, 30)
    log.segments[0].opened = None
    view = log._writer.view
    files = Refusing(errno.EACCES, ".seg")
    opened = log.segments[0].open(FAST_FILES)
    with pytest.raises(OSError, match="refused"):
        opened.condemn(HEADER_BYTES, HEADER_BYTES + 10, view.segments[0].end, files)
    assert log.damage == []


# ---- A directory that changes under the check ----------------------------------


def data_dir(path: Path) -> Path:
    """A data directory whose channel is the log at ``path``."""
    path.mkdir()
    (path / "format.json").write_text('{"format": 1}')
    channel = path / "channels" / CHANNEL.hex()
    channel.parent.mkdir()
    forge(channel, [frame(0)], frame_count=1)
    forge(channel, [frame(2, segment=2)], base=2, previous=0)
    put_channel_json(channel, "c")
    return path


class Vanishing(UnsyncedFiles):
    """A segment is removed between the listing and the opening."""

    def open(self, path: Path, *, write: bool = False) -> Handle:
        """See `Files`."""
        if path.name == segment_name(0):
            path.unlink(missing_ok=True)
        return super().open(path, write=write)


def test_what_a_running_broker_removes_meanwhile(ram_path: Path) -> None:
    """Is not missed beside one, and an error without one."""
    directory = data_dir(ram_path / "data") / "channels" / CHANNEL.hex()
    report = verify_log(directory, live=True, files=Vanishing())
    assert report.ok
    assert [s.base_offset for s in report.segments] == [2]
    assert (report.log_start_offset, report.end_offset) == (2, 4)
    forge(directory, [frame(0)], frame_count=1)
    with pytest.raises(FileNotFoundError):
        verify_log(directory, files=Vanishing())


def test_a_channel_that_is_deleted_meanwhile(
    ram_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a whole channel."""
    path = data_dir(ram_path / "data")

    def gone(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr("mq.log.verify.LogCheck", gone)
    with pytest.raises(FileNotFoundError):
        verify_data_dir(path)
    lock = FAST_FILES.lock(path / "mq.lock")
    report = verify_data_dir(path)
    assert report.ok
    assert report.logs == []
    del lock


@pytest.mark.parametrize(
    ("size", "text"),
    (
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.977 KiB"),
        (5 << 20, "5 MiB"),
        (3 << 40, "3 TiB"),
    ),
)
def test_sizes_for_people(size: int, text: str) -> None:
    """Three digits and a unit."""
    assert size_text(size) == text
