"""``groups``: consumer groups, against pull consumers of NATS and groups of Redis.

Fetch and acknowledge by batch size and by number of consumers, all of it synced;
what a million messages in flight cost, and how long opening takes with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from bench.context import Context
from bench.environment import Unavailable, fresh_directory
from bench.mq_server import MqServer
from bench.peers.base import SYNCED
from bench.peers.compare import Contender, contender
from bench.process import memory_bytes
from bench.rounds import interleaved
from bench.worker import Worker

_PEERS = ("mq", "redis", "nats")
_BATCHES = ("1", "10", "100", "500")
_CONSUMERS = ("1", "2", "4", "8")
_RECORDS = 500
_SIZE = 100
# Where filling is slow there is less to read.
_FILL_FRACTION = {"redis": 0.2, "nats": 0.05}
_STREAM, _GROUP = "filled", "workers"

# By batch size or number of consumers, then by broker: one entry a round.
Results = dict[str, dict[str, list[dict[str, Any]]]]


def measure(context: Context, names: Sequence[str]) -> dict[str, Any]:
    """All of it; each part has a key of its own."""
    return {**_compare(context, names), "in_flight": _in_flight(context)}


def _compare(context: Context, names: Sequence[str]) -> dict[str, Any]:
    missing: dict[str, str] = {}
    running: dict[str, Contender] = {}
    with ExitStack() as stack:
        for name in _PEERS:
            if name in names:
                try:
                    running[name] = stack.enter_context(contender(context.root, name, SYNCED))
                except Unavailable as reason:
                    missing[name] = str(reason)
        directory = stack.enter_context(fresh_directory(context.root, "consumers"))
        count = max(map(int, _CONSUMERS))
        workers = [stack.enter_context(Worker(directory, str(n))) for n in range(count)]
        for name, one in running.items():
            context.progress(f"groups: filling {name}")
            one.worker.call(
                "fill", peer=name, address=one.running.address, mode=one.mode, stream=_STREAM,
                count=int(context.profile.group_to_read * _FILL_FRACTION.get(name, 1)),
                size=_SIZE,
            )  # fmt: skip
        batches = _by_batch(context, running)
        consumers = _by_consumers(context, running, workers)
        settings = {name: one.peer.settings[SYNCED] for name, one in running.items()}
    return {"settings": settings, "missing": missing, "batches": batches, "consumers": consumers}


def _by_batch(context: Context, running: Mapping[str, Contender]) -> Results:
    """One consumer, by the size of what it fetches and acknowledges together."""
    results: Results = {}
    rounds = context.profile.group_rounds
    for turn in interleaved(_BATCHES, tuple(running), rounds + 1):
        if not turn.round and turn.workload != _BATCHES[-1]:
            # One warm-up is enough.
            continue
        context.progress(f"groups: batches of {turn.workload}: {turn.contender}")
        os.sync()
        figures = running[turn.contender].measure(
            "group_ack", _STREAM, _seconds(context), _SIZE, int(turn.workload)
        )
        if turn.round:
            results.setdefault(turn.workload, {}).setdefault(turn.contender, []).append(figures)
    return results


def _by_consumers(
    context: Context, running: Mapping[str, Contender], workers: Sequence[Worker]
) -> Results:
    """Consumers that share one group, each a process of its own."""
    results: Results = {}
    for turn in interleaved(_CONSUMERS, tuple(running), context.profile.group_rounds):
        context.progress(f"groups: {turn.workload} consumers: {turn.contender}")
        os.sync()
        sharing = workers[: int(turn.workload)]
        group = f"shared-{turn.workload}-{turn.round}"
        figures = _share(running[turn.contender], sharing, group, _seconds(context))
        results.setdefault(turn.workload, {}).setdefault(turn.contender, []).append(figures)
    return results


def _share(one: Contender, workers: Sequence[Worker], group: str, seconds: float) -> dict[str, Any]:
    before = one.running.process.cpu_s
    for worker in workers:
        worker.begin(
            "measure", peer=one.name, address=one.running.address, mode=one.mode,
            workload="group_ack", stream=_STREAM, seconds=seconds, size=_SIZE, records=_RECORDS,
            group=group,
        )  # fmt: skip
    answers = [worker.finish() for worker in workers]
    return {
        "messages": sum(answer["messages"] for answer in answers),
        "messages_per_s": sum(answer["messages_per_s"] for answer in answers),
        "server_cpu_s": one.running.process.cpu_s - before,
    }


def _seconds(context: Context) -> float:
    return context.profile.seconds / 2


def _in_flight(context: Context) -> list[dict[str, Any]]:
    """Memory with ever more messages in flight, and opening after ``kill -9`` with them."""
    count = context.profile.group_in_flight
    results = []
    for in_flight, scattered in ((0, False), (count, False), (count, True)):
        context.progress(f"groups: {in_flight:,} in flight" + ", scattered" * scattered)
        results.append(_outstanding(context, in_flight, scattered=scattered))
    return results


def _outstanding(context: Context, in_flight: int, *, scattered: bool) -> dict[str, Any]:
    stored = max(1_000, in_flight * (2 if scattered else 1))
    where = {"channel": "c", "group": _GROUP}
    with fresh_directory(context.root, "groups") as directory, Worker(directory, "0") as worker:
        server = MqServer(directory / "data", directory / "server.log", context.front)
        try:
            worker.call(
                "fill_mq", address=server.address, channel="c", count=stored + 1, size=_SIZE,
                records=_RECORDS,
            )  # fmt: skip
            call = {"address": server.address, **where}
            before = memory_bytes(server.process.pid)
            if in_flight:
                worker.call("lease_all", count=stored, **call)
            if scattered:
                worker.call("ack_every_other", count=stored, **call)
            if not in_flight:
                worker.call("first_fetch", **call)
            memory = memory_bytes(server.process.pid)
            server.process.kill()
            server = MqServer(directory / "data", directory / "server.log", context.front)
            first = worker.call("first_fetch", address=server.address, **where)
            return {
                "in_flight": in_flight,
                "scattered": scattered,
                "memory_before": before,
                "memory": memory,
                "serving_s": server.listening_s + first["seconds"],
                "recovery_s": first["seconds"],
            }
        finally:
            server.process.stop()
