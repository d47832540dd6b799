"""``mq verify``: check a data directory without a broker."""

from __future__ import annotations

from pathlib import Path

import click

from mq.cli import output
from mq.cli.exits import COULD_NOT_RUN, FAILED, OK, Failure
from mq.cli.help import examples
from mq.cli.progress import progress_bar
from mq.errors import MQError


@click.command(
    epilog=examples(
        "mq verify /var/lib/mq",
        "mq verify /backup/mq --json > report.json",
        "mq verify /var/lib/mq --quiet && mq serve --data-dir /var/lib/mq",
    ),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing unless there is damage.")
@click.pass_context
def verify(ctx: click.Context, directory: Path, as_json: bool, quiet: bool) -> None:
    """Check every stored message of a data directory, offline.

    Reads all segments, compares all checksums, and changes nothing. Exit codes: 0
    sound, 1 damaged, 2 it could not be checked.
    """
    from mq.log.verify import verify_data_dir

    try:
        with progress_bar("verifying", quiet=quiet) as bar:
            report = verify_data_dir(directory, progress=bar.update)
    except MQError as error:
        raise Failure(error.message, code=COULD_NOT_RUN) from error
    if as_json:
        output.print_json(report.to_json())
    elif not (quiet and report.ok):
        for line in report.lines():
            click.echo(line)
    ctx.exit(OK if report.ok else FAILED)
