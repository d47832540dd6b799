"""What a fault is, and what comes of a round of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.torture.place import Place

PROBLEMS_MAX = 20


@dataclass
class Outcome:
    """What became of the messages while a fault struck.

    Attributes:
        rounds: How often it struck.
        acknowledged: Messages that publishers were told are stored.
        lost: Of those, and of those that a consumer had seen, what is gone or changed.
        doubled: Messages stored twice.
        invented: Messages stored that nobody published, or that were refused.
        refused: Messages that publishers were told are not stored.
        problems: Everything that should not have happened, in words.
    """

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count another's in."""
        for name in ("rounds", "acknowledged", "lost", "doubled", "invented", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for problem in other.problems:
            self.problem(problem)

    def problem(self, what: str) -> None:
        """Note what should not have happened, up to a number that someone will read."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(what)

    def expect(self, holds: object, what: str) -> bool:
        """Note a problem unless it holds; returns whether it does."""
        if not holds:
            self.problem(what)
        return bool(holds)

    @property
    def clean(self) -> bool:
        """Whether all is as it should be."""
        return not (self.lost or self.doubled or self.invented or self.problems)


def nothing() -> str | None:
    """The reason to skip a fault that needs nothing."""
    return None


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: What ``--only`` takes.
        number: Of the table in docs/durability.md.
        about: One line for people.
        round: Strikes, once or a few times, in a place of its own, and checks.
            Everything random comes from the generator it is given.
        obstacle: Why it can't run here, or None.
    """

    name: str
    number: int
    about: str
    round: Callable[[random.Random, Place], Outcome]
    obstacle: Callable[[], str | None] = nothing
