"""The table of targets: what was aimed at, what one run measured, and whether it was met.

Each target is a small function from a run's results to a ``Row``. One whose
section was not run, or whose peer is missing, says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.peers.base import SYNCED
from bench.stats import Spread, ratio, spread

Run = Mapping[str, Any]

# "Bounded" where there are 10,000 channels with a file or two each.
_FILES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``met`` is None where it was not measured."""

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: bool | None


class NotMeasured(Exception):
    """This run lacks a figure; says which."""


def rows(run: Run) -> list[Row]:
    """The table for one run."""
    return [_row(run, what, target, evaluate) for what, target, evaluate in _TARGETS]


def _row(run: Run, what: str, target: str, evaluate: Callable[[Run], Row]) -> Row:
    try:
        return evaluate(run)
    except NotMeasured as missing:
        return Row(what, "-", str(missing), "-", target, None)


def figures(run: Run, workload: str, broker: str, name: str, mode: str = SYNCED) -> Spread:
    """One figure of the comparison over its rounds.

    Raises:
        NotMeasured: There is none.
    """
    rounds = run.get("peers", {}).get(mode, {}).get("results", {}).get(workload, {}).get(broker)
    values = [one[name] for one in rounds or () if name in one]
    if not values:
        raise NotMeasured(f"{workload} of {broker} was not measured")
    return spread(values)


def best(run: Run, workloads: Iterable[str], broker: str) -> tuple[str, Spread]:
    """The workload that a broker is fastest at, and its messages a second."""
    found: list[tuple[float, str, Spread]] = []
    for workload in workloads:
        try:
            rate = figures(run, workload, broker, "messages_per_s")
        except NotMeasured:
            continue
        found.append((rate.median, workload, rate))
    if not found:
        raise NotMeasured(f"{' and '.join(workloads)} of {broker} were not measured")
    _, workload, rate = max(found)
    return workload, rate


def rate_text(rate: Spread) -> str:
    """Messages a second with the spread of the rounds."""
    return f"{si(rate.median)}/s ±{rate.relative:.0%}"


