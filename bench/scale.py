"""``scale``: what cost depends on, and what it must not depend on.

By messages stored, number of channels, number of subscribers and message size;
what idle channels and waiting pulls cost; how thousands of channels open.
"""

from __future__ import annotations

import time
from typing import Any

from bench.context import Context
from bench.end_to_end import paced
from bench.environment import fresh_directory
from bench.mq_bench import Rig, rig
from bench.mq_server import MqServer
from bench.process import memory_bytes, open_files
from bench.rounds import interleaved
from bench.worker import Worker

_SIZE = 100
_ROUNDS = 5
_IN_FLIGHT = 64
# A channel with fewer messages is filled anew each round, to hold no more than it should.
_KEPT = 1_000_000
# Bytes of contents in a batch when messages differ in size; at least one message.
_BATCH_BYTES = 50_000
_FAN_OUT_RATE_PER_S = 200


def measure(context: Context) -> dict[str, Any]:
    """All of them; each part has a key of its own."""
    return {
        "stored": _stored(context),
        "channels": _channels(context),
        "subscribers": _subscribers(context),
        "message_bytes": _message_bytes(context),
        "idle": _idle(context),
        "many_channels": _many_channels(context),
    }


def _stored(context: Context) -> list[dict[str, Any]]:
    """Publishing to channels that hold 10^3 … 10^7 messages, in interleaved rounds."""
    profile = context.profile
    found = {
        str(count): {
            "messages": count, "one_p50_us": [], "batch_messages_per_s": [], "pull_p50_us": [],
        }
        for count in profile.stored_messages
    }  # fmt: skip
    with rig(context) as one:
        filled: dict[str, str] = {}
        for turn in interleaved(tuple(found), ("mq",), min(_ROUNDS, profile.rounds)):
            count = int(turn.workload)
            channel = f"stored-{count}-{turn.round if count < _KEPT else 0}"
            if channel not in filled.values():
                context.progress(f"scale: storing {count:,} messages")
                one.fill(channel, count)
                filled[turn.workload] = channel
            context.progress(f"scale: publishing with {count:,} stored")
            _publish_and_pull(one, channel, profile.seconds / 2, found[turn.workload])
    return list(found.values())


def _publish_and_pull(one: Rig, channel: str, seconds: float, into: dict[str, Any]) -> None:
    single = one.workload("publish_one", channel=channel, size=_SIZE, seconds=seconds)
    into["one_p50_us"].append(single["p50_us"])
    seeking = one.workload("pull_anywhere", channel=channel, seconds=seconds / 2)
    into["pull_p50_us"].append(seeking["p50_us"])
    # Last: it adds some 10^5 messages to what is stored.
    batched = one.workload(
        "publish_batches", channel=channel, records=500, width=4, size=_SIZE, seconds=seconds / 2
    )
    into["batch_messages_per_s"].append(batched["messages_per_s"])


def _channels(context: Context) -> list[dict[str, Any]]:
    """64 single publishes in flight, spread over ever more channels."""
    results = []
    with rig(context) as one:
        for count in context.profile.channels:
            context.progress(f"scale: publishing to {count:,} channels")
            names = [f"channel-{count}-{number}" for number in range(count)]
            one.call("create", channels=names)
            figures = one.workload(
                "publish_spread", channels=names, width=_IN_FLIGHT, size=_SIZE,
                seconds=context.profile.seconds,
            )  # fmt: skip
            results.append({"channels": count, **figures})
    return results


def _subscribers(context: Context) -> list[dict[str, Any]]:
    """One publisher at a fixed rate, received by ever more waiting pulls."""
    seconds = min(3.0, context.profile.end_to_end_seconds)
    results = []
    with rig(context, workers=2) as one:
        for count in context.profile.subscribers:
            context.progress(f"scale: {count} subscribers")
            name = f"fan-out-{count}"
            results.append(paced(one, name, _FAN_OUT_RATE_PER_S, seconds, subscribers=count))
    return results


def _message_bytes(context: Context) -> list[dict[str, Any]]:
    """Publishing and pulling batches of about 50 kB, of messages from 10 B to 1 MiB."""
    seconds = context.profile.seconds / 2
    results = []
    with rig(context) as one:
        for size in context.profile.message_bytes:
            context.progress(f"scale: messages of {size:,} bytes")
            channel = f"size-{size}"
            one.call("create", channels=[channel])
            records = max(1, _BATCH_BYTES // size)
            published = one.workload(
                "publish_batches", channel=channel, records=records, width=4, size=size,
                seconds=seconds,
            )  # fmt: skip
            single = one.workload("publish_one", channel=channel, size=size, seconds=seconds)
            pulled = one.workload("pull", channel=channel, max_bytes=1 << 20, seconds=seconds)
            results.append({
                "size": size, "records": records, "published": published, "one": single,
                "pulled": pulled,
            })  # fmt: skip
    return results


def _idle(context: Context) -> dict[str, Any]:
    """Many channels, a pull waiting on each, and nothing to do."""
    profile = context.profile
    names = [f"idle-{number}" for number in range(profile.idle_channels)]
    with rig(context) as one:
        context.progress(f"scale: {len(names):,} idle channels")
        one.call("create", channels=names)
        pid = one.server.process.pid
        without = memory_bytes(pid)
        settle_s = min(3.0, profile.idle_seconds)
        one.workers[0].begin(
            "wait_idle", address=one.server.address, channels=names,
            seconds=profile.idle_seconds + 2 * settle_s,
        )  # fmt: skip
        time.sleep(settle_s)
        before = one.server.process.cpu_s
        time.sleep(profile.idle_seconds)
        used = one.server.process.cpu_s - before
        waiting = memory_bytes(pid)
        one.workers[0].finish()
    return {
        "channels": len(names),
        "waiting_pulls": len(names),
        "cpu_fraction": used / profile.idle_seconds,
        "memory": waiting,
        "memory_without_pulls": without,
    }


def _many_channels(context: Context) -> list[dict[str, Any]]:
    """Opening ten channels, and thousands, after a kill."""
    return [_open_channels(context, count) for count in (10, context.profile.many_channels)]


def _open_channels(context: Context, count: int) -> dict[str, Any]:
    names = [f"many-{number}" for number in range(count)]
    with fresh_directory(context.root, "many") as directory, Worker(directory, "0") as worker:
        context.progress(f"scale: creating {count:,} channels")
        server = MqServer(directory / "data", directory / "server.log", context.front)
        try:
            created = worker.call("create", address=server.address, channels=names)
            context.progress(f"scale: writing to {count:,} channels")
            worker.call("touch", address=server.address, channels=names, size=_SIZE)
            server.process.kill()
            context.progress(f"scale: opening {count:,} channels")
            server = MqServer(directory / "data", directory / "server.log", context.front)
            first = worker.call("first_pull", address=server.address, channel=names[-1])
            opened = {
                "serving_s": server.listening_s + first["seconds"],
                "memory": memory_bytes(server.process.pid),
                "open_files": open_files(server.process.pid),
            }
            context.progress(f"scale: reading {count:,} channels")
            worker.call("read_each", address=server.address, channels=names)
            return {
                "channels": count, "create_s": created["seconds"], **opened,
                "open_files_after_reading": open_files(server.process.pid),
            }  # fmt: skip
        finally:
            server.process.stop()
