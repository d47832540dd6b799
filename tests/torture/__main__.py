"""``python -m tests.torture``: strikes with every fault, in turn, until the time is up."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.torture.faults import FAULTS
from tests.torture.place import adopt_orphans, private_mounts
from tests.torture.runner import Plan, Runner
from tests.torture.table import Row, table


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Strike a broker with every fault, and check that nothing acknowledged is "
        "lost, nothing is doubled and nothing invented. Exit code 0 if so.",
        epilog="faults: "
        + "; ".join(f"{fault.name} ({fault.number}: {fault.about})" for fault in FAULTS),
    )
    parser.add_argument(
        "--minutes", type=float, help="for how long, shared equally; without it, one round each"
    )
    parser.add_argument("--rounds", type=int, help="at most so many rounds of each fault")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--seed", type=int, help="repeat a run; it is printed at the beginning")
    parser.add_argument("--begin", type=int, default=0, help="the number of the first round")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    parser.add_argument(
        "--dir", type=Path, help="where the rounds take place; default: the temporary directory"
    )
    parser.add_argument(
        "--keep", type=Path, help="where the files of a failed round go; default: a new directory"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    given = arguments(argv)
    # Before anything starts a thread.
    private_mounts()
    adopt_orphans()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    plan = Plan(
        faults=[fault for fault in FAULTS if fault.name in given.only],
        seed=seed,
        minutes=given.minutes,
        rounds=given.rounds,
        begin=given.begin,
        directory=given.dir,
        keep=given.keep,
    )
    rows = Runner(plan).run()
    sys.stdout.write(table(rows, seed))
    if given.json is not None:
        given.json.write_text(json.dumps(_json(rows, seed), indent=2) + "\n")
    return 0 if all(row.outcome.clean for row in rows) else 1


def _json(rows: Sequence[Row], seed: int) -> dict[str, object]:
    return {"seed": seed, "faults": [row.to_json() for row in rows]}


if __name__ == "__main__":
    sys.exit(main())
