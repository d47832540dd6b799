"""``dirty_files``: how best to sync many files that each have a little to be synced.

What a broker with many channels has to do at once: in turn, by threads, or by
one ``syncfs`` of the file system. The broker does it by threads; here is why.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.context import Context
from bench.environment import fresh_directory
from bench.rounds import interleaved

_FILE_BYTES = 1 << 16
_WRITE = b"x" * 182
_ROUNDS = 4

Sync = Callable[[Sequence[int]], None]


def measure(context: Context) -> dict[str, Any]:
    """Writes a message to each of many files, then syncs them all.

    Returns:
        ``files`` and, by way, a list of ``seconds`` for all of them.
    """
    counts = [str(count) for count in context.profile.dirty_files]
    seconds: dict[str, dict[str, list[float]]] = {}
    with fresh_directory(context.root, "dirty") as root:
        ways = _ways(root)
        for count in counts:
            handles = [_open(root / f"{count}-{n}") for n in range(int(count))]
            position = 0
            for turn in interleaved([count], list(ways), _ROUNDS):
                context.progress(f"dirty_files: {count} files, {turn.contender}")
                took = _once(handles, position, ways[turn.contender])
                position += len(_WRITE)
                if turn.round:
                    seconds.setdefault(count, {}).setdefault(turn.contender, []).append(took)
            for handle in handles:
                os.close(handle)
    return {"seconds": seconds}


def _open(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(handle, 0, _FILE_BYTES)
    os.fsync(handle)
    return handle


def _once(handles: Sequence[int], position: int, sync: Sync) -> float:
    for handle in handles:
        os.pwrite(handle, _WRITE, position)
    began = time.perf_counter()
    sync(handles)
    return time.perf_counter() - began


def _ways(root: Path) -> dict[str, Sync]:
    return {
        "in turn": _in_turn,
        "4 threads": _by_threads(4),
        "8 threads": _by_threads(8),
        "16 threads": _by_threads(16),
        "syncfs": _by_syncfs(root),
    }


def _in_turn(handles: Sequence[int]) -> None:
    for handle in handles:
        os.fdatasync(handle)


def _by_threads(threads: int) -> Sync:
    def sync(handles: Sequence[int]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_in_turn, [handles[n::threads] for n in range(threads)]))

    return sync


def _by_syncfs(root: Path) -> Sync:
    syncfs = ctypes.CDLL(None, use_errno=True).syncfs

    def sync(_: Sequence[int]) -> None:
        handle = os.open(root, os.O_RDONLY)
        try:
            if syncfs(handle) != 0:
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(handle)

    return sync
