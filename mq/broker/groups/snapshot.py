"""A ledger as bytes: the numbers as varints, the marks as columns.

A column of breakpoints is two arrays: distances between starts in the smallest
unsigned integers that hold them, and values, as one-byte indexes into the
different ones where there are few. Little-endian. A million ranges take
about 2 to 12 MB and a fraction of a second each way.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from mq.broker.groups.codec import FORMAT_VERSION, Reader, Writer, check_version
from mq.broker.groups.config import GroupConfig
from mq.broker.groups.ledger import DONE, DeadLetter, Ledger, Totals
from mq.broker.groups.ranges import Column, RangeMap
from mq.errors import DataDirError

_PALETTE_MAX = 256
_WIDTHS = (1, 2, 4, 8)


def write_snapshot(ledger: Ledger) -> bytes:
    """The ledger's bytes; equal for equal ledgers."""
    writer = Writer()
    for number in (FORMAT_VERSION, ledger.number, ledger.floor, ledger.end, ledger.epoch):
        writer.number(number)
    writer.octets(ledger.active.encode())
    writer.octets(ledger.config.to_bytes())
    for total in astuple(ledger.totals):
        writer.number(total)
    _write_letters(writer, ledger)
    _write_map(writer, ledger.marks)
    _write_map(writer, ledger.expiries)
    return bytes(writer.data)


def read_snapshot(data: bytes) -> Ledger:
    """The ledger that `write_snapshot` was given.

    Raises:
        DataDirError: The bytes are of a newer format, or no snapshot.
    """
    reader = Reader(data)
    try:
        check_version(reader.number())
        ledger = _read_ledger(reader)
        if not reader.at_end:
            raise ValueError("bytes left over")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataDirError(
            f"a snapshot of {len(data)} bytes in the journal of the groups can't be read "
            f"({error!r}); use the version of mq that wrote it, or a later one"
        ) from error
    return ledger


def _read_ledger(reader: Reader) -> Ledger:
    ledger = Ledger()
    ledger.number = reader.number()
    ledger.floor = reader.number()
    ledger.end = reader.number()
    ledger.epoch = reader.number()
    ledger.active = reader.text()
    ledger.config = GroupConfig.from_bytes(reader.octets())
    ledger.totals = Totals(*(reader.number() for _ in astuple(Totals())))
    _read_letters(reader, ledger)
    ledger.marks = _read_map(reader)
    ledger.expiries = _read_map(reader)
    starts, values = ledger.marks.columns()
    if len(starts):
        sizes = np.diff(starts, append=starts[-1])
        ledger.done_above_floor = int(sizes[values == DONE].sum())
    return ledger


def _write_letters(writer: Writer, ledger: Ledger) -> None:
    writer.number(ledger.next_sequence)
    # Sequence numbers follow from the last, as they are dense.
    writer.runs((letter[1:] for letter in ledger.letters), len(ledger.letters))


def _read_letters(reader: Reader, ledger: Ledger) -> None:
    ledger.next_sequence = sequence = reader.number()
    letters = reader.runs(_letter, reader.number, reader.text)
    for letter in reversed(letters):
        sequence -= letter.next - letter.first
        ledger.letters.appendleft(letter._replace(sequence=sequence))


def _letter(first: int, following: int, delivery_count: int, reason: str) -> DeadLetter:
    return DeadLetter(0, first, following, delivery_count, reason)


def _write_map(writer: Writer, ranges: RangeMap) -> None:
    starts, values = ranges.columns()
    writer.number(len(starts))
    if not len(starts):
        return
    _write_column(writer, np.diff(starts, prepend=0))
    palette = _palette(values)
    if palette is not None:
        writer.number(len(palette))
        _write_column(writer, palette)
        writer.octets(np.searchsorted(palette, values).astype(np.uint8).tobytes())
    else:
        writer.number(0)
        _write_column(writer, values)


def _read_map(reader: Reader) -> RangeMap:
    count = reader.number()
    if not count:
        return RangeMap()
    starts = np.cumsum(_read_column(reader))
    if reader.number():
        palette = _read_column(reader)
        values = palette[np.frombuffer(reader.octets(), np.uint8)]
    else:
        values = _read_column(reader)
    if not len(starts) == len(values) == count:
        raise ValueError("columns of different lengths")
    return RangeMap.from_columns(starts, values)


def _palette(values: Column) -> Column | None:
    """The different values, ascending, if there are few."""
    # Sorting them all takes a while; a part of them nearly always tells.
    if len(np.unique(values[: 4 * _PALETTE_MAX])) > _PALETTE_MAX:
        return None
    palette = np.unique(values)
    return palette if len(palette) <= _PALETTE_MAX else None


def _write_column(writer: Writer, column: Column) -> None:
    top = int(column.max()).bit_length()
    width = next(width for width in _WIDTHS if top <= 8 * width)
    writer.number(width)
    writer.octets(column.astype(f"<u{width}").tobytes())


def _read_column(reader: Reader) -> Column:
    width = reader.number()
    if width not in _WIDTHS:
        raise ValueError(f"a column {width} bytes wide")
    return np.frombuffer(reader.octets(), f"<u{width}").astype(np.int64)
