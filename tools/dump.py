"""Show what is in a segment file, where only mq/log and what it needs is at hand.

    python tools/dump.py SEGMENT

One JSON object a line for each part: header, frames, damage, padding, footer.
Ids and other bytes are in hexadecimal. Exit codes: 0 sound, 1 there is damage,
2 it is no segment file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mq.errors import MQError
from mq.log.dump import dump_segment


def main() -> int:
    """Dump, and give the exit code."""
    parser = argparse.ArgumentParser(description="Show what is in an mq segment file.")
    parser.add_argument("segment", type=Path)
    args = parser.parse_args()
    damaged = False
    try:
        for part in dump_segment(args.segment):
            damaged = damaged or part["kind"] == "damage"
            print(json.dumps(part, default=bytes.hex))
    except (MQError, OSError) as error:
        print(f"dump: {error}", file=sys.stderr)
        return 2
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
