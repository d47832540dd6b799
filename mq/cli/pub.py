"""``mq pub``: publish arguments, lines of files, or lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from mq.cli import output
from mq.cli.connection import Connection, complete_channel, connection_options
from mq.cli.delivery import Delivery
from mq.cli.exits import NOT_FOUND, OK, Failure, code_of
from mq.cli.help import examples
from mq.cli.interrupts import Interrupted, Interrupts, catch_interrupts
from mq.cli.progress import Bar, progress_bar
from mq.cli.records import split_records
from mq.cli.types import delay, to_bytes
from mq.cli.types import header as header_type
from mq.errors import ChannelNotFound, MQError
from mq.units import GIB

if TYPE_CHECKING:
    from mq import Client, Producer, SyncPendingReceipt

# Between two looks at what has been answered, and at whether to stop.
SLICE_RECORDS = 5000
# A channel that doesn't say what its largest message is may still have a limit.
RECORD_BYTES_MAX = GIB


@dataclass(frozen=True)
class Input:
    """Where messages come from, and what goes with each."""

    messages: tuple[str, ...]
    files: tuple[str, ...]
    separator: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...] = field(default=())
    schedule: dict[str, Any] = field(default_factory=dict)


@click.command(
    epilog=examples(
        "mq pub greetings 'hello, world' 'how are you?'",
        "mq pub logs --file app.log --file app.log.1",
        "tail -f app.log | mq pub logs",
        "find . -type f -print0 | mq pub paths --null --create",
        "mq pub orders '{\"id\": 7}' --key 7 --header type=created --json",
        "mq pub reminders 'call back' --deliver-after 2h --expires-after 1d",
    ),
)
@click.argument("channel", shell_complete=complete_channel)
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Publish the lines of a file; - is standard input. Repeatable.",
)
@click.option("-0", "--null", is_flag=True, help="Records end with a NUL byte, not with a newline.")
@click.option("-k", "--key", help="The key of each message.")
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    type=header_type,
    metavar="KEY=VALUE",
    help="A header of each message. Repeatable.",
)
@click.option(
    "--deliver-after",
    type=delay,
    metavar="DURATION",
    help="Groups hand the messages out no earlier, such as 10m; other readers see them at once.",
)
@click.option(
    "--expires-after",
    type=delay,
    metavar="DURATION",
    help="Groups hand them out no later, such as 1d.",
)
@click.option("--create", is_flag=True, help="Create the channel if it doesn't exist.")
@click.option("--json", "as_json", is_flag=True, help="Print what was published as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no summary.")
@connection_options
@click.pass_context
def pub(
    ctx: click.Context,
    connection: Connection,
    channel: str,
    messages: tuple[str, ...],
    files: tuple[str, ...],
    null: bool,
    key: str | None,
    headers: tuple[tuple[str, bytes], ...],
    deliver_after: int | None,
    expires_after: int | None,
    create: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Publish messages to a channel.

    Each argument is a message; without arguments, each line of the files, or of
    standard input. A line is published without its newline and otherwise as it is,
    empty ones and odd bytes included; what follows the last newline is a line too.

    Prints nothing on standard output but --json. Ctrl-C stops reading, waits for
    the answers to what was read, and says how much was acknowledged.
    """
    if messages and files:
        raise click.UsageError("messages are given as arguments or in files, not both")
    given = Input(
        messages,
        files,
        b"\0" if null else b"\n",
        to_bytes(key) if key else None,
        headers,
        _schedule(deliver_after, expires_after),
    )
    if not messages and "-" in (files or "-") and sys.stdin.isatty():
        output.tell("one message a line; Ctrl-D ends them", quiet=quiet)
    delivery = Delivery()
    with catch_interrupts() as interrupts:
        try:
            with connection.open() as client, progress_bar("publishing", quiet=quiet) as bar:
                limit = _record_bytes_max(client, channel, create)
                records = _records(given, limit, interrupts, bar)
                _publish(client, channel, given, records, delivery, interrupts)
        except BaseException:
            if delivery.count:
                _report(channel, delivery, as_json=as_json, quiet=quiet)
            raise
    _report(channel, delivery, as_json=as_json, quiet=quiet)
    if delivery.error is not None:
        raise Failure(delivery.error.message, code=code_of(delivery.error))
    ctx.exit(interrupts.exit_code if interrupts.received else OK)


