"""``mq sub``: print a channel's messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from mq.cli import output
from mq.cli.connection import Connection, complete_channel, complete_group, connection_options
from mq.cli.consuming import Consuming, Settle, check_group_options, consume
from mq.cli.exits import Failure, code_of
from mq.cli.group_options import lease_option, max_deliveries_option, mode_option
from mq.cli.help import examples
from mq.cli.reading import OnDamage, follow, read_stored
from mq.cli.types import Start, delay
from mq.cli.types import start as start_type
from mq.cli.writing import Writer, make_writer
from mq.errors import DataLoss

if TYPE_CHECKING:
    from mq import Batch


@click.command(
    epilog=examples(
        "mq sub greetings",
        "mq sub greetings --from beginning",
        "mq sub orders --from -1h --follow --json | jq -r .content",
        "mq sub orders --from 2026-11-24T08:00:00Z --count 10",
        "mq sub logs --from beginning --raw > app.log",
        "mq sub orders --from 120 --format '{offset}\\t{time}\\t{key}\\t{content}'",
        "mq sub orders --group workers",
        "mq sub orders --group workers --count 10 --no-ack --json",
    ),
)
@click.argument("channel", shell_complete=complete_channel)
@click.option(
    "--from",
    "--start",
    "start",
    type=start_type,
    metavar="START",
    help="beginning, latest, an offset, a time (RFC 3339), -1h (ago) or @UNIX_SECONDS.",
)
@click.option(
    "-n", "--count", type=click.IntRange(min=0), metavar="N", help="Stop after so many messages."
)
@click.option("-f", "--follow", "following", is_flag=True, help="Wait for more at the end.")
@click.option("--json", "style", flag_value="json", help="One JSON object a line.")
@click.option("--raw", "style", flag_value="raw", help="The bytes as published, on a terminal too.")
@click.option(
    "--format",
    "template",
    metavar="FORMAT",
    help="Such as '{offset} {time} {key} {content}'; also {time_ns} {headers} {size}"
    " {delivery_count}.",
)
@click.option("-0", "--null", is_flag=True, help="End each message with a NUL byte, not a newline.")
@click.option(
    "--on-damage",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at damaged messages, or leave them out and say so.",
)
@click.option(
    "-g",
    "--group",
    metavar="NAME",
    shell_complete=complete_group,
    help="Consume as one of a group, which is made if there is none.",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="This consumer's name in the group; one of its own if not given.",
)
@mode_option
@lease_option
@max_deliveries_option
@click.option(
    "--idle",
    "idle_ms",
    type=delay,
    metavar="DURATION",
    help="With --group: end once there was no message for so long.",
)
@click.option(
    "--no-ack",
    "settle",
    flag_value="nothing",
    help="With --group: acknowledge nothing; all is handed back at the end.",
)
@click.option(
    "--nack",
    "settle",
    flag_value="nack",
    help="With --group: hand each message back as failed, to be redelivered.",
)
@connection_options
@click.pass_context
def sub(
    ctx: click.Context,
    connection: Connection,
    channel: str,
    start: Start | None,
    count: int | None,
    following: bool,
    style: str | None,
    template: str | None,
    null: bool,
    on_damage: OnDamage,
    group: str | None,
    consumer: str | None,
    mode: str | None,
    lease_ms: int | None,
    max_deliveries: int | None,
    idle_ms: int | None,
    settle: Settle | None,
) -> None:
    r"""Print the messages of a channel.

    Without --from, and with --from latest, what is published from now on, until
    Ctrl-C. From anywhere else, what is stored now; with --follow, then what comes.

    Each message is printed as it was published, and a newline. On a terminal
    control characters are shown as \x1b, so that they do nothing.

    With --group the messages are shared with the group's other consumers, and each
    is acknowledged once it has been written. It goes on until --count, --idle or
    Ctrl-C, which hand back what was not printed. --from, --mode and --max-deliveries
    are for a group that this makes; it begins at the beginning by default.
    """
    write = make_writer(output.stdout(), style, template, b"\0" if null else b"\n")
    settings = {"mode": mode, "lease_ms": lease_ms, "max_deliveries": max_deliveries}
    of_groups = {
        "--consumer": consumer,
        **{"--" + name.replace("_", "-"): value for name, value in settings.items()},
        "--idle": idle_ms,
        "--no-ack or --nack": settle,
    }
    check_group_options(group, of_groups)
    if group is not None:
        how = Consuming(
            channel,
            group,
            start,
            {name: value for name, value in settings.items() if value is not None},
            consumer,
            count,
            idle_ms,
            settle or "ack",
            on_damage,
        )
        with connection.open() as client:
            code = consume(client, how, write, output.stdout())
        ctx.exit(code)
    _read(connection, channel, start, count, following, on_damage, write)


def _read(
    connection: Connection,
    channel: str,
    start: Start | None,
    count: int | None,
    following: bool,
    on_damage: OnDamage,
    write: Writer,
) -> None:
    """Without a group: what is stored, or all that comes."""
    if start is None or start == "latest":
        start, following = "latest", True
    with connection.open() as client:
        read = follow if following else read_stored
        with closing(read(client, channel, start, on_damage)) as batches:
            try:
                _print(batches, count, write, flush=following)
            except DataLoss as error:
                output.stdout().flush()
                hint = f"go on after it with --from {error.next_offset}, or with --on-damage skip"
                raise Failure(error.message, code=code_of(error), hint=hint) from error


def _print(batches: Iterator[Batch], count: int | None, write: Writer, *, flush: bool) -> None:
    if count == 0:
        return
    remaining = count
    for batch in batches:
        taken = batch.record_count if remaining is None else min(remaining, batch.record_count)
        write(batch, taken)
        if flush:
            output.stdout().flush()
        if remaining is not None:
            remaining -= taken
            if remaining == 0:
                return
