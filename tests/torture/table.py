"""What came of it all: one row a fault, for people and for programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.torture.fault import Fault, Outcome

_COUNTS = ("rounds", "acknowledged", "lost", "doubled", "invented", "refused")
_HEADINGS = ("#", "fault", *_COUNTS)


@dataclass
class Row:
    """One fault: what became of its messages, or why it was skipped."""

    fault: Fault
    skipped: str | None = None
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "number": self.fault.number,
            "fault": self.fault.name,
            "about": self.fault.about,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 1),
            **{name: getattr(self.outcome, name) for name in _COUNTS},
            "problems": self.outcome.problems,
        }

    def cells(self) -> list[str]:
        """For people."""
        counts = [f"{getattr(self.outcome, name):,}" for name in _COUNTS]
        if self.skipped is not None:
            counts = ["skipped", *[""] * (len(_COUNTS) - 1)]
        return [str(self.fault.number), f"{self.fault.name}: {self.fault.about}", *counts]


def table(rows: Sequence[Row], seed: int) -> str:
    """A table in Markdown, the reasons of what was skipped, and the problems."""
    today = dt.datetime.now(dt.UTC).date()
    minutes = sum(row.seconds for row in rows) / 60
    total = Row(Fault("all", 0, "", _never), outcome=Outcome())
    for row in rows:
        total.outcome.add(row.outcome)
    cells = [list(_HEADINGS), *(row.cells() for row in rows)]
    cells.append(["", "in all", *total.cells()[2:]])
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = [_line(line, widths) for line in cells]
    rule = "|".join("-" * (width + 1) + ("-" if n < 2 else ":") for n, width in enumerate(widths))
    lines.insert(1, f"|{rule}|")
    lines.append("")
    lines += [f"{r.fault.name} was skipped: {r.skipped}" for r in rows if r.skipped]
    for row in rows:
        lines += [f"{row.fault.name}: {problem}" for problem in row.outcome.problems]
    lines.append(f"{today}, {minutes:.0f} minutes, seed {seed}")
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _never(*_: object) -> Outcome:
    raise AssertionError("the sum is no fault")
