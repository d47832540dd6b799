"""Asking before something is removed that can't be brought back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mq.cli.exits import COULD_NOT_RUN, FAILED, Failure

Command = TypeVar("Command", bound=Callable[..., Any])


def yes_option(command: Command) -> Command:
    """Add ``--yes``: the answer, given beforehand."""
    help_text = "Don't ask. Needed where there is no terminal."
    return click.option("-y", "--yes", is_flag=True, help=help_text)(command)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def check_can_ask(yes: bool, what: str) -> None:
    """Refuse at once what would have to be asked about, and can't be.

    Raises:
        Failure: There is no ``--yes``, and nobody to ask.
    """
    if not yes and not is_terminal():
        raise Failure(f"{what} needs --yes where nobody can be asked", code=COULD_NOT_RUN)


def confirm(question: str, refused: str) -> None:
    """Ask; no answer is no.

    Raises:
        Failure: The answer is no; it says what was ``refused``.
    """
    if not click.confirm(question, err=True):
        raise Failure(refused, code=FAILED)
