"""``mq sub``: print a channel's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import click

from mq.cli import output
from mq.cli.connection import Connection, complete_channel, connection_options
from mq.cli.exits import Failure, code_of
from mq.cli.format import Render, as_json, compile_format, for_terminal
from mq.cli.help import examples
from mq.cli.reading import OnDamage, follow, read_stored
from mq.cli.types import Start
from mq.cli.types import start as start_type
from mq.errors import DataLoss

if TYPE_CHECKING:
    from mq import Batch

# Writes the first so many records of a batch.
Writer = Callable[["Batch", int], None]


@click.command(
    epilog=examples(
        "mq sub greetings",
        "mq sub greetings --from beginning",
        "mq sub orders --from -1h --follow --json | jq -r .content",
        "mq sub orders --from 2026-11-24T08:00:00Z --count 10",
        "mq sub logs --from beginning --raw > app.log",
        "mq sub orders --from 120 --format '{offset}\\t{time}\\t{key}\\t{content}'",
    ),
)
@click.argument("channel", shell_complete=complete_channel)
@click.option(
    "--from",
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
    help="Such as '{offset} {time} {key} {content}'; also {time_ns} {headers} {size}.",
)
@click.option("-0", "--null", is_flag=True, help="End each message with a NUL byte, not a newline.")
@click.option(
    "--on-damage",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at damaged messages, or leave them out and say so.",
)
@connection_options
def sub(
    connection: Connection,
    channel: str,
    start: Start | None,
    count: int | None,
    following: bool,
    style: str | None,
    template: str | None,
    null: bool,
    on_damage: OnDamage,
) -> None:
    r"""Print the messages of a channel.

    Without --from, and with --from latest, what is published from now on, until
    Ctrl-C. From anywhere else, what is stored now; with --follow, then what comes.

    Each message is printed as it was published, and a newline. On a terminal
    control characters are shown as \x1b, so that they do nothing.
    """
    if style and template is not None:
        raise click.UsageError("--json, --raw and --format exclude each other")
    write = _writer(output.stdout(), style, template, b"\0" if null else b"\n")
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


def _writer(out: BinaryIO, style: str | None, template: str | None, end: bytes) -> Writer:
    if template is not None:
        try:
            return _one_by_one(out, compile_format(template), end)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--format") from error
    if style == "json":
        return _one_by_one(out, as_json, end)
    if style is None and out.isatty():
        return _one_by_one(out, lambda message: for_terminal(message.content), end)
    return _joined(out, end)


def _one_by_one(out: BinaryIO, render: Render, end: bytes) -> Writer:
    def write(batch: Batch, count: int) -> None:
        out.write(end.join([render(message) for message in islice(batch.messages(), count)]))
        out.write(end)

    return write


def _joined(out: BinaryIO, end: bytes) -> Writer:
    """A batch is written at once: millions of messages a second."""

    def write(batch: Batch, count: int) -> None:
        contents = batch.contents
        if count < len(contents):
            contents = contents[:count]
        out.write(end.join(contents))
        out.write(end)

    return write
