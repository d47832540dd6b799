"""What was compacted when: where the next pass begins, and which tombstones may go. Pure.

A tombstone tells readers that a key is gone, and has to be there long enough
for all of them to be told, also those that read the key's last record just
before a pass removed it. So it goes only when a pass that had covered it ended
that long ago: the records before it are gone since then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Pass(NamedTuple):
    """A pass that has removed what a later record below ``next_offset`` supersedes."""

    next_offset: int
    finished_ns: int


@dataclass(frozen=True, slots=True)
class History:
    """The passes that matter still, oldest first: three at most."""

    passes: tuple[Pass, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> History:
        """What ``to_json`` gave."""
        return cls(tuple(Pass(*row) for row in rows))

    def to_json(self) -> list[list[int]]:
        """As JSON values, for a checkpoint."""
        return [list(each) for each in self.passes]

    @property
    def cleaned_offset(self) -> int:
        """Below it no record is superseded by another below it."""
        return self.passes[-1].next_offset if self.passes else 0

    def tombstones_before(self, since_ns: int) -> int:
        """The offset below which tombstones may go; ``since_ns``: for as long they are kept."""
        covered = [each.next_offset for each in self.passes if each.finished_ns <= since_ns]
        return max(covered, default=0)

    def after(self, done: Pass, since_ns: int) -> History:
        """With one more pass.

        Kept of the others are the last one that lets tombstones go, and the
        first that will: those between would come up later than the next one.
        """
        old = [each for each in self.passes if each.finished_ns <= since_ns]
        young = [each for each in self.passes if each.finished_ns > since_ns]
        return History((*old[-1:], *young[:1], done))
