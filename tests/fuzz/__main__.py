"""``python -m tests.fuzz NAME``: run a harness, with atheris where it is installed.

python -m tests.fuzz recovery --seconds 60
python -m tests.fuzz recovery --engine random --seed 7
python -m tests.fuzz recovery --input crash-...      one input again
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.harness import SCRATCH_VARIABLE, Harness, scratch
from tests.fuzz.mutate import mutated

NAMES = ("frames", "hints", "recovery", "answers", "requests")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60, help="for how long (60)")
    parser.add_argument("--seed", type=int, help="repeat a run; it is printed")
    parser.add_argument("--engine", choices=("atheris", "random"), help="default: what is there")
    parser.add_argument("--corpus", type=Path, help="a directory of inputs, kept and added to")
    parser.add_argument("--input", type=Path, help="a file to be run once")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code. An input that fails is an exception, and left in a file."""
    given = arguments(argv)
    there = importlib.util.find_spec("atheris") is not None
    engine = given.engine or ("atheris" if there else "random")
    seed = random.SystemRandom().randrange(1, 1 << 31) if given.seed is None else given.seed
    if given.input is not None:
        return _once(_load(given.name), given.input.read_bytes())
    if engine == "random":
        return _at_random(_load(given.name), seed, given.seconds)
    if SCRATCH_VARIABLE in os.environ:
        return _with_atheris(given, seed)
    # It ends its process without a word: what is left is for us to remove.
    path = scratch()
    try:
        command = (sys.executable, "-m", "tests.fuzz", *(argv or sys.argv[1:]))
        again = (*command, "--engine", "atheris", "--seed", str(seed))
        environment = os.environ | {SCRATCH_VARIABLE: str(path)}
        return subprocess.run(again, env=environment, check=False).returncode
    finally:
        shutil.rmtree(path)


def _load(name: str) -> Harness:
    harness: Harness = importlib.import_module(f"tests.fuzz.{name}").HARNESS
    sys.stderr.write(f"{harness.name}: {harness.invariant}\n")
    return harness


def _once(harness: Harness, data: bytes) -> int:
    try:
        harness.run(data)
    finally:
        harness.end()
    return 0


def _at_random(harness: Harness, seed: int, seconds: float) -> int:
    rng, seeds, runs = random.Random(seed), harness.seeds(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(rng, seeds)
        try:
            harness.run(data)
        except BaseException:
            Path(f"crash-{harness.name}").write_bytes(data)
            sys.stderr.write(f"seed {seed}, run {runs}: the input is in crash-{harness.name}\n")
            harness.end()
            raise
        runs += 1
    harness.end()
    sys.stderr.write(f"{harness.name}: {runs:,} runs in {seconds:g} s, seed {seed}\n")
    return 0


def _with_atheris(given: argparse.Namespace, seed: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["mq"]):
        harness = _load(given.name)
    corpus = given.corpus or scratch()
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(harness.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    options = (
        f"-max_total_time={given.seconds}",
        f"-seed={seed}",
        f"-artifact_prefix=crash-{harness.name}-",
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], harness.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
