"""``mq groups``: list, make, describe, change, move and remove consumer groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mq.cli import output
from mq.cli.asking import check_can_ask, confirm, yes_option
from mq.cli.connection import Connection, complete_channel, complete_group, connection_options
from mq.cli.cursors import commit, committed
from mq.cli.exits import Failure, code_of
from mq.cli.group_options import setting_options
from mq.cli.group_view import print_list, print_one, watch
from mq.cli.help import examples
from mq.cli.types import Start
from mq.cli.types import start as start_type
from mq.errors import ChannelNotFound, GroupNotFound, OffsetOutOfRange

if TYPE_CHECKING:
    from mq import GroupInfo

channel_argument = click.argument("channel", shell_complete=complete_channel)
group_argument = click.argument("group", shell_complete=complete_group)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
watch_option = click.option(
    "--watch", "watching", is_flag=True, help="Show it anew each second, until Ctrl-C."
)


@click.group(
    epilog=examples(
        "mq groups ls",
        "mq groups create orders workers --max-deliveries 5",
        "mq groups describe orders workers --watch",
        "mq groups seek orders workers --to -1h",
    ),
)
def groups() -> None:
    """List, make, describe, change, move and remove consumer groups."""


groups.add_command(commit)
groups.add_command(committed)


@groups.command(
    epilog=examples("mq groups ls", "mq groups ls orders --watch", "mq groups ls --json")
)
@click.argument("channel", required=False, shell_complete=complete_channel)
@watch_option
@json_option
@connection_options
def ls(connection: Connection, channel: str | None, watching: bool, as_json: bool) -> None:
    """List the groups of a channel, or of all, with how far behind they are."""
    with connection.open() as client:
        if watching:
            watch(lambda: client.list_groups(channel), as_json, detailed=False)
        print_list(client.list_groups(channel), as_json)


@groups.command(
    epilog=examples(
        "mq groups create orders workers",
        "mq groups create orders billing --start latest --mode key_ordered",
        "mq groups create orders workers --max-deliveries 5 --lease-ms 1m",
    ),
)
@channel_argument
@group_argument
@click.option(
    "--from",
    "--start",
    "start",
    type=start_type,
    metavar="START",
    help="Where it begins: beginning (if not given), latest, an offset, a time, -1h (ago).",
)
@setting_options
@json_option
@connection_options
def create(
    connection: Connection,
    channel: str,
    group: str,
    start: Start | None,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Make a group of a channel. One that exists is left as it is."""
    with connection.open() as client:
        try:
            info = client.describe_group(group, channel)
            output.tell(f"{group} of {channel} exists, and was left as it is")
        except GroupNotFound:
            begin = "beginning" if start is None else start
            info = client.create_group(group, channel, start=begin, **settings)
    if as_json:
        print_one(info, as_json)


@groups.command(
    epilog=examples(
        "mq groups configure orders workers --max-deliveries 5",
        "mq groups configure orders workers --mode exclusive --session-ms 10s",
    ),
)
@channel_argument
@group_argument
@setting_options
@json_option
@connection_options
def configure(
    connection: Connection, channel: str, group: str, settings: dict[str, Any], as_json: bool
) -> None:
    """Change settings of a group, and show it. Those that aren't named stay.

    The mode can't be changed while messages are leased.
    """
    if not settings:
        raise click.UsageError("name a setting to change, as in --max-deliveries 5")
    with connection.open() as client:
        client.describe_group(group, channel)
        print_one(client.create_group(group, channel, **settings), as_json)


@groups.command(
    epilog=examples(
        "mq groups describe orders workers",
        "mq groups describe orders workers --watch",
        "mq groups describe orders workers --json | jq .messages_behind",
    ),
)
@channel_argument
@group_argument
@watch_option
@json_option
@connection_options
def describe(
    connection: Connection, channel: str, group: str, watching: bool, as_json: bool
) -> None:
    """Show a group's lag, settings and consumers.

    Behind is what is not done: in flight (leased), waiting (delayed, or backing
    off after a failure), and not handed out yet. Seconds are the age of the oldest.
    """
    with connection.open() as client:
        if watching:
            watch(lambda: [client.describe_group(group, channel)], as_json, detailed=True)
        print_one(client.describe_group(group, channel), as_json)


@groups.command(
    epilog=examples(
        "mq groups seek orders workers --to beginning",
        "mq groups seek orders workers --to 120",
        "mq groups seek orders workers --to -1h",
    ),
)
@channel_argument
@group_argument
@click.option(
    "--to",
    "start",
    type=start_type,
    required=True,
    metavar="START",
    help="beginning, latest, an offset, a time (RFC 3339), -1h (ago) or @UNIX_SECONDS.",
)
@json_option
@connection_options
def seek(connection: Connection, channel: str, group: str, start: Start, as_json: bool) -> None:
    """Move a group: what is before the new place is done, what follows is not.

    Leases end: consumers that work on messages are refused their acknowledgements.
    """
    with connection.open() as client:
        try:
            info = client.seek_group(group, channel, start)
        except OffsetOutOfRange as error:
            hint = "nothing moved; --to beginning and --to latest are the ends"
            raise Failure(error.message, code=code_of(error), hint=hint) from error
    if as_json:
        print_one(info, as_json)
    else:
        behind = f"{info.messages_behind} messages behind"
        output.tell(f"{group} of {channel} is at offset {info.acked_through}, {behind}")


@groups.command(
    epilog=examples("mq groups rm orders workers", "mq groups rm orders workers billing --yes"),
)
@channel_argument
@click.argument("names", metavar="GROUP...", nargs=-1, required=True, shell_complete=complete_group)
@yes_option
@connection_options
def rm(connection: Connection, channel: str, names: tuple[str, ...], yes: bool) -> None:
    """Delete groups, and where they were. The channel's messages stay."""
    check_can_ask(yes, "deleting")
    with connection.open() as client:
        for name in names:
            if not yes:
                _confirm(client.describe_group(name, channel))
            client.delete_group(name, channel)


def _confirm(info: GroupInfo) -> None:
    left = f"{info.messages_behind} messages it has not acknowledged"
    question = f"Delete group {info.name} of {info.channel}, with its place and {left}?"
    confirm(question, f"{info.name} was left as it is")


@groups.command(
    epilog=examples("mq groups redrive orders workers", "mq groups redrive orders workers -n 10"),
)
@channel_argument
@group_argument
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="N", help="So many at most, not all."
)
@json_option
@connection_options
def redrive(
    connection: Connection, channel: str, group: str, count: int | None, as_json: bool
) -> None:
    """Publish a group's dead letters to its channel again.

    They come as new messages, at its end, so that all groups of the channel get them.
    """
    with connection.open() as client:
        try:
            moved = client.redrive_group(group, channel, count or 0)
        except ChannelNotFound as error:
            raise Failure(error.message, code=code_of(error)) from error
    if as_json:
        output.print_json({"channel": channel, "group": group, "count": moved})
    output.tell(f"published {moved} dead {'letter' if moved == 1 else 'letters'} again")
