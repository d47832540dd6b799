"""What a repair will do, or has done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mq.log.layout import QUARANTINE_NAME
from mq.log.report import Finding, Report, Severity

SCHEMA: Final = 1
# Kinds of findings for which there is no step.
_NEVER_REPAIRED: Final = frozenset({"frame-fields", "time", "journal"})


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
        verified: The verification afterwards, or in a dry run as it stands; None
            where the directory can't be verified before it is repaired.
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
        if self.dry_run and (self.actions or self.left):
            return False
        return self.verified is not None and self.verified.ok

    @property
    def lost_records(self) -> int:
        """How many records are marked as lost."""
        return sum(action.lost_records for action in self.actions)

    def note_left(self) -> None:
        """Add to ``left`` what the verification found that no repair mends, or has mended."""
        assert self.verified is not None, "there is something to be noted"
        for where, finding in _findings(self.verified):
            if finding.severity is Severity.NOTICE:
                continue
            if not self.dry_run or finding.kind in _NEVER_REPAIRED:
                self.left.append(f"{where}{finding.message}")

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
        """For people: how it stands (in a dry run), each action, and what it comes to."""
        if self.dry_run:
            yield from self._dry_run_lines()
            return
        for action in self.actions:
            yield f"done: {action.line()}"
        yield from self._left_lines()
        if not self.actions:
            yield "nothing to repair" if self.ok else "there is nothing that could be repaired"
        else:
            lost = self.lost_records
            yield f"repaired in {_steps(self.actions)}; {lost:,} records are marked as lost"
        if self.quarantine is not None:
            yield f"what was replaced is in {self.quarantine}"
        if self.verified is not None:
            yield list(self.verified.lines())[-1]

    def _dry_run_lines(self) -> Iterator[str]:
        if self.verified is not None:
            yield from self.verified.lines()
        for action in self.actions:
            yield f"to do: {action.line()}"
        yield from self._left_lines()
        if not self.actions:
            yield "nothing to repair" if self.ok else "there is nothing that could be repaired"
            return
        yield (
            f"nothing was changed: --repair --yes takes these {_steps(self.actions)}, and marks "
            f"{self.lost_records:,} records as lost for good"
        )
        yield f"what is replaced is first copied into {self.directory}/{QUARANTINE_NAME}"

    def _left_lines(self) -> Iterator[str]:
        for each in self.left:
            yield f"can't be repaired: {each}"


def _steps(actions: list[Action]) -> str:
    return "1 step" if len(actions) == 1 else f"{len(actions)} steps"


def _findings(report: Report) -> Iterator[tuple[str, Finding]]:
    """All findings, and where each is."""
    for finding in report.own_findings:
        yield f"{finding.file}: " if finding.file else "", finding
    for log in report.logs:
        place = f"{Path(log.directory).relative_to(report.directory)}"
        for finding in log.findings:
            yield f"{place}/{finding.file}: " if finding.file else f"{place}: ", finding
