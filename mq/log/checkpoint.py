"""The checkpoint: a small checked file that bounds what opening must scan.

It is a hint. A missing or damaged one costs a longer scan, and is never ahead
of what was durable when it was written.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crc32c import crc32c

from mq.log.files import Files
from mq.log.format import CHECKPOINT_NAME, FORMAT_VERSION, index_name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point of the log up to which everything is durable and known.

    ``position`` lies in the segment that begins at ``segment_base``;
    ``durable_offset`` is the offset of the frame that begins (or will begin)
    there, and ``frame_count`` counts the segment's frames before it. ``clean``
    says that the broker stopped in order: the log ends here. It is taken back
    before anything is appended, so that it is never said of a log that went on.
    """

    segment_base: int
    # Hexadecimal; empty if there was no segment.
    segment_id: str
    position: int
    durable_offset: int
    last_append_time_ns: int
    log_start_offset: int
    index_count: int
    frame_count: int
    clean: bool = False
    producers: list[Any] = field(default_factory=list)
    # The passes of compaction that matter still: next offset and time of each.
    compacted: list[list[int]] = field(default_factory=list)

    def encode(self) -> bytes:
        """The file's content: a line with the CRC32C of the rest, then JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        if not self.compacted:
            # As it always was: most logs are never compacted.
            del values["compacted"]
        body = json.dumps({"format": FORMAT_VERSION, **values}).encode()
        return b"%08x\n%s\n" % (crc32c(body), body)

    @classmethod
    def decode(cls, raw: bytes) -> Checkpoint | None:
        """The checkpoint in a file's content, or None if it can't be used."""
        crc, _, body = raw.partition(b"\n")
        body = body.removesuffix(b"\n")
        if crc != b"%08x" % crc32c(body):
            return None
        try:
            values = json.loads(body)
            if values.pop("format") != FORMAT_VERSION:
                return None
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError):
            # A sound checksum over something else: of another version of mq.
            return None


class CheckpointWriter:
    """Writes a log's checkpoints and indexes, from any thread, never an older over a newer.

    Args:
        files: The seam.
        directory: The log's.
    """

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._lock = threading.Lock()
        self._newest = (0, 0)
        # Segments up to this one are sealed for good, and maybe rewritten.
        self._sealed_base = -1
        self._closed = False

    def write(self, checkpoint: Checkpoint, index_content: bytes | None) -> None:
        """Write the index of the checkpoint's segment, if given, then the checkpoint.

        Does nothing if a newer one was written meanwhile, or after `close`.

        Raises:
            OSError: It could not be written; the last one is still there.
        """
        with self._lock:
            made = (checkpoint.durable_offset, checkpoint.log_start_offset)
            old = made < self._newest or checkpoint.segment_base <= self._sealed_base
            if self._closed or old:
                return
            self._newest = made
            if index_content is not None:
                self._write_index(checkpoint.segment_base, index_content)
            self._files.replace(self._directory / CHECKPOINT_NAME, checkpoint.encode())

    def write_sealed_index(self, base_offset: int, end_offset: int, content: bytes) -> None:
        """Write the whole index of a segment that is being sealed.

        A checkpoint planned earlier and written later can't shorten it again.

        Raises:
            OSError: It could not be written. There is none then: one that a
                checkpoint has left would stay, and knows less.
        """
        with self._lock:
            self._newest = max(self._newest, (end_offset, 0))
            try:
                self._write_index(base_offset, content)
            except OSError:
                with contextlib.suppress(OSError):
                    self._files.unlink(self._directory / index_name(base_offset))
                    self._files.sync_dir(self._directory)
                raise

    def remove_index(self, base_offset: int) -> None:
        """Remove the index of a sealed segment that is about to be replaced, for good.

        No checkpoint that was planned while it was written to brings it back.

        Raises:
            OSError: It is not known whether it is gone.
        """
        with self._lock:
            self._sealed_base = max(self._sealed_base, base_offset)
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(self._directory / index_name(base_offset))
            self._files.sync_dir(self._directory)

    def write_new_index(self, base_offset: int, content: bytes) -> None:
        """Write the index of a segment that has been replaced; without it, it is made later.

        Raises:
            OSError: It could not be written; there is none.
        """
        with self._lock:
            if not self._closed:
                self._write_index(base_offset, content)

    def _write_index(self, base_offset: int, content: bytes) -> None:
        self._files.replace(self._directory / index_name(base_offset), content)

    def close(self) -> None:
        """Write nothing from now on: the directory belongs to whoever opens it next."""
        with self._lock:
            self._closed = True
