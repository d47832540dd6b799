"""Data on standard output, everything else on standard error.

What scripts read is written as bytes, UTF-8 whatever the locale says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import click

if TYPE_CHECKING:
    from rich.table import Table

# Made once: making one costs more than a small object.
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def stdout() -> BinaryIO:
    """Standard output for bytes."""
    return sys.stdout.buffer


def print_json(value: Any) -> None:
    """One JSON object on a line of its own."""
    stdout().write(to_json(value) + b"\n")


def to_json(value: Any) -> bytes:
    """A JSON object, in one line of UTF-8."""
    return _encode(value).encode("utf-8", "surrogateescape")


def is_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere lines of tab-separated values, without a heading."""
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console

    Console().print(make_table(columns, rows))


def make_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table as rich draws it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


class Report(Protocol):
    """What came of looking at files."""

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""

    def lines(self) -> Iterable[str]:
        """For people."""

    def to_json(self) -> Mapping[str, Any]:
        """For programs."""


def print_report(report: Report, *, as_json: bool, quiet: bool) -> None:
    """One JSON object, or lines; where it is to be quiet, only if something is wrong."""
    if as_json:
        print_json(report.to_json())
    elif not (quiet and report.ok):
        for line in report.lines():
            click.echo(line)


def tell(message: str, *, quiet: bool = False) -> None:
    """A line for a person, on standard error."""
    if not quiet:
        click.echo(message, err=True)
