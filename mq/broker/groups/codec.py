"""Journal entries as bytes: varints, offsets as distances from the one before.

Layout: format version, entry number, then each event as a kind byte and its
fields, to the end. No checksum and no length: the log around it has both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mq.broker.groups.config import GroupConfig
from mq.broker.groups.events import (
    Acked,
    Activated,
    Committed,
    Configured,
    Dead,
    DeadPublished,
    DeadRun,
    Entry,
    Event,
    Expired,
    Failed,
    FailedRun,
    Gone,
    Scheduled,
    ScheduledRun,
    Sought,
    Trimmed,
)
from mq.broker.groups.ranges import Range
from mq.errors import DataDirError

FORMAT_VERSION = 1

T = TypeVar("T")


class Writer:
    """Bytes to be."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        """A non-negative integer."""
        data = self.data
        while value > 0x7F:
            data.append(value & 0x7F | 0x80)
            value >>= 7
        data.append(value)

    def octets(self, value: bytes) -> None:
        """Bytes with their length."""
        self.number(len(value))
        self.data += value

    def runs(self, runs: Iterable[tuple[Any, ...]], count: int) -> None:
        """Tuples that begin with an ascending range; the rest is numbers, or text."""
        self.number(count)
        position = 0
        for first, following, *rest in runs:
            # Zigzag: only the runs of a Dead event may be out of order, by reason.
            step = first - position
            self.number(step << 1 if step >= 0 else ~(step << 1))
            self.number(following - first)
            for value in rest:
                if isinstance(value, str):
                    self.octets(value.encode())
                else:
                    self.number(value)
            position = following


class Reader:
    """What a `Writer` wrote."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""
        return self._position == len(self._data)

    def number(self) -> int:
        """A non-negative integer.

        Raises:
            IndexError: The bytes end before it does.
        """
        data, position = self._data, self._position
        byte = data[position]
        value = byte & 0x7F
        shift = 7
        while byte > 0x7F:
            position += 1
            byte = data[position]
            value |= (byte & 0x7F) << shift
            shift += 7
        self._position = position + 1
        return value

    def octets(self) -> bytes:
        """Bytes with their length; IndexError as for `number`."""
        size = self.number()
        end = self._position + size
        if end > len(self._data):
            raise IndexError
        value = self._data[self._position : end]
        self._position = end
        return value

    def text(self) -> str:
        """Text; IndexError as for `number`, or ValueError."""
        return self.octets().decode()

    def runs(self, make: Callable[..., T], *rest: Callable[[], object]) -> tuple[T, ...]:
        """Tuples that begin with a range; ``rest`` reads the other fields."""
        found = []
        position = 0
        for _ in range(self.number()):
            step = self.number()
            first = position + (step >> 1 if not step & 1 else ~(step >> 1))
            position = first + self.number()
            found.append(make(first, position, *(read() for read in rest)))
        return tuple(found)


def _range(first: int, following: int) -> Range:
    return first, following


def _write_runs(writer: Writer, event: Acked | Expired | Gone | Failed | Dead) -> None:
    writer.runs(event[0], len(event[0]))


def _write_number(writer: Writer, event: DeadPublished | Committed | Trimmed | Sought) -> None:
    writer.number(event[0])


def _write_scheduled(writer: Writer, event: Scheduled) -> None:
    writer.number(event.next_offset)
    writer.runs(event.runs, len(event.runs))


def _write_configured(writer: Writer, event: Configured) -> None:
    writer.octets(event.config.to_bytes())


def _write_activated(writer: Writer, event: Activated) -> None:
    writer.number(event.epoch)
    writer.octets(event.consumer.encode())


# Stored: a kind's number is never given to another.
_KINDS: dict[type[Any], tuple[int, Callable[[Writer, Any], None]]] = {
    Acked: (1, _write_runs),
    Failed: (2, _write_runs),
    Dead: (3, _write_runs),
    DeadPublished: (4, _write_number),
    Expired: (5, _write_runs),
    Scheduled: (6, _write_scheduled),
    Committed: (7, _write_number),
    Trimmed: (8, _write_number),
    Sought: (9, _write_number),
    Configured: (10, _write_configured),
    Activated: (11, _write_activated),
    Gone: (12, _write_runs),
}
_READ: dict[int, Callable[[Reader], Event]] = {
    1: lambda r: Acked(r.runs(_range)),
    2: lambda r: Failed(r.runs(FailedRun, r.number, r.number)),
    3: lambda r: Dead(r.runs(DeadRun, r.number, r.text)),
    4: lambda r: DeadPublished(r.number()),
    5: lambda r: Expired(r.runs(_range)),
    6: lambda r: Scheduled(r.number(), r.runs(ScheduledRun, r.number, r.number)),
    7: lambda r: Committed(r.number()),
    8: lambda r: Trimmed(r.number()),
    9: lambda r: Sought(r.number()),
    10: lambda r: Configured(GroupConfig.from_bytes(r.octets())),
    11: lambda r: Activated(r.number(), r.text()),
    12: lambda r: Gone(r.runs(_range)),
}


def encode_entry(number: int, events: Iterable[Event]) -> bytes:
    """The bytes of one journal entry."""
    writer = Writer()
    writer.number(FORMAT_VERSION)
    writer.number(number)
    for event in events:
        kind, write = _KINDS[type(event)]
        writer.data.append(kind)
        write(writer, event)
    return bytes(writer.data)


def decode_entry(data: bytes) -> Entry:
    """The entry that these bytes are.

    Raises:
        DataDirError: They are of a newer format, or no entry.
    """
    reader = Reader(data)
    try:
        check_version(reader.number())
        number = reader.number()
        events = []
        while not reader.at_end:
            events.append(_READ[reader.number()](reader))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataDirError(
            f"an entry of {len(data)} bytes in the journal of the groups can't be read "
            f"({error!r}); use the version of mq that wrote it, or a later one"
        ) from error
    return Entry(number, tuple(events))


def check_version(version: int) -> None:
    """Refuse what a later version wrote.

    Raises:
        DataDirError: The format is newer than this program.
    """
    if version != FORMAT_VERSION:
        raise DataDirError(
            f"the state of the groups has format {version}, this program reads "
            f"{FORMAT_VERSION}; use the version of mq that wrote it, or a later one"
        )
