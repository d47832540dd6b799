"""Data on standard output, everything else on standard error.

What scripts read is written as bytes, UTF-8 whatever the locale says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import click


def stdout() -> BinaryIO:
    """Standard output for bytes."""
    return sys.stdout.buffer


def print_json(value: Any) -> None:
    """One JSON object on a line of its own."""
    stdout().write(json_line(value))


def json_line(value: Any) -> bytes:
    """A JSON object and a newline."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text.encode("utf-8", "surrogateescape") + b"\n"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere lines of tab-separated values, without a heading."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def tell(message: str, *, quiet: bool = False) -> None:
    """A line for a person, on standard error."""
    if not quiet:
        click.echo(message, err=True)
