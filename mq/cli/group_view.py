"""How consumer groups look: a line each, all there is of one, and as JSON."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mq.cli import output
from mq.cli.channel_settings import format_span
from mq.cli.format import timestamp
from mq.units import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mq import GroupInfo

WATCH_INTERVAL_S = 1.0

Cells = tuple[str, ...]

COLUMNS = (
    "CHANNEL",
    "GROUP",
    "MODE",
    "BEHIND",
    "BYTES",
    "SECONDS",
    "IN FLIGHT",
    "WAITING",
    "REDELIVERED",
    "DEAD",
    "CONSUMERS",
)
CONSUMER_COLUMNS = ("CONSUMER", "IN FLIGHT", "ACKED", "LAST SEEN", "ACTIVE")
_PLAIN = (
    "next_offset",
    "acked_through",
    "committed_offset",
    "messages_behind",
    "bytes_behind",
    "seconds_behind",
    "in_flight",
    "waiting",
    "acked",
    "redelivered",
    "dead",
    "expired",
    "epoch",
)


def as_object(info: GroupInfo) -> dict[str, Any]:
    """A group as the JSON object that scripts read; names as on the wire."""
    return {
        "channel": info.channel,
        "name": info.name,
        **{name: getattr(info, name) for name in _PLAIN},
        "config": dataclasses.asdict(info.config),
        "consumers": [
            {
                "name": each.name,
                "in_flight": each.in_flight,
                "acked": each.acked,
                "last_seen": timestamp(each.last_seen_ms * 1_000_000),
                "active": each.active,
            }
            for each in info.consumers
        ],
    }


def line(info: GroupInfo) -> Cells:
    """A group in one line, as in `COLUMNS`."""
    return (
        info.channel,
        info.name,
        str(info.config.mode),
        str(info.messages_behind),
        str(info.bytes_behind),
        f"{info.seconds_behind:.1f}",
        str(info.in_flight),
        str(info.waiting),
        str(info.redelivered),
        str(info.dead),
        str(len(info.consumers)),
    )


def state_lines(info: GroupInfo) -> list[Cells]:
    """Where a group is, its lag and counters: names and values."""
    return [(name, _text(name, getattr(info, name))) for name in ("channel", *_PLAIN)]


def setting_lines(info: GroupInfo) -> list[Cells]:
    """A group's settings: names and values."""
    config = dataclasses.asdict(info.config)
    return [(name, _setting(info, name, value)) for name, value in config.items()]


def consumer_lines(info: GroupInfo) -> list[Cells]:
    """A line for each consumer, as in `CONSUMER_COLUMNS`."""
    return [
        (
            each.name,
            str(each.in_flight),
            str(each.acked),
            timestamp(each.last_seen_ms * 1_000_000),
            "yes" if each.active else "stands by",
        )
        for each in info.consumers
    ]


def _text(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.1f}"
    return format_size(value) if name.endswith("_bytes") else str(value)


def _setting(info: GroupInfo, name: str, value: Any) -> str:
    if name == "dead_letter_channel" and not value:
        return f"{info.channel}.dead"
    if name == "max_deliveries" and not value:
        return "no limit"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_span(value) if name.endswith("_ms") and value is not None else str(value)


def print_list(infos: Sequence[GroupInfo], as_json: bool) -> None:
    """Groups, a line each."""
    if as_json:
        for info in infos:
            output.print_json(as_object(info))
    elif infos:
        output.print_table(COLUMNS, [line(info) for info in infos])


def print_one(info: GroupInfo, as_json: bool) -> None:
    """A group, and its consumers."""
    if as_json:
        output.print_json(as_object(info))
        return
    output.print_table(("GROUP", info.name), state_lines(info) + setting_lines(info))
    if info.consumers:
        output.print_table(CONSUMER_COLUMNS, consumer_lines(info))


def watch(ask: Callable[[], list[GroupInfo]], as_json: bool, *, detailed: bool) -> None:
    """Show groups anew each second, until Ctrl-C.

    Redraws on a terminal; elsewhere each second's lines follow the last one's.
    """
    if as_json or not output.is_terminal():
        while True:
            for info in ask():
                print_one(info, as_json) if detailed else print_list([info], as_json)
            output.stdout().flush()
            time.sleep(WATCH_INTERVAL_S)
    from rich.live import Live

    with Live(_drawn(ask(), detailed), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_INTERVAL_S)
            live.update(_drawn(ask(), detailed), refresh=True)


def _drawn(infos: list[GroupInfo], detailed: bool) -> RenderableType:
    from rich.console import Group

    if not detailed:
        return output.make_table(COLUMNS, [line(info) for info in infos])
    tables = []
    for info in infos:
        # The settings stay as they are, and a terminal is not high.
        tables.append(output.make_table(("GROUP", info.name), state_lines(info)))
        if info.consumers:
            tables.append(output.make_table(CONSUMER_COLUMNS, consumer_lines(info)))
    return Group(*tables)