def _schedule(deliver_after_ms: int | None, expires_after_ms: int | None) -> dict[str, Any]:
    """The options of a producer for delay and expiry."""
    given = {"deliver_after_ms": deliver_after_ms, "expires_after_ms": expires_after_ms}
    if deliver_after_ms and expires_after_ms and expires_after_ms <= deliver_after_ms:
        raise click.UsageError(
            "the messages would expire before they are delivered:"
            " --expires-after has to be longer than --deliver-after"
        )
    return {name: span_ms for name, span_ms in given.items() if span_ms is not None}


def _record_bytes_max(client: Client, channel: str, create: bool) -> int:
    """Learn that the channel is there, before anything is read."""
    if create:
        client.create_channel(channel)
    try:
        config = client.describe_channel(channel).config
    except ChannelNotFound as error:
        hint = f"create it with `mq channels create {channel}`, or pass --create"
        raise Failure(error.message, code=NOT_FOUND, hint=hint) from error
    return config.max_message_bytes or RECORD_BYTES_MAX


def _publish(
    client: Client,
    channel: str,
    given: Input,
    records: Iterator[list[bytes]],
    delivery: Delivery,
    interrupts: Interrupts,
) -> None:
    """Send all records; on an error or a signal, those that have been read."""
    with (
        client.producer(channel, **given.schedule) as producer,
        closing(_slices(records)) as slices,
    ):
        try:
            for each in slices:
                _send(producer, each, given, delivery)
                delivery.settle()
                if delivery.error is not None or interrupts.received:
                    break
        except Interrupted:
            pass
        # A failure is told by the message's own receipt as well.
        with suppress(MQError):
            producer.flush()
        delivery.settle(wait=True)


def _send(producer: Producer, records: list[bytes], given: Input, delivery: Delivery) -> None:
    send = producer.send
    handles: list[SyncPendingReceipt] = []
    try:
        if given.key is None and not given.headers:
            for record in records:
                handles.append(send(record))  # noqa: PERF401 - kept if one is not taken
        else:
            for record in records:
                handles.append(send(record, given.key, given.headers))  # noqa: PERF401
    except MQError as error:
        delivery.refuse(error)
    delivery.add(handles)


def _slices(batches: Iterable[list[bytes]]) -> Generator[list[bytes]]:
    """The same records in lists of bounded length."""
    for batch in batches:
        records = iter(batch)
        while some := list(islice(records, SLICE_RECORDS)):
            yield some


def _records(
    given: Input, record_bytes_max: int, interrupts: Interrupts, bar: Bar
) -> Iterator[list[bytes]]:
    """All messages, as they come."""
    if given.messages:
        yield [to_bytes(message) for message in given.messages]
        return
    names = given.files or ("-",)
    total_bytes = _total_bytes(names)
    done_bytes = 0
    for name in names:
        with click.open_file(name, "rb") as file:
            source = _Source(file, interrupts)
            for records in split_records(source, name, given.separator, record_bytes_max):
                yield records
                bar.update(done_bytes + source.read_bytes, total_bytes)
            done_bytes += source.read_bytes


class _Source:
    """A file whose reads a signal can end, and that counts."""

    def __init__(self, file: IO[bytes], interrupts: Interrupts) -> None:
        self._file = file
        self._interrupts = interrupts
        self.read_bytes = 0

    def read1(self, size: int, /) -> bytes:
        with self._interrupts.waiting():
            chunk: bytes = self._file.read1(size)  # type: ignore[attr-defined]
        self.read_bytes += len(chunk)
        return chunk


def _total_bytes(names: Iterable[str]) -> int | None:
    """The size of all files, unless one is a pipe or a device."""
    paths = [Path("/dev/stdin" if name == "-" else name) for name in names]
    if not all(path.is_file() for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


def _report(channel: str, delivery: Delivery, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        output.print_json(
            {
                "channel": channel,
                "count": delivery.count,
                "first_offset": delivery.first_offset,
                "last_offset": delivery.last_offset,
            }
        )
    output.tell(delivery.summary(), quiet=quiet)
