"""Making batches, and reading a log back with a protobuf parser that is not mq's own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
from crc32c import crc32c

from mq.log.cache import SegmentCache
from mq.log.files import Files
from mq.log.log import Append, Log
from mq.pb import mq_pb2 as pb

CHANNEL = bytes(range(16))
# A time after which nothing in the tests happens.
FOREVER_NS = 1 << 62


class Record(NamedTuple):
    """A record as a consumer sees it."""

    offset: int
    content: bytes


def rounds(small: int, large: int) -> int:
    """How often to try something random: more with ``--hypothesis-profile=torture``."""
    torture = hypothesis.settings.get_current_profile_name() == "torture"
    return large if torture else small


def encode_records(contents: list[bytes]) -> bytes:
    """A serialized ``Records``."""
    return pb.Records(contents=contents).SerializeToString()


def batch(*contents: bytes, producer_id: int = 0, sequence: int = 0) -> Append:
    """A batch of these records."""
    records = encode_records(list(contents))
    return Append(records, len(contents), crc32c(records), producer_id, sequence)


def numbered(offset: int, count: int, size: int = 40, tag: bytes = b"") -> list[bytes]:
    """The contents of ``count`` records from ``offset`` on: each tells which it is."""
    return [content_at(offset + n, size, tag) for n in range(count)]


def content_at(offset: int, size: int = 40, tag: bytes = b"") -> bytes:
    """What a record at ``offset`` holds: different for each, zeros and frame tags included."""
    seed = b"%s%d" % (tag, offset)
    body = hashlib.shake_128(seed).digest(max(0, size - len(seed) - 5))
    return b"%s:\0\0%s\n\0" % (seed, body)


def seeded_ids(seed: int = 0) -> Callable[[], bytes]:
    """Segment ids that are the same at each run."""
    source = random.Random(seed)
    return lambda: source.randbytes(16)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Unix nanoseconds."""
        return self.now_ns


class UnsyncedFiles(Files):
    """The real files without the syncs: the same content, sooner."""

    def sync_data(self, handle: object) -> None:
        """See `Files`."""

    def sync(self, handle: object) -> None:
        """See `Files`."""

    def sync_dir(self, path: Path) -> None:
        """See `Files`."""

    def forget(self, handle: object) -> None:
        """See `Files`. With nothing synced this would only start to write it all back."""


FAST_FILES = UnsyncedFiles()


def open_log(
    directory: Path,
    *,
    segment_bytes: int = 1 << 16,
    files: Files = FAST_FILES,
    cache: SegmentCache | None = None,
    clock: Callable[[], int] | None = None,
    random_id: Callable[[], bytes] | None = None,
) -> Log:
    """A log of the test's channel in ``directory``, which is made if need be."""
    directory.mkdir(exist_ok=True)
    return Log(
        directory,
        CHANNEL,
        segment_bytes=segment_bytes,
        files=files,
        cache=cache,
        clock=clock or Clock(),
        random_id=random_id or seeded_ids(),
    )


def fill(log: Log, batches: int, count: int = 3, size: int = 40) -> None:
    """Append numbered batches, and sync each."""
    for _ in range(batches):
        append(log, count, size)
        log.sync()


def append(log: Log, count: int = 3, size: int = 40) -> int:
    """Append one numbered batch; its base offset."""
    (outcome,) = log.append([batch(*numbered(log.end_offset, count, size))])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome.base_offset


def decode(data: bytes) -> Iterator[Record]:
    """The records in the frames of a read."""
    for frame in pb.PullResponse.FromString(data).batches:
        contents = pb.Records.FromString(frame.records).contents
        assert len(contents) == frame.record_count == frame.last_offset_delta + 1
        for index, content in enumerate(contents):
            yield Record(frame.base_offset + index, content)


def read_all(log: Log, offset: int = 0, max_bytes: int = 1 << 20) -> list[Record]:
    """Every record from ``offset`` to the end, by as many reads as it takes."""
    records: list[Record] = []
    while True:
        result = log.read(offset, max_bytes)
        assert result is not None
        assert result.start_offset == offset
        if not result.spans:
            assert result.next_offset == offset == log.durable_offset
            return records
        found = [r for r in decode(result.join()) if r.offset >= offset]
        assert [r.offset for r in found] == list(range(offset, result.next_offset))
        records += found
        offset = result.next_offset


def contents(log: Log) -> dict[str, bytes]:
    """The files of a log's directory, by name."""
    return files_in(log.directory)


def files_in(directory: Path) -> dict[str, bytes]:
    """The files in a directory, by name."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
