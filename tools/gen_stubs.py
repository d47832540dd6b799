"""Generate ``mq/pb`` from ``proto/mq.proto``; ``--check`` says if it is out of date."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "mq" / "pb"
NAMES = ("mq_pb2.py", "mq_pb2.pyi", "mq_pb2_grpc.py")


def generate(into: Path) -> None:
    """Write the three stub files into the directory ``into``."""
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT / 'proto'}",
            f"--python_out={into}",
            f"--pyi_out={into}",
            f"--grpc_python_out={into}",
            str(ROOT / "proto" / "mq.proto"),
        ]
    )
    if status != 0:
        sys.exit(status)
    _make_import_relative(into / "mq_pb2_grpc.py")


def _make_import_relative(grpc_stub: Path) -> None:
    # protoc writes a top-level import; the stubs live in a package.
    text = grpc_stub.read_text()
    head, found, tail = text.partition("\nimport mq_pb2 as mq__pb2\n")
    if not found:
        sys.exit(
            f"{grpc_stub.name}: protoc no longer imports mq_pb2 as expected; adapt this script"
        )
    grpc_stub.write_text(f"{head}\nfrom . import mq_pb2 as mq__pb2\n{tail}")


def _differs(present: Path, fresh: Path) -> bool:
    return not present.exists() or present.read_bytes() != fresh.read_bytes()


def main() -> None:
    """Generate the stubs, or with ``--check`` compare and exit 1 on a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    check = parser.parse_args().check
    if not check:
        generate(TARGET)
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        stale = [name for name in NAMES if _differs(TARGET / name, Path(scratch) / name)]
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make stubs`", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
