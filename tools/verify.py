"""Verify a data directory where only mq/log and what it needs is at hand.

    python tools/verify.py DIR [--json]

The same as ``mq verify``, without a progress bar. Needs numpy and crc32c, and
no gRPC. Exit codes: 0 sound, 1 damaged, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mq.errors import MQError
from mq.log.verify import verify_data_dir


def main() -> int:
    """Verify, print, and give the exit code."""
    parser = argparse.ArgumentParser(description="Verify an mq data directory, offline.")
    parser.add_argument("directory", type=Path, help="what the broker is given with --data-dir")
    parser.add_argument("--json", action="store_true", help="one JSON object, see docs/verify.md")
    args = parser.parse_args()
    try:
        report = verify_data_dir(args.directory)
    except (MQError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        for line in report.lines():
            print(line)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
