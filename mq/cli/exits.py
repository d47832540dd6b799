"""How the program ends: exit codes, and errors as one line on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import click

from mq.errors import (
    ChannelNotFound,
    ConfigError,
    DataDirError,
    DeadlineExceeded,
    GroupNotFound,
    MQError,
    Unavailable,
)

OK = 0
FAILED = 1
COULD_NOT_RUN = 2
NOT_FOUND = 3
UNAVAILABLE = 4
INTERRUPTED = 130

_CODES: tuple[tuple[type[MQError], int], ...] = (
    (ChannelNotFound, NOT_FOUND),
    (GroupNotFound, NOT_FOUND),
    (Unavailable, UNAVAILABLE),
    (DeadlineExceeded, UNAVAILABLE),
    (ConfigError, COULD_NOT_RUN),
    (DataDirError, COULD_NOT_RUN),
)

_UNAVAILABLE_HINT = "start a broker with `mq serve`, or name another with --server or MQ_SERVER"


class Failure(click.ClickException):
    """An end that the command itself has words for.

    Args:
        message: What went wrong; empty if it has been said.
        code: The exit code.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, code: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class ReaderHasGone(Exception):
    """Standard output was a pipe, and nobody reads it any more."""


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Tells a broken pipe from other errors before click, whose answer to it is exit code 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderHasGone from error


def code_of(error: MQError) -> int:
    """The exit code of one of the project's errors."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def run(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. Errors become messages here, and only here."""
    _open_missing_streams()
    try:
        returned = command.main(args, prog_name="mq", standalone_mode=False)
    except Failure as failure:
        _complain(failure.message, failure.hint)
        return failure.code
    except click.ClickException as error:
        error.show()
        return COULD_NOT_RUN
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except MQError as error:
        _complain(error.message, _UNAVAILABLE_HINT if isinstance(error, Unavailable) else "")
        return code_of(error)
    except ReaderHasGone:
        # ``mq sub … | head`` is done when head is.
        _drop_output()
        return OK
    except OSError as error:
        _complain(_describe(error))
        _drop_output()
        return COULD_NOT_RUN
    return returned if isinstance(returned, int) else OK


def _open_missing_streams() -> None:
    """Python has none where a shell closed one: ``mq … >&-``."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _drop_output() -> None:
    """The interpreter flushes standard output at its end, and would complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _complain(message: str, hint: str = "") -> None:
    for line in message.splitlines():
        click.echo(f"mq: error: {line}", err=True)
    if hint:
        click.echo(f"mq: hint: {hint}", err=True)
