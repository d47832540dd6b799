"""``python -m bench``: measure mq and its peers, and print what came of it."""

# ruff: noqa: PLC0415

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from bench import results
from bench.context import Context
from bench.environment import Unavailable, describe, disk_directory
from bench.profiles import ALL, QUICK

_SECTIONS = (
    "peers", "fronts", "native", "durability", "append", "pull", "end_to_end", "recovery", "scale",
    "cold_replay", "dirty_files", "groups",
)  # fmt: skip
_LONG_ONLY = ("fronts", "native", "durability", "groups")
_QUICK_SECTIONS = tuple(name for name in _SECTIONS if name not in _LONG_ONLY)
# Of tables where there is no terminal to ask.
_WIDTH = 140
_PEERS = ("mq", "redis", "nats", "kafka")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", type=click.Choice(["all", "quick", *_SECTIONS, "show"]), default="all")
@click.option("--quick", "small", is_flag=True, help="With the sizes of a quick run.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where servers keep their data.")
@click.option("--front", type=click.Choice(["auto", "native", "grpcio"]), default="auto",
              show_default=True, help="Which front mq is run with.")  # fmt: skip
@click.option("--peers", "peer_names", default=",".join(_PEERS), show_default=True,
              help="Which brokers to compare.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="show: as tables for a document.")
@click.option("--result", type=click.Path(path_type=Path), help="show: a result file; the last.")
def main(
    what: str, small: bool, markdown: bool, data_dir: Path | None, front: str, peer_names: str,
    result: Path | None,
) -> None:  # fmt: skip
    """Measure mq, alone and against others.

    all: everything, in under 15 minutes. quick: a look, in under two. Or one
    section by name. show: print a result again.

    Results, plots included, go to bench/results/.
    """
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if what == "show":
        _show(console, result, markdown=markdown)
        return
    if what == "all" and small:
        what = "quick"
    profile = QUICK if small or what == "quick" else ALL
    sections = {"all": _SECTIONS, "quick": _QUICK_SECTIONS}.get(what, (what,))
    names = [name for name in peer_names.split(",") if name]
    unknown = sorted(set(names) - set(_PEERS))
    if unknown:
        raise click.BadParameter(f"no such broker: {', '.join(unknown)}", param_hint="--peers")
    try:
        root = disk_directory(data_dir)
    except Unavailable as reason:
        raise click.ClickException(str(reason)) from None
    os.environ["MQ_BENCH_FRONT"] = front
    with console.status("") as status:
        context = Context(root, profile, _teller(status), front)
        run = _measure(context, sections, names, what)
    _print(console, run)


def _teller(status: Status) -> Callable[[str], None]:
    """Progress as a changing line on a terminal, as lines elsewhere."""
    if sys.stdout.isatty():
        return status.update
    return lambda text: print(text, file=sys.stderr, flush=True)


def _measure(
    context: Context, sections: tuple[str, ...], names: list[str], what: str
) -> dict[str, Any]:
    run = results.new_run(what, context.profile.name, describe(context.root))
    directory = results.run_directory(run)
    began = time.monotonic()
    for section in sections:
        section_began = time.monotonic()
        try:
            run[section] = _runners(names)[section](context)
        except Unavailable as reason:
            run.setdefault("skipped", {})[section] = str(reason)
        run.setdefault("section_seconds", {})[section] = time.monotonic() - section_began
        run["seconds"] = time.monotonic() - began
        run["file"] = str(results.save(run, directory))
    return run


def _runners(names: list[str]) -> Mapping[str, Callable[[Context], Any]]:
    # Late: a section that isn't run needs none of the clients it would use.
    from bench import (
        append,
        cold_replay,
        dirty_files,
        durability,
        end_to_end,
        groups,
        native,
        pull,
        recovery,
        scale,
    )  # fmt: skip
    from bench.peers import sections

    return {
        "peers": lambda context: sections.measure(context, names),
        "fronts": sections.fronts,
        "native": lambda context: native.measure(context, names),
        "durability": lambda context: durability.sync_counts(context.root, names, context.progress),
        "append": append.measure,
        "pull": pull.measure,
        "end_to_end": end_to_end.measure,
        "recovery": recovery.measure,
        "scale": scale.measure,
        "cold_replay": cold_replay.measure,
        "dirty_files": dirty_files.measure,
        "groups": lambda context: groups.measure(context, names),
    }


def _show(console: Console, path: Path | None, *, markdown: bool) -> None:
    """Prints a result file's tables again."""
    from bench import tables

    found = path or results.latest()
    if found is None:
        raise click.ClickException("there is no result yet: python -m bench quick")
    try:
        run = results.load(found)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if markdown:
        for table in tables.tables(run):
            print(tables.markdown(table))
        return
    _print(console, run | {"file": str(found)})


def _print(console: Console, run: Mapping[str, Any]) -> None:
    from bench import plots, tables

    for table in tables.tables(run):
        console.print(table)
        console.print()
    for section, reason in run.get("skipped", {}).items():
        console.print(f"[red]{section} was not measured:[/] {reason}", highlight=False)
    file = Path(run["file"])
    try:
        drawn = plots.draw(run, file.parent)
    except Unavailable as reason:
        console.print(f"No plots: {reason}")
        drawn = []
    console.print(f"{run['seconds']:.0f} s. Result: {file}; plots: {len(drawn)}", highlight=False)


if __name__ == "__main__":
    main(prog_name="python -m bench")
