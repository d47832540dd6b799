"""``mq groups commit`` and ``committed``: the place of a reader that wants no leases."""

from __future__ import annotations

import click

from mq.cli import output
from mq.cli.connection import Connection, complete_channel, complete_group, connection_options
from mq.cli.exits import NOT_FOUND, Failure, code_of
from mq.cli.help import examples
from mq.errors import OffsetOutOfRange

channel_argument = click.argument("channel", shell_complete=complete_channel)
group_argument = click.argument("group", shell_complete=complete_group)


@click.command(epilog=examples("mq groups commit orders nightly 1200"))
@channel_argument
@group_argument
@click.argument("offset", type=click.IntRange(min=0))
@connection_options
def commit(connection: Connection, channel: str, group: str, offset: int) -> None:
    """Keep the place of a reader without leases: OFFSET is the next one to read.

    The group is made if there is none. A place never moves back; seek moves it.
    """
    with connection.open() as client:
        try:
            client.commit_offset(group, channel, offset)
        except OffsetOutOfRange as error:
            hint = "commit the offset of the last message that was read, and one"
            raise Failure(error.message, code=code_of(error), hint=hint) from error
        place = client.committed_offset(group, channel)
    if place is not None and place > offset:
        output.tell(
            f"mq: warning: {group} is at offset {place} already, and a commit never moves back; "
            f"`mq groups seek {channel} {group} --to {offset}` does"
        )


@click.command(
    epilog=examples(
        "mq groups committed orders nightly",
        "mq groups committed orders nightly --json | jq .offset",
    )
)
@channel_argument
@group_argument
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@connection_options
def committed(connection: Connection, channel: str, group: str, as_json: bool) -> None:
    """Print where a reader without leases goes on: the next offset to read."""
    with connection.open() as client:
        offset = client.committed_offset(group, channel)
    if offset is None:
        hint = f"begin with `mq groups commit {channel} {group} OFFSET`"
        raise Failure(f"channel {channel} has no group {group!r}", code=NOT_FOUND, hint=hint)
    if as_json:
        output.print_json({"channel": channel, "group": group, "offset": offset})
    else:
        click.echo(offset)
