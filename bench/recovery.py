"""``recovery``: kill -9 under load, then the time to the first answer, by what is stored."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from bench.context import Context
from bench.environment import Unavailable, fresh_directory
from bench.mq_server import MqServer
from bench.process import memory_bytes
from bench.worker import Worker

_CHANNEL = "recovery"
_SIZE = 100
_RECORDS = 5_000
_LOAD_S = 0.4


def measure(context: Context) -> dict[str, Any]:
    """Fills, kills, opens; for an empty store and each size of the profile.

    Returns:
        ``stores``: for each ``bytes`` (of contents) ``serving_s``, from starting
        the process to the first answer of a pull (the median of several kills),
        the same with nothing in the page cache, and memory as filled, as opened
        and after everything was read.
    """
    return {"stores": [_store(context, size) for size in (0, *_sizes(context))]}


def _sizes(context: Context) -> list[int]:
    half = shutil.disk_usage(context.root).free // 2
    return [min(size, half) for size in context.profile.recovery_bytes]


def _store(context: Context, size: int) -> dict[str, Any]:
    progress = context.progress
    with (
        fresh_directory(context.root, "recovery") as directory,
        Worker(directory, "0") as worker,
    ):
        progress(f"recovery: filling with {size / 1e6:,.0f} MB")
        server = _start(context, directory)
        try:
            result: dict[str, Any] = {"bytes": size}
            filled = worker.call(
                "fill_mq", address=server.address, channel=_CHANNEL, count=max(1, size // _SIZE),
                size=_SIZE, records=_RECORDS,
            )  # fmt: skip
            result |= {
                "fill_s": filled["seconds"],
                "filled_memory": memory_bytes(server.process.pid),
            }
            openings = []
            kills = context.profile.kills
            for number in range(kills):
                progress(f"recovery: {size / 1e6:,.0f} MB, kill {number + 1} of {kills}")
                acknowledged = _kill_under_load(server, worker)
                server = _start(context, directory)
                openings.append(_serving_s(server, worker, acknowledged))
            result["serving_s"] = statistics.median(openings)
            result["opened_memory"] = memory_bytes(server.process.pid)
            if size:
                progress(f"recovery: reading {size / 1e6:,.0f} MB")
                worker.call(
                    "replay", address=server.address, channel=_CHANNEL, max_bytes=4 << 20,
                    seconds=10,
                )  # fmt: skip
                result["read_memory"] = memory_bytes(server.process.pid)
            server.process.kill()
            drop_page_cache(server.segment_files())
            server = _start(context, directory)
            result["cold_serving_s"] = _serving_s(server, worker)
            return result
        finally:
            server.process.stop()


def _start(context: Context, directory: Path) -> MqServer:
    return MqServer(directory / "data", directory / "server.log", context.front)


def _kill_under_load(server: MqServer, worker: Worker) -> int:
    """Kills it while messages are being appended; what has to be there afterwards."""
    worker.begin("publish_until_gone", address=server.address, channel=_CHANNEL, size=_SIZE)
    time.sleep(_LOAD_S)
    server.process.kill()
    return int(worker.finish()["durable_offset"])


def _serving_s(server: MqServer, worker: Worker, acknowledged: int = 0) -> float:
    first = worker.call("first_pull", address=server.address, channel=_CHANNEL)
    if first["durable_offset"] < acknowledged:
        raise Unavailable(
            f"{acknowledged} messages were acknowledged, {first['durable_offset']} are there"
        )
    return float(server.listening_s + first["seconds"])


def drop_page_cache(files: list[Path]) -> None:
    """Writes files back and lets the kernel forget them; works on files that no one maps."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
