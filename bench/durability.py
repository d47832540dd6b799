"""Shows that a synced mode syncs: counts system calls a message acknowledged.

``strace`` is attached to a server while one client publishes one message at a
time. Then nothing can be shared between messages, so an honest synced mode
makes at least one sync a message, and a relaxed one next to none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.environment import Unavailable, fresh_directory
from bench.peers.base import MODES
from bench.peers.compare import Contender, contender

_CALLS = "fsync,fdatasync,msync,sync_file_range,syncfs,write,pwrite64,writev,pwritev,pwritev2"
_SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs")
_SECONDS = 0.5
_BEGIN = re.compile(r"^\d+\s+(?P<call>\w+)\((?P<target>[^)]*)")


def sync_counts(root: Path, peers: Sequence[str], progress: Callable[[str], None]) -> list[Any]:
    """Counts for every broker and mode; a broker that can't be started is left out.

    Returns:
        One entry a broker and mode: ``broker``, ``mode``, ``messages``,
        ``syncs`` (call to count), ``writes`` to files, ``syncs_per_message``.

    Raises:
        Unavailable: There is no strace.
    """
    if not shutil.which("strace"):
        raise Unavailable("strace is not installed: apt-get install strace")
    counts = []
    for name in peers:
        for mode in MODES:
            progress(f"counting the syncs of {name}, {mode}")
            try:
                with contender(root, name, mode) as one, fresh_directory(root, "strace") as trace:
                    counts.append(_traced(one, name, mode, trace / "calls"))
            except Unavailable as reason:
                progress(f"{name}: {reason}")
                break
    return counts


def _traced(one: Contender, name: str, mode: str, output: Path) -> dict[str, Any]:
    command = [
        "strace", "-f", "-y", "-o", str(output), "-e", f"trace={_CALLS}",
        "-p", str(one.running.process.pid),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        if "attached" not in tracer.stderr.readline():
            tracer.terminate()
            raise Unavailable("strace may not attach to a process here")
        # A thread is attached to a moment later than the first.
        time.sleep(0.5)
        figures = one.worker.call(
            "measure", peer=name, address=one.running.address, mode=mode, workload="one",
            stream="durability", seconds=_SECONDS, size=100,
        )  # fmt: skip
        tracer.terminate()
        tracer.stderr.read()
    return summarize(name, mode, figures["stored"], output.read_text().splitlines())


def summarize(name: str, mode: str, messages: int, lines: Iterable[str]) -> dict[str, Any]:
    """Counts syncs, and writes to files rather than sockets, in a trace."""
    syncs: Counter[str] = Counter()
    writes = 0
    for line in lines:
        found = _BEGIN.match(line)
        if not found:
            continue
        if found["call"] in _SYNCS:
            syncs[found["call"]] += 1
        elif "</" in found["target"]:
            writes += 1
    return {
        "broker": name,
        "mode": mode,
        "messages": messages,
        "syncs": dict(syncs),
        "writes": writes,
        "syncs_per_message": sum(syncs.values()) / messages if messages else 0.0,
    }
