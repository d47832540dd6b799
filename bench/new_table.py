"""A table as all results have it."""

from __future__ import annotations

from rich.table import Table


def new_table(title: str, *columns: str) -> Table:
    """What a row is about on the left, figures on the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table
