"""``mq channels``: list, create, describe, configure and remove channels."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from mq.cli import output
from mq.cli.connection import Connection, complete_channel, connection_options
from mq.cli.exits import COULD_NOT_RUN, FAILED, Failure
from mq.cli.format import timestamp
from mq.cli.help import examples
from mq.cli.types import ChannelSetting, channel_setting
from mq.units import format_size

if TYPE_CHECKING:
    from mq import ChannelInfo

Settings = tuple[ChannelSetting, ...]

_SETTINGS_HELP = (
    "SETTINGs: segment_bytes=SIZE (of a segment file), durability=synced|written (what an "
    "acknowledgement means where the publisher doesn't say), max_message_bytes=SIZE."
)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
name_argument = click.argument("name", metavar="NAME", shell_complete=complete_channel)
names_argument = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_channel
)


@click.group(
    epilog=examples(
        "mq channels create orders segment_bytes=128MiB",
        "mq channels ls -l",
        "mq channels describe orders --json",
    ),
)
def channels() -> None:
    """List, create, describe, configure and remove channels."""


@channels.command(
    epilog=examples("mq channels ls", "mq channels ls orders. -l", "mq channels ls --json -l"),
)
@click.argument("prefix", default="", shell_complete=complete_channel)
@click.option("-l", "--long", "detailed", is_flag=True, help="With messages, bytes and state.")
@json_option
@connection_options
def ls(connection: Connection, prefix: str, detailed: bool, as_json: bool) -> None:
    """List channels whose names begin with PREFIX; all of them by default."""
    with connection.open() as client:
        found = client.list_channels(prefix)
        if detailed:
            _print_detailed((client.describe_channel(each.name) for each in found), as_json)
            return
        for each in found:
            if as_json:
                created = timestamp(each.created_ns)
                output.print_json({"name": each.name, "id": each.id, "created": created})
            else:
                click.echo(each.name)


@channels.command(
    epilog=examples(
        "mq channels create orders",
        "mq channels create orders segment_bytes=128MiB durability=written",
    ),
    help=f"Create a channel. One that exists is left as it is.\n\n{_SETTINGS_HELP}",
)
@name_argument
@click.argument("settings", metavar="[SETTING]...", nargs=-1, type=channel_setting)
@connection_options
def create(connection: Connection, name: str, settings: Settings) -> None:
    """Create a channel."""
    with connection.open() as client:
        client.create_channel(name, **_keywords(settings))


@channels.command(
    epilog=examples("mq channels describe orders", "mq channels describe orders invoices --json"),
)
@names_argument
@json_option
@connection_options
def describe(connection: Connection, names: tuple[str, ...], as_json: bool) -> None:
    """Show the offsets, sizes, settings and state of channels."""
    with connection.open() as client:
        for name in names:
            _print_one(client.describe_channel(name), as_json)


@channels.command(
    epilog=examples(
        "mq channels configure orders max_message_bytes=1MiB",
        "mq channels configure orders durability=synced segment_bytes=64MiB",
    ),
    help=(
        "Change settings of a channel, and show what it has then.\n\n"
        f"{_SETTINGS_HELP} Settings that aren't named stay as they are."
    ),
)
@name_argument
@click.argument("settings", metavar="SETTING...", nargs=-1, required=True, type=channel_setting)
@json_option
@connection_options
def configure(connection: Connection, name: str, settings: Settings, as_json: bool) -> None:
    """Change settings of a channel."""
    with connection.open() as client:
        _print_one(client.configure_channel(name, **_keywords(settings)), as_json)


@channels.command(
    epilog=examples("mq channels rm orders", "mq channels rm orders invoices --yes"),
)
@names_argument
@click.option("-y", "--yes", is_flag=True, help="Don't ask. Needed where there is no terminal.")
@connection_options
def rm(connection: Connection, names: tuple[str, ...], yes: bool) -> None:
    """Delete channels with all their messages. There is no way back."""
    if not yes and not is_terminal():
        raise Failure("deleting needs --yes where nobody can be asked", code=COULD_NOT_RUN)
    with connection.open() as client:
        for name in names:
            if not yes:
                _confirm(client.describe_channel(name))
            client.delete_channel(name)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _confirm(info: ChannelInfo) -> None:
    stored = f"{info.record_count} messages ({info.stored_bytes} bytes)"
    question = f"Delete {info.name} with its {stored}?"
    if not click.confirm(question, err=True):
        raise Failure(f"{info.name} was left as it is", code=FAILED)


def _keywords(settings: Settings) -> dict[str, Any]:
    return dict(settings)


def _print_one(info: ChannelInfo, as_json: bool) -> None:
    described = _described(info)
    if as_json:
        output.print_json(described)
        return
    rows = [(name, _text(name, value)) for name, value in _lines(described)]
    output.print_table(("CHANNEL", info.name), rows)


def _print_detailed(infos: Iterable[ChannelInfo], as_json: bool) -> None:
    if as_json:
        for info in infos:
            output.print_json(_described(info))
        return
    rows = [
        (
            info.name,
            str(info.record_count),
            format_size(info.stored_bytes),
            str(info.segment_count),
            info.state,
        )
        for info in infos
    ]
    output.print_table(("CHANNEL", "MESSAGES", "BYTES", "SEGMENTS", "STATE"), rows)


def _described(info: ChannelInfo) -> dict[str, Any]:
    """A channel as the JSON object that scripts read; names as on the wire."""
    return {
        "name": info.name,
        "id": info.id,
        "state": info.state,
        "state_reason": info.state_reason,
        "log_start_offset": info.log_start_offset,
        "durable_offset": info.durable_offset,
        "record_count": info.record_count,
        "stored_bytes": info.stored_bytes,
        "allocated_bytes": info.allocated_bytes,
        "segment_count": info.segment_count,
        "created": timestamp(info.created_ns),
        "last_append": timestamp(info.last_append_time_ns) if info.last_append_time_ns else None,
        "publish_records_per_second": info.publish_records_per_second,
        "publish_bytes_per_second": info.publish_bytes_per_second,
        "waiting_pulls": info.waiting_pulls,
        "damaged": [
            {"first_offset": first, "next_offset": following} for first, following in info.damaged
        ],
        "config": {
            "segment_bytes": info.config.segment_bytes,
            "durability": info.config.durability,
            "max_message_bytes": info.config.max_message_bytes,
        },
    }


def _lines(described: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """What a person reads: without the name, which is the heading, and with the settings last."""
    shown = {name: value for name, value in described.items() if name not in ("name", "config")}
    return [*shown.items(), *described["config"].items()]


def _text(name: str, value: Any) -> str:
    if name == "damaged":
        return ", ".join(f"[{each['first_offset']}, {each['next_offset']})" for each in value)
    if value is None:
        return "never" if name == "last_append" else "default"
    if isinstance(value, float):
        return f"{value:.1f}"
    return format_size(value) if name.endswith("_bytes") else str(value)
