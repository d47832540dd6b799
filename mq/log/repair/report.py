"""What a repair will do, or has done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mq.log.report import Report

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Action:
    """One step: what is wrong, and what is done about it.

    ``kind`` is for programs, ``problem`` and ``remedy`` are for people. Offsets
    and positions are half-open ranges, where they apply; offsets are those of
    records that are lost for good.
    """

    kind: str
    file: str
    problem: str
    remedy: str
    first_offset: int | None = None
    next_offset: int | None = None
    position: int | None = None
    end: int | None = None

    @property
    def lost_records(self) -> int:
        """How many records are lost for good."""
        if self.first_offset is None or self.next_offset is None:
            return 0
        return self.next_offset - self.first_offset

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it; what does not apply is left out."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "file": self.file,
            "problem": self.problem,
            "remedy": self.remedy,
        }
        for name in ("first_offset", "next_offset", "position", "end"):
            value = getattr(self, name)
            if value is not None:
                values[name] = value
        return values

    def line(self) -> str:
        """For people."""
        return f"{self.file}: {self.problem}: {self.remedy}"


@dataclass(slots=True)
class RepairReport:
    """The repair of a data directory.

    Attributes:
        directory: What was repaired.
        dry_run: Nothing was changed: ``actions`` are what would be done.
        actions: What was done, in order.
        left: What is not sound and can't be repaired.
        quarantine: Where copies are of what was replaced; None: nothing was.
        verified: The verification afterwards; None in a dry run.
    """

    directory: str
    dry_run: bool
    actions: list[Action] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    quarantine: str | None = None
    verified: Report | None = None

    @property
    def ok(self) -> bool:
        """Whether there is nothing to repair, or all of it was."""
        if self.verified is not None:
            return self.verified.ok
        return not self.actions and not self.left

    @property
    def lost_records(self) -> int:
        """How many records are marked as lost."""
        return sum(action.lost_records for action in self.actions)

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "directory": self.directory,
            "dry_run": self.dry_run,
            "lost_records": self.lost_records,
            "actions": [action.to_json() for action in self.actions],
            "left": self.left,
            "quarantine": self.quarantine,
            "verified": None if self.verified is None else self.verified.to_json(),
        }

    def lines(self) -> Iterator[str]:
        """For people: a line for each action, and what it comes to."""
        for action in self.actions:
            yield action.line()
        for each in self.left:
            yield f"left as it is: {each}"
        count = len(self.actions)
        steps = f"{count} step" if count == 1 else f"{count} steps"
        if self.dry_run:
            yield self._dry_run_line(steps)
            return
        if not count:
            yield "nothing to repair"
        else:
            yield f"repaired in {steps}; {self.lost_records:,} records are marked as lost"
        if self.quarantine is not None:
            yield f"what was replaced is in {self.quarantine}"
        if self.verified is not None:
            yield list(self.verified.lines())[-1]

    def _dry_run_line(self, steps: str) -> str:
        if not self.actions:
            return "nothing to repair"
        return (
            f"nothing was changed: with --yes, these {steps} are taken, and {self.lost_records:,} "
            "records are marked as lost for good"
        )
