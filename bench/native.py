"""``native``: the servers' own speed, with clients that are not Python.

A Python client costs more a call than most servers do. Here mq and NATS are
loaded by one Go program (``bench/goload``), one message a call, and Redis by
its own ``redis-benchmark``, one XADD a call; all synced before acknowledging.
The Go program also publishes to mq at fixed rates and receives in pulls that wait.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.context import Context
from bench.environment import Unavailable
from bench.peers.base import SYNCED
from bench.peers.compare import Contender, contender
from bench.rounds import interleaved

_SOURCE = Path(__file__).resolve().parent / "goload"
_BROKERS = ("mq", "redis", "nats")
_WIDTHS = (1, 64, 256)
_SIZE = 100
_ROUNDS = 3
_RATES_PER_S = (1_000, 5_000)


def measure(context: Context, names: Sequence[str]) -> dict[str, Any]:
    """One, 64 and 256 messages in flight.

    Returns:
        ``widths``: messages in flight, then broker, then a list of rounds;
        ``paced``: for each rate to waiting pulls of mq a list of rounds, each with
        the quantiles, in microseconds, of ``receipt``, ``acknowledged`` and ``lag``
        as ``end_to_end`` has them; and ``missing``: broker to the reason.

    Raises:
        Unavailable: There is no Go.
    """
    program = _build()
    missing: dict[str, str] = {}
    results: dict[str, dict[str, list[Any]]] = {}
    contenders: dict[str, Contender] = {}
    with ExitStack() as stack:
        for name in [name for name in _BROKERS if name in names]:
            try:
                contenders[name] = stack.enter_context(contender(context.root, name, SYNCED))
            except Unavailable as reason:
                missing[name] = str(reason)
        widths = [str(width) for width in _WIDTHS]
        rounds = min(_ROUNDS, context.profile.rounds)
        for turn in interleaved(widths, tuple(contenders), rounds):
            context.progress(f"native: {turn.contender}, {turn.workload} in flight")
            os.sync()
            figures = _load(
                contenders[turn.contender], program, f"native-{turn.workload}-{turn.round}",
                int(turn.workload), context.profile.seconds,
            )  # fmt: skip
            results.setdefault(turn.workload, {}).setdefault(turn.contender, []).append(figures)
        ours = contenders.get("mq")
        paced = _paced(context, program, ours, rounds) if ours is not None else []
    return {"widths": results, "paced": paced, "missing": missing}


def _paced(context: Context, program: Path, one: Contender, rounds: int) -> list[dict[str, Any]]:
    """The rates in turn, ``rounds`` times."""
    found: list[dict[str, Any]] = [{"rate_per_s": rate, "rounds": []} for rate in _RATES_PER_S]
    for number in range(rounds):
        for each in found:
            rate, address = each["rate_per_s"], one.running.address
            context.progress(f"native: {rate} messages a second to a waiting pull")
            stream = f"native-paced-{rate}-{number}"
            one.worker.call("create", address=address, channels=[stream])
            os.sync()
            command = [
                str(program), "-address", address, "-stream", stream, "-rate", str(rate),
                "-size", str(_SIZE), "-time", f"{context.profile.end_to_end_seconds / 2}s",
            ]  # fmt: skip
            each["rounds"].append(json.loads(_run(command)))
    return found


def _build() -> Path:
    if not shutil.which("go"):
        raise Unavailable("Go is not installed: apt-get install golang, or see go.dev")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mq-bench"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "goload"
    _run(["go", "build", "-C", str(_SOURCE), "-o", str(program), "."])
    return program


def _load(one: Contender, program: Path, stream: str, width: int, seconds: float) -> dict[str, Any]:
    before = one.running.process.cpu_s
    if one.name == "redis":
        figures = _redis_benchmark(one.running.address, stream, width, seconds)
    else:
        if one.name == "mq":
            one.worker.call("create", address=one.running.address, channels=[stream])
        command = [
            str(program), "-broker", one.name, "-address", one.running.address, "-stream", stream,
            "-width", str(width), "-size", str(_SIZE), "-time", f"{seconds}s",
        ]  # fmt: skip
        figures = json.loads(_run(command))
    figures["server_cpu_s"] = one.running.process.cpu_s - before
    return figures


def _redis_benchmark(address: str, stream: str, width: int, seconds: float) -> dict[str, Any]:
    if not shutil.which("redis-benchmark"):
        raise Unavailable("redis-benchmark is not installed: apt-get install redis-tools")
    host, _, port = address.partition(":")
    # It counts requests rather than time: about as many as that time takes.
    requests = round(seconds * (4_000 if width == 1 else 40_000))
    command = [
        "redis-benchmark", "-h", host, "-p", port, "-c", str(width), "-n", str(requests), "--csv",
        "XADD", stream, "*", "c", "x" * _SIZE,
    ]  # fmt: skip
    (row,) = csv.DictReader(_run(command).splitlines())
    rate = float(row["rps"])
    return {
        "messages": requests,
        "seconds": requests / rate,
        "messages_per_s": rate,
        "p50_us": float(row["p50_latency_ms"]) * 1e3,
        "p99_us": float(row["p99_latency_ms"]) * 1e3,
    }


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {done.stderr[-800:]}")
    return done.stdout
