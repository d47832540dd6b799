"""The comparison: the same workloads for every broker, in interleaved rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environment import Unavailable, fresh_directory
from bench.peers import registry
from bench.peers.base import CONSUME, PUBLISH, WORKLOADS, Peer, Running
from bench.rounds import interleaved
from bench.worker import Worker

# Where filling is slow there is less to read: this fraction of what others get.
_FILL_FRACTION = {"nats": 0.15}
_FILLED = "filled"

Progress = Callable[[str], None]
# By workload (or batch size), then by broker: one entry a round.
Results = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure."""

    peers: Sequence[str] = registry.NAMES
    workloads: Sequence[str] = tuple(WORKLOADS)
    rounds: int = 5
    seconds: float = 1.0
    size: int = 100
    # Messages that are there to read.
    to_read: int = 400_000
    # Also publish in batches of these sizes, four in flight.
    batch_sizes: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server and the worker that drives it."""

    name: str
    mode: str
    peer: Peer
    running: Running
    worker: Worker

    def measure(
        self, workload: str, stream: str, seconds: float, size: int, records: int = 500
    ) -> dict[str, Any]:
        """One measurement, with the processor time of both sides; empty if there is no such."""
        before = self.running.process.cpu_s
        figures = self.worker.call(
            "measure", peer=self.name, address=self.running.address, mode=self.mode,
            workload=workload, stream=stream, seconds=seconds, size=size, records=records,
        )  # fmt: skip
        if "messages" not in figures:
            return {}
        figures["server_cpu_s"] = self.running.process.cpu_s - before
        return figures


def compare(root: Path, mode: str, options: Options, progress: Progress) -> dict[str, Any]:
    """Runs every workload against every broker that can be started.

    Returns:
        ``brokers`` (version and settings of each), ``missing`` (name to the
        reason), ``results`` and ``batch_sizes``: workload or size, then broker,
        then a list of rounds.
    """
    missing: dict[str, str] = {}
    contenders: dict[str, Contender] = {}
    with ExitStack() as stack:
        for name in options.peers:
            progress(f"starting {name}")
            try:
                contenders[name] = stack.enter_context(contender(root, name, mode))
            except Unavailable as reason:
                missing[name] = str(reason)
        _fill(contenders, options, progress)
        results = _workloads(contenders, options, progress)
        sizes = _batch_sizes(contenders, options, progress)
        brokers = {
            name: {"version": one.peer.version(), "settings": one.peer.settings[mode]}
            for name, one in contenders.items()
        }
    return {"brokers": brokers, "missing": missing, "results": results, "batch_sizes": sizes}


@contextmanager
def contender(root: Path, name: str, mode: str) -> Iterator[Contender]:
    """A started server with a worker, both ended at the end."""
    found = registry.peer(name)
    with fresh_directory(root, name) as directory, Worker(directory, name) as worker:
        running = found.start(mode, directory)
        try:
            yield Contender(name, mode, found, running, worker)
        finally:
            running.process.stop()


def _fill(contenders: Mapping[str, Contender], options: Options, progress: Progress) -> None:
    if not set(options.workloads) & set(CONSUME):
        return
    for name, one in contenders.items():
        progress(f"filling {name}")
        one.worker.call(
            "fill", peer=name, address=one.running.address, mode=one.mode, stream=_FILLED,
            count=int(options.to_read * _FILL_FRACTION.get(name, 1)), size=options.size,
        )  # fmt: skip


def _workloads(
    contenders: Mapping[str, Contender], options: Options, progress: Progress
) -> Results:
    results: Results = {}
    # The first round is a warm-up of the servers (Kafka compiles) and isn't kept.
    for turn in interleaved(options.workloads, tuple(contenders), options.rounds + 1):
        progress(f"{turn.workload}: {turn.contender}, round {turn.round} of {options.rounds}")
        stream = f"{turn.workload}-{turn.round}" if turn.workload in PUBLISH else _FILLED
        seconds = options.seconds if turn.round else options.seconds / 2
        _settle()
        figures = contenders[turn.contender].measure(turn.workload, stream, seconds, options.size)
        if figures and turn.round:
            results.setdefault(turn.workload, {}).setdefault(turn.contender, []).append(figures)
    return results


def _batch_sizes(
    contenders: Mapping[str, Contender], options: Options, progress: Progress
) -> Results:
    results: Results = {}
    sizes = [str(size) for size in options.batch_sizes]
    for turn in interleaved(sizes, tuple(contenders), 1):
        progress(f"batches of {turn.workload}: {turn.contender}")
        _settle()
        figures = contenders[turn.contender].measure(
            "batch_x4", f"size-{turn.workload}", options.seconds, options.size, int(turn.workload)
        )
        if figures:
            results.setdefault(turn.workload, {})[turn.contender] = [figures]
    return results


def _settle() -> None:
    """Nobody is to pay for the write-back of what another one left behind."""
    os.sync()
