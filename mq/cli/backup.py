"""``mq backup`` and ``mq restore``: a copy of a data directory, and the way back."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mq.cli import output
from mq.cli.exits import COULD_NOT_RUN, FAILED, OK, Failure
from mq.cli.help import examples
from mq.cli.progress import progress_bar
from mq.errors import MQError

_DIRECTORY = click.Path(path_type=Path)


@click.command(
    epilog=examples(
        "mq backup /var/lib/mq /backup/mq",
        "mq backup /var/lib/mq /backup/tuesday --previous /backup/monday --copy",
        "mq backup /var/lib/mq /backup/mq --json | jq .copied_bytes",
    ),
)
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.argument("destination", metavar="DEST", type=_DIRECTORY)
@click.option(
    "--previous",
    metavar="OLD",
    type=_DIRECTORY,
    help="Another backup on the same file system as DEST; what it has already is linked.",
)
@click.option("--copy", is_flag=True, help="Copy segments even where they could be linked to DIR.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="How many segments are checked at the same time; one a core by default.",
)
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing unless there is damage.")
@click.pass_context
def backup(
    ctx: click.Context,
    directory: Path,
    destination: Path,
    previous: Path | None,
    copy: bool,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Back a data directory up, while its broker runs or not.

    DEST is new, empty, or an earlier backup of DIR, which is replaced once the new
    one is complete; only what is new is copied. Exit codes: 0 done; 1 done, and DIR
    has damage; 2 there is no new backup.
    """
    from mq.log.backup.backup import back_up
    from mq.log.jobs import cores

    done_bytes = 0
    try:
        with progress_bar("backing up", quiet=quiet) as bar:

            def advance(size_bytes: int) -> None:
                nonlocal done_bytes
                done_bytes += size_bytes
                bar.update(done_bytes, None)

            report = back_up(
                directory,
                destination,
                previous=previous,
                link=not copy,
                jobs=jobs or cores(),
                advance=advance,
                clock=time.time_ns,
            )
    except MQError as error:
        raise Failure(error.message, code=COULD_NOT_RUN) from error
    output.print_report(report, as_json=as_json, quiet=quiet)
    ctx.exit(OK if report.ok else FAILED)


@click.command(
    epilog=examples(
        "mq restore /backup/mq /var/lib/mq",
        "mq restore /backup/mq /tmp/try && mq verify /tmp/try",
    ),
)
@click.argument("backup", metavar="BACKUP", type=_DIRECTORY)
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def restore(backup: Path, directory: Path, as_json: bool, quiet: bool) -> None:
    """Make a data directory from a backup.

    DIR is new or empty. Every file is compared with the backup's manifest on the
    way. Exit codes: 0 done, 2 not done: remove what is in DIR before trying again.
    """
    from mq.log.backup.restore import restore as put_back

    try:
        with progress_bar("restoring", quiet=quiet) as bar:
            report = put_back(backup, directory, progress=bar.update)
    except MQError as error:
        raise Failure(error.message, code=COULD_NOT_RUN) from error
    if as_json:
        output.print_json(report.to_json())
    elif not quiet:
        click.echo(report.line())