def si(value: float) -> str:
    """A number with a thousands suffix: ``1.31 M``, ``586 k``."""
    for limit, divisor, suffix in ((1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= limit:
            scaled = value / divisor
            return f"{scaled:.0f}{suffix}" if scaled >= 100 else f"{scaled:.3g}{suffix}"
    return f"{value:,.0f}"


def _faster(
    what: str, ours: Sequence[str], peer: str, theirs: Sequence[str], times: float
) -> tuple[str, str, Callable[[Run], Row]]:
    target = f"at least {times:g}x"

    def evaluate(run: Run) -> Row:
        _, rate = best(run, ours, "mq")
        workload, other = best(run, theirs, peer)
        compared = ratio(rate, other)
        return Row(
            what, rate_text(rate), f"{peer} {workload}: {rate_text(other)}",
            f"{compared.median:.2f}x", target, compared.median >= times,
        )  # fmt: skip

    return what, target, evaluate


def _one_at_a_time(run: Run) -> Row:
    ours = figures(run, "one", "mq", "p50_us")
    theirs = figures(run, "one", "nats", "p50_us")
    compared = ratio(theirs, ours).median
    return Row(
        _ONE, f"{ours.median:,.0f} us ±{ours.relative:.0%}",
        f"nats one: {theirs.median:,.0f} us ±{theirs.relative:.0%}", f"{compared:.2f}x",
        _ONE_TARGET, compared >= 1,
    )  # fmt: skip


def _section(run: Run, *names: str) -> Any:
    found: Any = run
    for name in names:
        if name not in found:
            raise NotMeasured(f"{name} was not run")
        found = found[name]
    return found


def _end_to_end(run: Run) -> Row:
    for one in _section(run, "end_to_end", "rates"):
        if one["rate_per_s"] == 1_000:
            p99_ms = one["receipt"]["p99"] / 1e3
            return Row(_E2E, f"{p99_ms:.2f} ms", _device_alone(run), "", _E2E_TARGET, p99_ms < 3)
    raise NotMeasured("1,000 messages a second were not measured")


def _device_alone(run: Run) -> str:
    """The same rate without a broker: no figure that is compared, but what explains one."""
    for one in run["end_to_end"].get("device", ()):
        if one["rate_per_s"] == 1_000:
            return f"append and sync alone: {one['done']['p99'] / 1e3:.2f} ms"
    return ""


def _end_to_end_native(run: Run) -> Row:
    for one in _section(run, "native", "paced"):
        if one["rate_per_s"] == 1_000:
            p99 = spread(each["receipt"]["p99"] / 1e3 for each in one["rounds"])
            ours = f"{p99.median:.2f} ms ±{p99.relative:.0%}"
            return Row(_E2E_NATIVE, ours, "", "", _E2E_TARGET, p99.median < 3)
    raise NotMeasured("native: 1,000 messages a second were not measured")


def _opening(run: Run) -> Row:
    small, large = _smallest_and_largest(run)
    compared = large["serving_s"] / small["serving_s"]
    return Row(
        _OPEN, f"{large['serving_s']:.2f} s with {_size(large)}",
        f"{small['serving_s']:.2f} s with {_size(small)}", f"{compared:.2f}x", _OPEN_TARGET,
        compared <= 1.5 and large["serving_s"] < 1,
    )  # fmt: skip


def _memory(run: Run) -> Row:
    small, large = _smallest_and_largest(run)
    ours, other = large["opened_memory"]["rss"], small["opened_memory"]["rss"]
    return Row(
        _MEMORY, f"{ours / 1e6:.0f} MB with {_size(large)}",
        f"{other / 1e6:.0f} MB with {_size(small)}", f"{ours / other:.2f}x", _MEMORY_TARGET,
        ours / other <= 1.2,
    )  # fmt: skip


def _smallest_and_largest(run: Run) -> tuple[Any, Any]:
    stores = _section(run, "recovery", "stores")
    ordered = sorted((one for one in stores if one["bytes"]), key=lambda one: one["bytes"])
    if len(ordered) < 2:
        raise NotMeasured("recovery was measured at one size only")
    return ordered[0], ordered[-1]


def _size(store: Mapping[str, Any]) -> str:
    size = store["bytes"]
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _stored(run: Run) -> Row:
    stored = _section(run, "scale", "stored")
    few, many = stored[0], stored[-1]
    cost = spread(few["batch_messages_per_s"]).median / spread(many["batch_messages_per_s"]).median
    single = spread(many["one_p50_us"]).median / spread(few["one_p50_us"]).median
    worst = max(cost, single)
    return Row(
        _STORED, f"{si(many['messages'])} stored: batch x{cost:.2f}, single x{single:.2f}",
        f"{si(few['messages'])} stored", f"{worst:.2f}x", _STORED_TARGET, worst <= 1.1,
    )  # fmt: skip


def _cold(run: Run) -> Row:
    result = _section(run, "cold_replay")
    alone, cold = spread(result["alone"]["p99_us"]), spread(result["cold"]["p99_us"])
    compared = cold.median / alone.median
    met = compared <= 2 if result["was_cold"] else None
    return Row(
        _COLD, f"{cold.median / 1e3:.2f} ms during a cold replay",
        f"{alone.median / 1e3:.2f} ms without", f"{compared:.2f}x", _COLD_TARGET, met,
    )  # fmt: skip


def _many(run: Run) -> Row:
    stores = _section(run, "scale", "many_channels")
    few, many = stores[0], stores[-1]
    return Row(
        _MANY,
        f"{many['channels']:,} open in {many['serving_s']:.2f} s, {many['open_files']:,} files",
        f"{few['channels']:,} in {few['serving_s']:.2f} s, {few['open_files']:,} files", "",
        _MANY_TARGET, many["serving_s"] < 5 and many["open_files"] < _FILES_MAX,
    )  # fmt: skip


_ONE, _ONE_TARGET = "one publish at a time, p50", "not slower"
_E2E, _E2E_TARGET = "publish to a waiting pull, p99 at 1,000/s", "under 3 ms"
_E2E_NATIVE = "the same, from Go clients"
_OPEN, _OPEN_TARGET = "start to first answer after kill -9", "within 1.5x, and under 1 s"
_MEMORY, _MEMORY_TARGET = "memory once opened", "within 1.2x"
_STORED, _STORED_TARGET = "publish cost by messages stored", "within 1.1x"
_COLD, _COLD_TARGET = "publish p99 beside a cold replay", "within 2x"
_MANY, _MANY_TARGET = "10,000 channels", "under 5 s, files bounded"

_TARGETS: Sequence[tuple[str, str, Callable[[Run], Row]]] = (
    _faster("batched publish, 500 a batch", ("batch", "batch_x4"), "redis",
            ("batch", "batch_x4"), 10),
    _faster("producer, one send a message", ("producer",), "redis", ("batch", "batch_x4"), 4),
    _faster("pull, messages touched", ("read_500", "read_best"), "redis", ("read_500",), 5),
    _faster("publish, 64 in flight", ("in_flight_64",), "nats", ("in_flight_64",), 1.8),
    _faster("the same, one call a message", ("in_flight_64_unary",), "nats", ("in_flight_64",),
            1.8),
    (_ONE, _ONE_TARGET, _one_at_a_time),
    _faster("group fetch + acknowledge", ("group_ack",), "nats", ("group_ack",), 10),
    (_E2E, _E2E_TARGET, _end_to_end),
    (_E2E_NATIVE, _E2E_TARGET, _end_to_end_native),
    (_OPEN, _OPEN_TARGET, _opening),
    (_MEMORY, _MEMORY_TARGET, _memory),
    (_STORED, _STORED_TARGET, _stored),
    (_COLD, _COLD_TARGET, _cold),
    (_MANY, _MANY_TARGET, _many),
)  # fmt: skip
