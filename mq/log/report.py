"""What a verification found: findings, summed up by segment, log and data directory."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

SCHEMA: Final = 1
# The kind of finding that tells of records that a repair has marked as lost.
MARKED_LOST: Final = "lost"


class Severity(enum.Enum):
    """What a finding means."""

    # Records that were stored can't be read.
    DAMAGE = "damage"
    # Something around the records is not as it has to be; they can all be read.
    FAULT = "fault"
    # Worth knowing, and nothing to worry about.
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out of the ordinary.

    ``kind`` is for programs, ``message`` for people. Offsets and positions are
    half-open ranges, where they apply.
    """

    severity: Severity
    kind: str
    message: str
    file: str | None = None
    first_offset: int | None = None
    next_offset: int | None = None
    position: int | None = None
    end: int | None = None

    @property
    def lost_records(self) -> int:
        """How many records can't be read because of it."""
        marked = self.kind == MARKED_LOST
        if self.first_offset is None or not (marked or self.severity is Severity.DAMAGE):
            return 0
        return (self.next_offset or self.first_offset) - self.first_offset

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it; what does not apply is left out."""
        values: dict[str, Any] = {
            "severity": self.severity.value,
            "kind": self.kind,
            "message": self.message,
        }
        for name in ("file", "first_offset", "next_offset", "position", "end"):
            value = getattr(self, name)
            if value is not None:
                values[name] = value
        return values

    def line(self) -> str:
        """For people."""
        where = f"{self.file}: " if self.file else ""
        return f"{self.severity.value}: {where}{self.message}"


@dataclass(slots=True)
class SegmentReport:
    """One segment file."""

    name: str
    base_offset: int
    end_offset: int = 0
    sealed: bool = False
    # Being written to by a running broker.
    live: bool = False
    frames: int = 0
    records: int = 0
    file_bytes: int = 0
    frame_bytes: int = 0
    # Neither frames nor what every segment needs: padding, damage, what is torn.
    unused_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, kind: str, message: str, **where: int) -> None:
        """Note a finding about this file."""
        self.findings.append(Finding(severity, kind, message, self.name, **where))

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it."""
        return {
            "name": self.name,
            "base_offset": self.base_offset,
            "end_offset": self.end_offset,
            "sealed": self.sealed,
            "live": self.live,
            "frames": self.frames,
            "records": self.records,
            "file_bytes": self.file_bytes,
            "frame_bytes": self.frame_bytes,
            "unused_bytes": self.unused_bytes,
        }


@dataclass(slots=True)
class LogReport:
    """One log: a channel's, or the journal of a channel's consumer groups."""

    kind: str
    id: str
    directory: str
    name: str | None = None
    live: bool = False
    log_start_offset: int = 0
    end_offset: int = 0
    segments: list[SegmentReport] = field(default_factory=list)
    own_findings: list[Finding] = field(default_factory=list)

    def add(
        self, severity: Severity, kind: str, message: str, file: str | None = None, **where: int
    ) -> None:
        """Note a finding about the log as a whole, or another file of it."""
        self.own_findings.append(Finding(severity, kind, message, file, **where))

    @property
    def findings(self) -> list[Finding]:
        """All of them, those of segments in order."""
        return [*self.own_findings, *(f for s in self.segments for f in s.findings)]

    @property
    def ok(self) -> bool:
        """Whether there is neither damage nor fault."""
        return all(f.severity is Severity.NOTICE for f in self.findings)

    @property
    def records(self) -> int:
        """The records that can be read."""
        return sum(s.records for s in self.segments)

    @property
    def frame_bytes(self) -> int:
        """The bytes of sound frames."""
        return sum(s.frame_bytes for s in self.segments)

    @property
    def lost_records(self) -> int:
        """The records that can't be read."""
        return sum(f.lost_records for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it."""
        return {
            "kind": self.kind,
            "id": self.id,
            "name": self.name,
            "directory": self.directory,
            "ok": self.ok,
            "live": self.live,
            "log_start_offset": self.log_start_offset,
            "end_offset": self.end_offset,
            "records": self.records,
            "lost_records": self.lost_records,
            "segments": [segment.to_json() for segment in self.segments],
            "findings": [finding.to_json() for finding in self.findings],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        title = self.name or self.id
        if self.kind != "channel":
            title = f"{self.kind} of {title}"
        verdict = "sound" if self.ok else "NOT SOUND"
        live = ", being written to" if self.live else ""
        yield (
            f"{title}: {self.records:,} records from offset {self.log_start_offset} "
            f"to {self.end_offset}, {len(self.segments)} segments, "
            f"{size_text(self.frame_bytes)}{live}: {verdict}"
        )
        for finding in self.findings:
            yield f"  {finding.line()}"


@dataclass(slots=True)
class Report:
    """A data directory."""

    directory: str
    format: int
    live: bool = False
    logs: list[LogReport] = field(default_factory=list)
    own_findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, kind: str, message: str, file: str | None = None) -> None:
        """Note a finding about the directory as a whole."""
        self.own_findings.append(Finding(severity, kind, message, file))

    @property
    def ok(self) -> bool:
        """Whether there is neither damage nor fault."""
        own = all(f.severity is Severity.NOTICE for f in self.own_findings)
        return own and all(log.ok for log in self.logs)

    def to_json(self) -> dict[str, Any]:
        """As docs/verify.md describes it."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "directory": self.directory,
            "format": self.format,
            "live": self.live,
            "totals": {
                "logs": len(self.logs),
                "segments": sum(len(log.segments) for log in self.logs),
                "frames": sum(s.frames for log in self.logs for s in log.segments),
                "records": sum(log.records for log in self.logs),
                "lost_records": sum(log.lost_records for log in self.logs),
                "frame_bytes": sum(log.frame_bytes for log in self.logs),
                "file_bytes": sum(s.file_bytes for log in self.logs for s in log.segments),
                "unused_bytes": sum(s.unused_bytes for log in self.logs for s in log.segments),
            },
            "findings": [finding.to_json() for finding in self.own_findings],
            "logs": [log.to_json() for log in self.logs],
        }

    def lines(self) -> Iterator[str]:
        """For people: a line for each log, its findings, and the sum."""
        for finding in self.own_findings:
            yield finding.line()
        for log in self.logs:
            yield from log.lines()
        totals = self.to_json()["totals"]
        checked = (
            f"{totals['records']:,} records in {totals['segments']} segments of "
            f"{totals['logs']} logs, {size_text(totals['frame_bytes'])}"
        )
        if self.live:
            yield "a broker is using the directory: what it was writing was left out"
        if self.ok:
            lost = totals["lost_records"]
            yield f"sound: {checked}" + (f"; {lost:,} more are marked as lost" if lost else "")
        else:
            yield f"NOT SOUND: {checked}; {totals['lost_records']:,} records can't be read"


def size_text(size_bytes: int) -> str:
    """A size to be read by people: three digits and a unit."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
