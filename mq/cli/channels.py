"""``mq channels``: list, create, describe, configure and remove channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mq.cli import output
from mq.cli.asking import check_can_ask, confirm, yes_option
from mq.cli.channel_settings import (
    SETTINGS_HELP,
    ChannelSetting,
    channel_setting,
    show_settings,
)
from mq.cli.connection import Connection, complete_channel, connection_options
from mq.cli.format import timestamp
from mq.cli.help import examples
from mq.cli.purge import purge, retention
from mq.units import format_size

if TYPE_CHECKING:
    from mq import ChannelInfo

Settings = tuple[ChannelSetting, ...]

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
name_argument = click.argument("name", metavar="NAME", shell_complete=complete_channel)
names_argument = click.argument(
    "names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_channel
)
compact_option = click.option(
    "--compact/--no-compact",
    default=None,
    help="Keep only the latest message of each key, or all: the setting compact.",
)


@click.group(
    epilog=examples(
        "mq channels create orders segment_bytes=128MiB",
        "mq channels ls -l",
        "mq channels describe orders --json",
        "mq channels configure orders retention_ms=7d retention_bytes=10GB",
        "mq channels purge orders --before -30d --dry-run",
    ),
)
def channels() -> None:
    """List, create, describe, configure, purge and remove channels."""


channels.add_command(purge)
channels.add_command(retention)


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
        "mq channels create orders retention_ms=7d retain_unacknowledged=true",
    ),
    help=f"Create a channel. One that exists is left as it is.\n\n{SETTINGS_HELP}",
)
@name_argument
@click.argument("settings", metavar="[SETTING]...", nargs=-1, type=channel_setting)
@compact_option
@connection_options
def create(connection: Connection, name: str, settings: Settings, compact: bool | None) -> None:
    """Create a channel."""
    with connection.open() as client:
        client.create_channel(name, **_keywords(settings, compact))


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
        "mq channels configure orders retention_ms=7d retention_bytes=10GB",
        "mq channels configure orders retention_bytes=none",
    ),
    help=(
        "Change settings of a channel, and show what it has then. Settings that aren't "
        f"named stay as they are.\n\n{SETTINGS_HELP}"
    ),
)
@name_argument
@click.argument("settings", metavar="SETTING...", nargs=-1, type=channel_setting)
@compact_option
@json_option
@connection_options
def configure(
    connection: Connection, name: str, settings: Settings, compact: bool | None, as_json: bool
) -> None:
    """Change settings of a channel."""
    changes = _keywords(settings, compact)
    if not changes:
        raise click.UsageError("name a setting to change, as in retention_ms=7d")
    with connection.open() as client:
        _print_one(client.configure_channel(name, **changes), as_json)


@channels.command(
    epilog=examples("mq channels rm orders", "mq channels rm orders invoices --yes"),
)
@names_argument
@yes_option
@connection_options
def rm(connection: Connection, names: tuple[str, ...], yes: bool) -> None:
    """Delete channels with all their messages. There is no way back."""
    check_can_ask(yes, "deleting")
    with connection.open() as client:
        for name in names:
            if not yes:
                _confirm(client.describe_channel(name))
            client.delete_channel(name)


def _confirm(info: ChannelInfo) -> None:
    stored = f"{info.record_count} messages ({info.stored_bytes} bytes)"
    confirm(f"Delete {info.name} with its {stored}?", f"{info.name} was left as it is")


def _keywords(settings: Settings, compact: bool | None) -> dict[str, Any]:
    keywords: dict[str, Any] = dict(settings)
    if compact is not None:
        if "compact" in keywords:
            raise click.UsageError("compact is given twice")
        keywords["compact"] = compact
    return keywords


def _print_one(info: ChannelInfo, as_json: bool) -> None:
    described = _described(info)
    if as_json:
        output.print_json(described)
        return
    output.print_table(("CHANNEL", info.name), list(_lines(described)))


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
        "days_to_full": info.days_to_full or None,
        "damaged": [
            {"first_offset": first, "next_offset": following} for first, following in info.damaged
        ],
        "config": dataclasses.asdict(info.config),
    }


def _lines(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person reads: without the name, which is the heading, and with the settings last."""
    for name, value in described.items():
        if name not in ("name", "config"):
            yield name, _text(name, value)
    yield from show_settings(described["config"])


def _text(name: str, value: Any) -> str:
    if name == "damaged":
        return ", ".join(f"[{each['first_offset']}, {each['next_offset']})" for each in value)
    if value is None:
        return {"last_append": "never", "days_to_full": "not filling"}.get(name, "default")
    if isinstance(value, float):
        return f"{value:.1f}"
    return format_size(value) if name.endswith("_bytes") else str(value)
