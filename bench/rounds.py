"""The order of measurements: A B C A B C …, so that drift meets all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement to make; round 0 is the warm-up."""

    workload: str
    contender: str
    round: int


def interleaved(workloads: Sequence[str], contenders: Sequence[str], rounds: int) -> Iterator[Turn]:
    """Every workload and contender once a round, the contenders of a workload in a row.

    Each round begins with another contender, so that none always follows the
    same one.
    """
    for number in range(rounds):
        first = number % max(1, len(contenders))
        order = [*contenders[first:], *contenders[:first]]
        for workload in workloads:
            for contender in order:
                yield Turn(workload, contender, number)
