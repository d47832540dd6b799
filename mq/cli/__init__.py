"""The command line, ``mq``: each command in a module of its own.

A command imports what is heavy (gRPC, numpy, rich) when it runs, so that help
and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from mq.cli import exits
from mq.cli.channels import channels
from mq.cli.completion import completion
from mq.cli.config import config
from mq.cli.dump import dump
from mq.cli.help import Root, examples, print_version
from mq.cli.pub import pub
from mq.cli.serve import serve
from mq.cli.sub import sub
from mq.cli.verify import verify

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
    3 no such channel, 4 no broker or no answer in time, 130 interrupted.
    """


for command in (serve, pub, sub, channels, verify, dump, config, completion):
    cli.add_command(command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``mq`` and exit with its code.

    Args:
        args: The arguments after ``mq``; those of the process by default.
    """
    sys.exit(exits.run(cli, args))
