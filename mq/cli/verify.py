"""``mq verify``: check a data directory without a broker, and repair it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mq.cli import output
from mq.cli.exits import COULD_NOT_RUN, FAILED, OK, Failure
from mq.cli.help import examples
from mq.cli.progress import progress_bar
from mq.errors import MQError

if TYPE_CHECKING:
    from mq.log.repair.report import Action, RepairReport
    from mq.log.report import Report


@click.command(
    epilog=examples(
        "mq verify /var/lib/mq",
        "mq verify /var/lib/mq --json > report.json",
        "mq verify /var/lib/mq --quiet && mq serve --data-dir /var/lib/mq",
        "mq verify /var/lib/mq --repair",
        "mq verify /var/lib/mq --repair --yes",
    ),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
@click.option(
    "--repair",
    is_flag=True,
    help="Show what puts the directory in order; with --yes, do it. No broker may be using it.",
)
@click.option("-y", "--yes", is_flag=True, help="Let --repair change the directory.")
@click.option(
    "--dry-run", is_flag=True, help="Change nothing, which is what --repair does without --yes."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Check so many segments at the same time; by default one for each core.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing unless there is damage.")
@click.pass_context
def verify(
    ctx: click.Context,
    directory: Path,
    *,
    as_json: bool,
    repair: bool,
    yes: bool,
    dry_run: bool,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Check every stored message of a data directory, offline, and repair it.

    Reads all segments, compares all checksums, and changes nothing. --repair shows
    how the directory is put in order, and --repair --yes does it: what can be read
    stays, what can't is marked as lost, and what is replaced is kept in
    DIR/quarantine. Exit codes: 0 sound, or repaired; 1 damaged; 2 it could not be
    checked or repaired.
    """
    if (yes or dry_run) and not repair:
        raise click.UsageError("--yes and --dry-run belong to --repair")
    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    try:
        if repair:
            report: Report | RepairReport = _repair(directory, jobs, yes=yes, quiet=quiet)
        else:
            report = _verify(directory, jobs, quiet=quiet)
    except MQError as error:
        raise Failure(error.message, code=COULD_NOT_RUN) from error
    output.print_report(report, as_json=as_json, quiet=quiet)
    ctx.exit(OK if report.ok else FAILED)


def _verify(directory: Path, jobs: int | None, *, quiet: bool) -> Report:
    from mq.broker.coordinator.journal_check import complain
    from mq.log.jobs import cores
    from mq.log.verify import verify_data_dir

    with progress_bar("verifying", quiet=quiet) as bar:
        return verify_data_dir(directory, bar.update, jobs=jobs or cores(), complain=complain)


def _repair(directory: Path, jobs: int | None, *, yes: bool, quiet: bool) -> RepairReport:
    from mq.broker.coordinator.journal_check import complain
    from mq.log.jobs import cores
    from mq.log.repair.repair import repair_data_dir

    taken: list[Action] = []
    label = "repairing" if yes else "planning"
    with _told_if_cut_short(taken, yes=yes), progress_bar(label, quiet=quiet) as bar:
        return repair_data_dir(
            directory,
            dry_run=not yes,
            complain=complain,
            progress=bar.update,
            jobs=jobs or cores(),
            taken=taken.append,
        )


@contextlib.contextmanager
def _told_if_cut_short(taken: list[Action], *, yes: bool) -> Iterator[None]:
    """Whatever ends a repair early, what it did stays, and the same command does the rest."""
    try:
        yield
    except (KeyboardInterrupt, OSError, MQError) as error:
        for action in taken:
            output.tell(f"done: {action.line()}")
        if taken:
            output.tell(
                "mq: the repair was cut short: what was done stays done, and the same command "
                "does the rest"
            )
        elif yes and isinstance(error, KeyboardInterrupt):
            output.tell("mq: interrupted before a step was done; the same command does all of them")
        raise
