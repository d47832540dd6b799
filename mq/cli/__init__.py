"""The command line, ``mq``: each command in a module of its own.

A command imports what is heavy (gRPC, numpy, rich) when it runs, so that help
and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from mq.cli import (
    backup,
    channels,
    completion,
    config,
    dump,
    exits,
    groups,
    pub,
    serve,
    sub,
    verify,
)
from mq.cli.help import Root, examples, print_version

__all__ = ["cli", "main"]


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "mq serve",
        "mq channels create greetings",
        "mq pub greetings 'hello, world'",
        "mq sub greetings --from beginning",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """A durable message broker for one machine, and its clients.

    Exit codes: 0 done, 1 refused or damaged, 2 wrong usage or could not run,
    3 no such channel or group, 4 no broker or no answer in time, 130 interrupted.
    """


for command in (
    serve.serve,
    pub.pub,
    sub.sub,
    channels.channels,
    groups.groups,
    verify.verify,
    backup.backup,
    backup.restore,
    dump.dump,
    config.config,
    completion.completion,
):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``mq`` and exit with its code.

    Args:
        args: The arguments after ``mq``; those of the process by default.
    """
    sys.exit(exits.run(cli, args))
