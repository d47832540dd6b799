"""``mq channels purge`` and ``mq channels retention``: remove the oldest segments of a channel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mq.cli import output
from mq.cli.asking import check_can_ask, confirm, yes_option
from mq.cli.connection import Connection, complete_channel, connection_options
from mq.cli.format import timestamp
from mq.cli.help import examples
from mq.cli.types import moment
from mq.units import format_size

if TYPE_CHECKING:
    from mq import PurgedSegment

_COLUMNS = ("FIRST", "NEXT", "MESSAGES", "BYTES", "LAST APPEND", "REASON")

channel_argument = click.argument("channel", shell_complete=complete_channel)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Remove nothing; list what would go, and why."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a segment.")


@click.command(
    epilog=examples(
        "mq channels purge orders --before-offset 1000000 --dry-run",
        "mq channels purge orders --before -7d",
        "mq channels purge orders --before 2026-11-01 --yes --json",
    ),
)
@channel_argument
@click.option(
    "--before-offset",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep this offset, and what follows.",
)
@click.option(
    "--before",
    type=moment,
    metavar="TIME",
    help="Keep what was stored at this time or later: RFC 3339, -7d (ago) or @UNIX_SECONDS.",
)
@dry_run_option
@yes_option
@json_option
@connection_options
def purge(
    connection: Connection,
    channel: str,
    before_offset: int | None,
    before: datetime | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove a channel's messages before an offset or a time, by whole segments.

    A segment goes once all of it is before the bound, so that up to a segment of
    older messages stays. Lists the segments that went, or would go with --dry-run,
    and asks before it removes any; --yes answers.
    """
    if (before_offset is None) == (before is None):
        raise click.UsageError(
            "give one bound, --before-offset or --before"
            " (what retention removes is `mq channels retention`)"
        )
    if not dry_run:
        check_can_ask(yes, "purging")
    bound = before_offset if before is None else before
    with connection.open() as client:
        if not dry_run and not yes:
            listed = client.purge_channel(channel, bound, dry_run=True)
            confirm(f"Remove {_sum(listed)} of {channel}?", f"{channel} was left as it is")
        _report(client.purge_channel(channel, bound, dry_run=dry_run), as_json, dry_run)


@click.command(
    epilog=examples(
        "mq channels retention orders --dry-run",
        "mq channels retention orders",
    ),
)
@channel_argument
@dry_run_option
@json_option
@connection_options
def retention(connection: Connection, channel: str, dry_run: bool, as_json: bool) -> None:
    """Remove now what a channel's retention settings let go, as the broker does by itself.

    Lists the segments that went, or would go with --dry-run, each with the reason.
    """
    with connection.open() as client:
        _report(client.purge_channel(channel, None, dry_run=dry_run), as_json, dry_run)


def _report(segments: Sequence[PurgedSegment], as_json: bool, dry_run: bool) -> None:
    if as_json:
        for each in segments:
            output.print_json(
                {
                    "first_offset": each.first_offset,
                    "next_offset": each.next_offset,
                    "size_bytes": each.size_bytes,
                    "last_append": timestamp(each.last_append_time_ns),
                    "reason": each.reason,
                }
            )
    elif segments:
        output.print_table(_COLUMNS, [_row(each) for each in segments])
    output.tell(f"{'would remove' if dry_run else 'removed'} {_sum(segments)}")


def _row(segment: PurgedSegment) -> tuple[str, ...]:
    return (
        str(segment.first_offset),
        str(segment.next_offset),
        str(segment.next_offset - segment.first_offset),
        format_size(segment.size_bytes),
        timestamp(segment.last_append_time_ns),
        segment.reason,
    )


def _sum(segments: Sequence[PurgedSegment]) -> str:
    if not segments:
        return "no segment"
    messages = segments[-1].next_offset - segments[0].first_offset
    size_bytes = sum(each.size_bytes for each in segments)
    noun = "segment" if len(segments) == 1 else "segments"
    return f"{len(segments)} {noun} with {messages} messages ({size_bytes} bytes)"
