"""Verify and repair a data directory where only mq/log and what it needs is at hand.

    python tools/verify.py DIR [--json] [--repair [--yes | --dry-run]] [--jobs N] [-q]

The same as ``mq verify``, without a progress bar, and of the journals of consumer
groups only the beginning of each record is looked at. Needs numpy and crc32c, and no
gRPC. Exit codes: 0 sound, or repaired; 1 damaged; 2 it could not be checked or
repaired; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mq.errors import MQError
from mq.log.jobs import cores
from mq.log.repair.repair import repair_data_dir
from mq.log.repair.report import Action, RepairReport
from mq.log.report import Report
from mq.log.verify import verify_data_dir


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Verify or repair an mq data directory, offline.")
    parser.add_argument("directory", type=Path, help="what the broker is given with --data-dir")
    parser.add_argument("--json", action="store_true", help="one JSON object, see docs/verify.md")
    parser.add_argument("--repair", action="store_true", help="show what puts it in order")
    parser.add_argument("-y", "--yes", action="store_true", help="let --repair change it")
    parser.add_argument("--dry-run", action="store_true", help="as --repair without --yes")
    parser.add_argument("--jobs", type=int, metavar="N", help="segments checked at the same time")
    parser.add_argument("-q", "--quiet", action="store_true", help="nothing unless damaged")
    given = parser.parse_args()
    if (given.yes or given.dry_run) and not given.repair:
        parser.error("--yes and --dry-run belong to --repair")
    if given.yes and given.dry_run:
        parser.error("--yes and --dry-run exclude each other")
    if given.jobs is not None and given.jobs < 1:
        parser.error("--jobs is 1 or more")
    return given


def check(given: argparse.Namespace, taken: list[Action]) -> Report | RepairReport:
    """Do what was asked for; ``taken`` is added to with each step of a repair."""
    jobs = given.jobs or cores()
    if given.repair:
        dry_run = not given.yes
        return repair_data_dir(given.directory, dry_run=dry_run, jobs=jobs, taken=taken.append)
    return verify_data_dir(given.directory, jobs=jobs)


def main() -> int:
    """Verify or repair, print, and give the exit code."""
    given = arguments()
    taken: list[Action] = []
    try:
        report = check(given, taken)
    except (MQError, OSError, KeyboardInterrupt) as error:
        for action in taken:
            print(f"done: {action.line()}", file=sys.stderr)
        if taken:
            print("verify: cut short; the same command does the rest", file=sys.stderr)
        print(f"verify: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not (given.quiet and report.ok):
        for line in report.lines():
            print(line)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
