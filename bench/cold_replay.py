"""``cold_replay``: what reading old data from the device does to publishers of other channels.

Three situations, interleaved: publishing alone; beside a replay of a channel
whose files are in no page cache; and beside the same replay once they are,
which tells what the device costs from what the processor does. Latencies count
from when a message is due.
"""

from __future__ import annotations

from typing import Any

from bench import latency
from bench.context import Context
from bench.environment import fresh_directory
from bench.mq_server import MqServer
from bench.process import device_read_bytes
from bench.recovery import drop_page_cache
from bench.worker import Worker

_RATE_PER_S = 1_000
_SIZE = 100
_RECORDS = 5_000
_FIGURES = ("p50_us", "p99_us", "max_us", "replayed_bytes", "replay_s", "device_bytes")
_SITUATIONS = ("alone", "cold", "hot")


def measure(context: Context) -> dict[str, Any]:
    """Publish latencies in the three situations.

    Returns:
        For ``alone``, ``cold`` and ``hot`` the ``p50_us``, ``p99_us`` and
        ``max_us`` of each round and what was replayed; and ``was_cold``:
        whether the server did read from the device what it replayed, and for
        as long as there were publishes.
    """
    profile = context.profile
    results: dict[str, Any] = {name: {figure: [] for figure in _FIGURES} for name in _SITUATIONS}
    with (
        fresh_directory(context.root, "cold") as directory,
        Worker(directory, "publisher") as publisher,
        Worker(directory, "reader") as reader,
    ):
        server = MqServer(directory / "data", directory / "server.log", context.front)
        try:
            context.progress(f"cold replay: filling with {profile.cold_bytes / 1e6:,.0f} MB")
            publisher.call(
                "fill_mq", address=server.address, channel="old", size=_SIZE, records=_RECORDS,
                count=profile.cold_bytes // _SIZE,
            )  # fmt: skip
            publisher.call("create", address=server.address, channels=["new"])
            for number in range(profile.cold_rounds):
                context.progress(f"cold replay: round {number + 1} of {profile.cold_rounds}")
                server.process.stop()
                # Only a file that no process maps can be dropped.
                drop_page_cache(server.segment_files())
                server = MqServer(directory / "data", directory / "server.log", context.front)
                for name in _SITUATIONS:
                    _situation(server, publisher, reader, name, profile.cold_seconds, results)
        finally:
            server.process.stop()
    cold = results["cold"]
    from_device = sum(cold["device_bytes"]) > 0.5 * sum(cold["replayed_bytes"]) > 0
    lasted = min(cold["replay_s"]) > 0.8 * profile.cold_seconds
    results["was_cold"] = from_device and lasted
    return results


def _situation(
    server: MqServer, publisher: Worker, reader: Worker, name: str, seconds: float,
    results: dict[str, Any],
) -> None:  # fmt: skip
    before = device_read_bytes(server.process.pid)
    publisher.begin(
        "publish_paced", address=server.address, channel="new", rate_per_s=_RATE_PER_S,
        seconds=seconds, size=_SIZE, waiting=0,
    )  # fmt: skip
    answer = {"messages": 0, "seconds": 0.0}
    if name != "alone":
        # Only what the cold replay just before has brought into memory is hot.
        cold = results["cold"]["replayed_bytes"]
        answer = reader.call(
            "replay", address=server.address, channel="old", max_bytes=1 << 20,
            seconds=seconds + 0.5, stop_at=cold[-1] // _SIZE if name == "hot" else 0,
        )  # fmt: skip
    quantiles = latency.quantiles_us(publisher.finish()["acknowledged"])
    found = results[name]
    found["p50_us"].append(quantiles["p50"])
    found["p99_us"].append(quantiles["p99"])
    found["max_us"].append(quantiles["max"])
    found["replayed_bytes"].append(answer["messages"] * _SIZE)
    found["replay_s"].append(answer["seconds"])
    found["device_bytes"].append(device_read_bytes(server.process.pid) - before)
