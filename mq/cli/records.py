"""Cutting input into records: a line each, without its end, and nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mq.cli.exits import FAILED, Failure
from mq.units import format_size

CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """A binary file that can give what has arrived, without waiting for more."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def split_records(
    source: Readable, name: str, separator: bytes, record_bytes_max: int
) -> Iterator[list[bytes]]:
    """The records of a file, in lists of those that have arrived so far.

    Empty records count. Bytes after the last separator are a record; nothing after
    it is none. No more than one chunk and one record are held.

    Args:
        source: The file.
        name: What to call it in an error.
        separator: The byte that ends each record.
        record_bytes_max: The largest record that can be of use.

    Raises:
        Failure: A record is larger than that.
    """
    begun: list[bytes] = []
    begun_bytes = 0
    count = 0
    while chunk := source.read1(CHUNK_BYTES):
        records = chunk.split(separator)
        begun_bytes += len(records[0])
        if begun_bytes > record_bytes_max:
            raise _too_large(name, count, record_bytes_max)
        if len(records) == 1:
            begun.append(chunk)
            continue
        records[0] = b"".join([*begun, records[0]])
        last = records.pop()
        begun, begun_bytes = [last], len(last)
        count += len(records)
        yield records
    if begun_bytes:
        yield [b"".join(begun)]


def _too_large(name: str, count: int, record_bytes_max: int) -> Failure:
    return Failure(
        f"record {count + 1} of {name} is over the channel's limit of"
        f" {format_size(record_bytes_max)}",
        code=FAILED,
        hint="raise it with `mq channels configure NAME max_message_bytes=SIZE`,"
        " or use --null if records hold newlines",
    )
