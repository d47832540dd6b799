"""The fuzzing harnesses, in turn, each for longer than the tests can."""

from __future__ import annotations

import random
import re
import subprocess
import sys

from tests.fuzz.__main__ import NAMES
from tests.helpers.server import ROOT, clean_environment
from tests.torture.fault import Fault, Outcome
from tests.torture.place import Place

SECONDS = 20
LIMIT_S = 10 * SECONDS
TAIL_LINES = 15
INPUT_BYTES_MAX = 5000


def strike(rng: random.Random, place: Place) -> Outcome:
    """Run one harness; an input that breaks its invariant is a problem."""
    name = NAMES[place.number % len(NAMES)]
    seed = rng.randrange(1, 1 << 31)
    command = (sys.executable, "-m", "tests.fuzz", name, f"--seconds={SECONDS}", f"--seed={seed}")
    environment = clean_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=place.path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )
    outcome = Outcome()
    runs = re.search(r"([\d,]+) runs? in", done.stderr)
    outcome.rounds = int(runs[1].replace(",", "")) if runs else 0
    if done.returncode:
        outcome.problem("\n".join((f"{name}:", *done.stderr.splitlines()[-TAIL_LINES:])))
        for file in place.path.glob("crash-*"):
            outcome.problem(f"{file.name}: {file.read_bytes()[:INPUT_BYTES_MAX].hex()}")
    return outcome


FAULT = Fault("fuzzing", 20, "any bytes to parsers, recovery and handlers", strike)
