"""A run's results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from bench import groups_tables, targets
from bench.new_table import new_table
from bench.peers.base import MODES, WORKLOADS
from bench.stats import spread
from bench.targets import si

Run = Mapping[str, Any]


def tables(run: Run) -> Iterator[Table]:
    """Every table that this run has figures for; the targets come last."""
    for mode, compared in run.get("peers", {}).items():
        yield _comparison(f"Against peers, {MODES[mode]}", compared)
        if compared["batch_sizes"]:
            yield _batch_sizes(mode, compared)
    for section, make in _SECTIONS.items():
        if section in run:
            yield from make(run[section])
    aimed = targets.rows(run)
    if run["what"] not in ("all", "quick"):
        aimed = [row for row in aimed if row.met is not None]
    if aimed:
        yield _targets(run, aimed)


def markdown(table: Table) -> str:
    """A table for a document."""
    rows = zip(*(column.cells for column in table.columns), strict=True)
    lines = [
        f"### {table.title}",
        "",
        _line(column.header for column in table.columns),
        _line("---" for _ in table.columns),
        *(_line(row) for row in rows),
    ]
    if table.caption:
        lines += ["", str(table.caption)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[object]) -> str:
    texts = (Text.from_markup(str(cell)).plain.replace("\n", "; ") for cell in cells)
    return f"| {' | '.join(texts)} |"


def _rate(rounds: list[Mapping[str, Any]]) -> str:
    rate = spread(one["messages_per_s"] for one in rounds)
    return f"{si(rate.median)}/s" + (f" ±{rate.relative:.0%}" if rate.rounds > 1 else "")


def _comparison(title: str, compared: Mapping[str, Any]) -> Table:
    brokers = compared["brokers"]
    title += " (p50 / p99 of an operation below the rate)"
    table = new_table(title, "", *(f"{name} {one['version']}" for name, one in brokers.items()))
    table.add_row("setting", *(one["settings"] for one in brokers.values()), style="dim")
    for workload, label in WORKLOADS.items():
        by_broker = compared["results"].get(workload, {})
        if by_broker:
            table.add_row(label, *(_cell(by_broker.get(name)) for name in brokers))
    for name, reason in compared["missing"].items():
        table.caption = f"{name} is missing: {reason}"
    return table


def _cell(rounds: list[Mapping[str, Any]] | None) -> str:
    if not rounds:
        return "-"
    text = _rate(rounds)
    if "p50_us" in rounds[0]:
        p50, p99 = (spread(one[name] for one in rounds).median for name in ("p50_us", "p99_us"))
        text += f"\n{_time(p50)} / {_time(p99)}"
    return text


def _time(microseconds: float) -> str:
    if microseconds >= 10_000:
        return f"{microseconds / 1e3:,.0f} ms"
    return f"{microseconds / 1e3:.2f} ms" if microseconds >= 1_000 else f"{microseconds:.0f} us"


def _batch_sizes(mode: str, compared: Mapping[str, Any]) -> Table:
    names = list(compared["brokers"])
    table = new_table(f"Publish by batch size, four in flight, {mode}", "messages a batch", *names)
    for size, by_broker in compared["batch_sizes"].items():
        cells = (_rate(by_broker[name]) if name in by_broker else "-" for name in names)
        table.add_row(f"{int(size):,}", *cells)
    return table


def _native(result: Mapping[str, Any]) -> Iterator[Table]:
    names = list(dict.fromkeys(name for one in result["widths"].values() for name in one))
    table = new_table("Clients that are not Python, one message a call", "in flight", *names)
    for width, by_broker in result["widths"].items():
        table.add_row(width, *(_cell(by_broker.get(name)) for name in names))
    for name, reason in result["missing"].items():
        table.caption = f"{name} is missing: {reason}"
    yield table
    quantiles = ("p50", "p90", "p99", "p99.9", "max")
    table = new_table(
        "Publish to a waiting pull from Go, from when a message was due",
        "messages a second", *quantiles, "acknowledged p99", "generator's lag p99",
    )  # fmt: skip
    for one in result.get("paced", ()):
        table.add_row(
            f"{one['rate_per_s']:,}", *(_median_time(one, "receipt", name) for name in quantiles),
            _median_time(one, "acknowledged", "p99"), _median_time(one, "lag", "p99"),
        )  # fmt: skip
    yield table


def _median_time(one: Mapping[str, Any], what: str, quantile: str) -> str:
    return _time(spread(each[what][quantile] for each in one["rounds"]).median)


def _durability(counts: list[Mapping[str, Any]]) -> Iterator[Table]:
    table = new_table(
        "System calls while one client publishes one message at a time",
        "broker", "mode", "messages", "writes to files", "syncs", "syncs a message",
    )  # fmt: skip
    for one in counts:
        syncs = ", ".join(f"{count} {call}" for call, count in sorted(one["syncs"].items()))
        table.add_row(
            one["broker"], one["mode"], str(one["messages"]), str(one["writes"]), syncs or "0",
            f"{one['syncs_per_message']:.2f}",
        )  # fmt: skip
    yield table


def _append(result: Mapping[str, Any]) -> Iterator[Table]:
    table = new_table("Log engine alone", "messages a batch", "synced each", "never synced")
    for size in result["synced"]:
        table.add_row(
            f"{int(size):,}", _cell(result["synced"][size]), _rate(result["written"][size])
        )
    yield table


def _pull(result: Mapping[str, Any]) -> Iterator[Table]:
    table = new_table("Pull, messages touched", "max_bytes, 500 a batch", "rate", "contents")
    for size, rounds in result["by_max_bytes"].items():
        table.add_row(f"{int(size) >> 10:,} KiB", _rate(rounds), _megabytes(rounds))
    yield table
    table = new_table("Pull, 1 MiB an answer", "messages a stored batch", "rate", "contents")
    for size, rounds in result["by_batch"].items():
        table.add_row(f"{int(size):,}", _rate(rounds), _megabytes(rounds))
    yield table


def _megabytes(rounds: list[Mapping[str, Any]]) -> str:
    return f"{spread(one['mb_per_s'] for one in rounds).median:,.0f} MB/s"


def _end_to_end(result: Mapping[str, Any]) -> Iterator[Table]:
    names = ("p50", "p90", "p99", "p99.9", "max")
    table = new_table(
        "Publish to a waiting pull, from when a message was due",
        "messages a second", *names, "acknowledged p99", "generator's lag p99", "server's core",
    )  # fmt: skip
    for one in result["rates"]:
        table.add_row(
            f"{one['rate_per_s']:,}", *(_time(one["receipt"][name]) for name in names),
            _time(one["acknowledged"]["p99"]), _time(one["lag"]["p99"]),
            f"{one['server_cpu']:.0%}",
        )  # fmt: skip
    yield table
    table = new_table(
        "The device alone: append and fdatasync, from when an append was due",
        "appends a second", *names, "fdatasync p50", "fdatasync p99",
    )  # fmt: skip
    for one in result.get("device", ()):
        table.add_row(
            f"{one['rate_per_s']:,}", *(_time(one["done"][name]) for name in names),
            _time(one["sync"]["p50"]), _time(one["sync"]["p99"]),
        )  # fmt: skip
    yield table


def _recovery(result: Mapping[str, Any]) -> Iterator[Table]:
    table = new_table(
        "Start to first answer after kill -9, and resident memory (anonymous)",
        "stored", "warm", "cold", "opened", "as filled", "everything read",
    )  # fmt: skip
    for one in result["stores"]:
        table.add_row(
            f"{one['bytes'] / 1e6:,.0f} MB", f"{one['serving_s']:.2f} s",
            f"{one['cold_serving_s']:.2f} s", _memory(one["opened_memory"]),
            _memory(one["filled_memory"]), _memory(one.get("read_memory")),
        )  # fmt: skip
    yield table


def _memory(memory: Mapping[str, int] | None) -> str:
    if memory is None:
        return "-"
    return f"{memory['rss'] / 1e6:.0f} ({memory['anonymous'] / 1e6:.0f}) MB"


def _scale(result: Mapping[str, Any]) -> Iterator[Table]:
    table = new_table(
        "Cost by messages stored", "stored", "batches of 500, 4 in flight", "one publish, p50",
        "pull at a random offset, p50",
    )  # fmt: skip
    for one in result["stored"]:
        table.add_row(
            si(one["messages"]), f"{si(spread(one['batch_messages_per_s']).median)}/s",
            _time(spread(one["one_p50_us"]).median), _time(spread(one["pull_p50_us"]).median),
        )  # fmt: skip
    yield table
    table = new_table("64 publishes in flight, by channels", "channels", "rate", "p50", "p99")
    for one in result["channels"]:
        table.add_row(
            f"{one['channels']:,}", f"{si(one['messages_per_s'])}/s", _time(one["p50_us"]),
            _time(one["p99_us"]),
        )  # fmt: skip
    yield table
    table = new_table(
        "Waiting pulls on one channel", "subscribers", "published", "received", "p50", "p99",
        "server's core",
    )  # fmt: skip
    for one in result["subscribers"]:
        table.add_row(
            f"{one['subscribers']:,}", f"{one['rate_per_s']:,}/s",
            f"{one['rate_per_s'] * one['subscribers']:,}/s", _time(one["receipt"]["p50"]),
            _time(one["receipt"]["p99"]), f"{one['server_cpu']:.0%}",
        )  # fmt: skip
    yield table
    yield _message_bytes(result["message_bytes"])
    idle = result["idle"]
    table = new_table(
        "Idle", "channels, each with a waiting pull", "core", "memory", "without pulls"
    )
    table.add_row(
        f"{idle['channels']:,}", f"{idle['cpu_fraction']:.2%}", _memory(idle["memory"]),
        _memory(idle["memory_without_pulls"]),
    )  # fmt: skip
    yield table
    table = new_table(
        "Opening channels after kill -9", "channels", "start to first answer", "memory",
        "files open", "after reading each", "creating them",
    )  # fmt: skip
    for one in result["many_channels"]:
        table.add_row(
            f"{one['channels']:,}", f"{one['serving_s']:.2f} s", _memory(one["memory"]),
            f"{one['open_files']:,}", f"{one['open_files_after_reading']:,}",
            f"{one['create_s']:.2f} s",
        )  # fmt: skip
    yield table


def _message_bytes(results: list[Mapping[str, Any]]) -> Table:
    table = new_table(
        "Cost by message size, batches of about 50 kB", "bytes", "published", "contents",
        "one publish, p50", "pulled", "contents",
    )  # fmt: skip
    for one in results:
        published, pulled = one["published"], one["pulled"]
        table.add_row(
            f"{one['size']:,}", f"{si(published['messages_per_s'])}/s",
            f"{published['mb_per_s']:,.0f} MB/s", _time(one["one"]["p50_us"]),
            f"{si(pulled['messages_per_s'])}/s", f"{pulled['mb_per_s']:,.0f} MB/s",
        )  # fmt: skip
    return table


def _cold_replay(result: Mapping[str, Any]) -> Iterator[Table]:
    title = "One channel published to at 1,000 a second while another is replayed"
    table = new_table(title, "replay", "p50", "p99", "max", "replayed", "read from the device")
    for name in ("alone", "hot", "cold"):
        one = result[name]
        table.add_row(
            "none" if name == "alone" else name,
            *(_time(spread(one[figure]).median) for figure in ("p50_us", "p99_us", "max_us")),
            f"{sum(one['replayed_bytes']) / 1e6:,.0f} MB",
            f"{sum(one['device_bytes']) / 1e6:,.0f} MB",
        )  # fmt: skip
    if not result["was_cold"]:
        table.caption = "Proves nothing: little was read from the device, or it ended too soon."
    yield table


def _dirty_files(result: Mapping[str, Any]) -> Iterator[Table]:
    ways = list(dict.fromkeys(way for by_way in result["seconds"].values() for way in by_way))
    table = new_table("Syncing many files with a message each, all of them", "files", *ways)
    for count, by_way in result["seconds"].items():
        table.add_row(count, *(_time(spread(by_way[way]).median * 1e6) for way in ways))
    yield table


def _targets(run: Run, rows: Sequence[targets.Row]) -> Table:
    table = Table(
        title=f"Targets ({run['profile']} run of {run['began']})", title_justify="left",
        header_style="bold",
    )  # fmt: skip
    for column in ("what", "mq", "peer or baseline", "ratio", "target", "met"):
        table.add_column(column)
    words = {True: "[green]yes", False: "[red]no", None: "[dim]not measured"}
    for row in rows:
        table.add_row(row.what, row.ours, row.peer, row.ratio, row.target, words[row.met])
    return table


_SECTIONS: Mapping[str, Callable[[Any], Iterator[Table]]] = {
    "fronts": lambda compared: iter([_comparison("The two fronts", compared)]),
    "native": _native,
    "durability": _durability,
    "append": _append,
    "pull": _pull,
    "end_to_end": _end_to_end,
    "recovery": _recovery,
    "scale": _scale,
    "cold_replay": _cold_replay,
    "dirty_files": _dirty_files,
    "groups": groups_tables.tables,
}
