"""Plots of a run, as PNG files: throughput by batch size, latencies, cost by stored size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import latency
from bench.environment import Unavailable
from bench.peers.base import SYNCED
from bench.stats import spread

Run = Mapping[str, Any]
_COLOURS = {"mq": "#d62728", "redis": "#1f77b4", "nats": "#2ca02c", "kafka": "#7f7f7f"}


def draw(run: Run, directory: Path) -> list[Path]:
    """Draws what this run has figures for.

    Returns:
        The files.

    Raises:
        Unavailable: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - heavy, and only needed here

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ModuleNotFoundError:
        raise Unavailable("matplotlib is not installed: pip install 'mq[bench]'") from None
    files = []
    for name, make in _PLOTS.items():
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        if make(run, axes):
            axes.grid(visible=True, which="both", alpha=0.3)
            files.append(directory / f"{name}.png")
            figure.savefig(files[-1], dpi=120)
        plt.close(figure)
    return files


def _by_batch_size(run: Run, axes: Any) -> bool:
    sweep = run.get("peers", {}).get(SYNCED, {}).get("batch_sizes", {})
    if not sweep:
        return False
    sizes = [int(size) for size in sweep]
    for name, colour in _COLOURS.items():
        points = [
            (size, spread(one["messages_per_s"] for one in sweep[str(size)][name]).median)
            for size in sizes
            if name in sweep[str(size)]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="messages a batch, four batches in flight",
        ylabel="messages a second", title="Publish, synced before acknowledging",
    )  # fmt: skip
    axes.legend()
    return True


def _publish_latency(run: Run, axes: Any) -> bool:
    single = run.get("peers", {}).get(SYNCED, {}).get("results", {}).get("one", {})
    if not single:
        return False
    for name, rounds in single.items():
        encoded = latency.merged(one["histogram"] for one in rounds)
        _distribution(axes, encoded, name, _COLOURS[name])
    axes.set_title("One publish at a time, synced before acknowledging")
    return True


def _end_to_end(run: Run, axes: Any) -> bool:
    rates = run.get("end_to_end", {}).get("rates", [])
    for one in rates:
        _distribution(axes, one["histogram"], f"{one['rate_per_s']:,}/s", None)
    axes.set_title("Publish to a waiting pull, from when the message was due")
    return bool(rates)


def _distribution(axes: Any, encoded: str, label: str, colour: str | None) -> None:
    percentiles, milliseconds = latency.curve(encoded)
    axes.plot([1 / (1 - p / 100) for p in percentiles], milliseconds, label=label, color=colour)
    ticks = (0, 90, 99, 99.9, 99.99)
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="milliseconds")
    axes.set_xticks([1 / (1 - tick / 100) for tick in ticks], [f"{tick:g} %" for tick in ticks])
    axes.legend()


def _by_stored(run: Run, axes: Any) -> bool:
    stored = run.get("scale", {}).get("stored", [])
    if not stored:
        return False
    messages = [one["messages"] for one in stored]
    for name, label in (
        ("one_p50_us", "one publish, p50"),
        ("pull_p50_us", "pull of a batch at a random offset, p50"),
    ):
        values = [spread(one[name]) for one in stored]
        _with_range(axes, messages, values, label)
    batches = [spread(5e8 / rate for rate in one["batch_messages_per_s"]) for one in stored]
    _with_range(axes, messages, batches, "batch of 500, four in flight: time a batch")
    axes.set(
        xscale="log", xlabel="messages stored in the channel", ylabel="microseconds",
        title="Cost by what is stored",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend()
    return True


def _with_range(axes: Any, x: list[int], values: list[Any], label: str) -> None:
    axes.plot(x, [value.median for value in values], marker="o", label=label)
    axes.fill_between(
        x, [value.low for value in values], [value.high for value in values], alpha=0.2
    )


def _opening(run: Run, axes: Any) -> bool:
    stores = [one for one in run.get("recovery", {}).get("stores", []) if one["bytes"]]
    if not stores:
        return False
    megabytes = [one["bytes"] / 1e6 for one in stores]
    for name, label in (
        ("serving_s", "files in memory"),
        ("cold_serving_s", "files not in memory"),
    ):
        axes.plot(megabytes, [one[name] for one in stores], marker="o", label=label)
    axes.set(
        xscale="log", xlabel="MB stored", ylabel="seconds",
        title="From starting the process to the first answer, after kill -9",
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend()
    return True


_PLOTS = {
    "throughput_by_batch_size": _by_batch_size,
    "publish_latency": _publish_latency,
    "end_to_end_latency": _end_to_end,
    "cost_by_stored": _by_stored,
    "opening_by_stored": _opening,
}
