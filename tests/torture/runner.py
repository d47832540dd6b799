"""Runs rounds of faults until the time is up, and undoes each, whatever happens."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.torture.fault import Fault, Outcome
from tests.torture.place import Place
from tests.torture.table import Row


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        faults: Which faults.
        seed: Of everything random.
        minutes: For how long, the faults sharing it equally; None: one round each.
        rounds: At most so many of each.
        begin: The number of the first round of each.
        directory: Where the rounds take place.
        keep: Where the files of failed rounds go.
    """

    faults: Sequence[Fault]
    seed: int
    minutes: float | None = None
    rounds: int | None = None
    begin: int = 0
    directory: Path | None = None
    keep: Path | None = None


class Runner:
    """Runs a plan once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rows = [Row(fault) for fault in plan.faults]
        self._numbers = dict.fromkeys((fault.name for fault in plan.faults), plan.begin)
        self._keep = plan.keep

    def run(self) -> list[Row]:
        """All rounds; ended early by Ctrl-C or SIGTERM, what is done is returned."""
        _say(f"seed {self._plan.seed}")
        with _interruptible(), contextlib.suppress(KeyboardInterrupt):
            for row in self._rows:
                row.skipped = row.fault.obstacle()
                if row.skipped is not None:
                    _say(f"{row.fault.name}: skipped: {row.skipped}")
            deadline = time.monotonic() + 60 * (self._plan.minutes or 0)
            while (chosen := self._next(deadline)) is not None:
                self._round(chosen)
        return self._rows

    def _next(self, deadline: float) -> Row | None:
        """The fault that has had the least time, each at least once."""
        plan = self._plan
        waiting = [row for row in self._rows if row.skipped is None]
        limit = plan.rounds if plan.minutes is not None or plan.rounds else 1
        if limit is not None:
            waiting = [r for r in waiting if self._numbers[r.fault.name] - plan.begin < limit]
        if plan.minutes is not None and time.monotonic() >= deadline:
            waiting = [row for row in waiting if self._numbers[row.fault.name] == plan.begin]
        return min(waiting, key=lambda row: row.seconds, default=None)

    def _round(self, row: Row) -> None:
        fault, number = row.fault, self._numbers[row.fault.name]
        self._numbers[fault.name] += 1
        rng = random.Random(f"{self._plan.seed} {fault.name} {number}")
        began = time.monotonic()
        stack = contextlib.ExitStack()
        try:
            path = tempfile.mkdtemp(prefix=f"mq-torture-{fault.name}-", dir=self._plan.directory)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            outcome = self._strike(fault, rng, Place(Path(path), number, stack))
        finally:
            with _undisturbed():
                stack.close()
        seconds = time.monotonic() - began
        row.seconds += seconds
        row.outcome.add(outcome)
        self._report(fault, number, outcome, seconds)

    def _strike(self, fault: Fault, rng: random.Random, place: Place) -> Outcome:
        try:
            outcome = fault.round(rng, place)
        except Exception as error:  # noqa: BLE001 a round that breaks is a finding
            outcome = Outcome(rounds=1)
            outcome.problem(f"{error!r}\n{traceback.format_exc()}")
        if not outcome.clean:
            self._keep_files(fault, place, outcome)
        return outcome

    def _keep_files(self, fault: Fault, place: Place, outcome: Outcome) -> None:
        """Before they go: what a failed round has left, and what its servers said."""
        if self._keep is None:
            self._keep = Path(tempfile.mkdtemp(prefix="mq-torture-failed-"))
        target = self._keep / f"{fault.name}-{place.number}"
        for count, server in enumerate(place.servers):
            log = "\n".join(map(str, server.log))
            server.kill()
            kept = target / str(count)
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "log").write_text(log)
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(server.data_dir, kept / "data", symlinks=True)
        again = f"--only {fault.name} --seed {self._plan.seed} --begin {place.number} --rounds 1"
        outcome.problem(f"again: {again}; its files: {target}")

    @staticmethod
    def _report(fault: Fault, number: int, outcome: Outcome, seconds: float) -> None:
        verdict = "ok" if outcome.clean else "FAILED"
        _say(
            f"{fault.name} {number}: {verdict}, struck {outcome.rounds} times, "
            f"{outcome.acknowledged:,} acknowledged, {outcome.lost} lost, "
            f"{outcome.doubled} doubled, {outcome.invented} invented, "
            f"{outcome.refused:,} refused ({seconds:.1f} s)"
        )
        for problem in outcome.problems:
            _say(f"    {problem}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait meanwhile: what is half undone is worse than a late end."""
    waiting = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
