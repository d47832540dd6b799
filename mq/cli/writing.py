"""How messages are written: joined, or rendered one by one, in the style that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Protocol

import click

from mq.cli.format import Render, as_json, compile_format, for_terminal

if TYPE_CHECKING:
    from mq import Message


class Records(Protocol):
    """A batch, or what can be written like one."""

    @property
    def contents(self) -> Sequence[bytes]:
        """All contents, in order."""

    def messages(self) -> Iterator[Message]:
        """The records one by one."""


# Writes the first so many records.
Writer = Callable[[Records, int], None]


def make_writer(out: BinaryIO, style: str | None, template: str | None, end: bytes) -> Writer:
    """A function that writes records, each with an end.

    Args:
        out: Where to.
        style: ``json``, ``raw``, or None for text.
        template: A format in place of a style.
        end: What ends each message.

    Raises:
        UsageError: A style and a template, or a template that means nothing.
    """
    if style and template is not None:
        raise click.UsageError("--json, --raw and --format exclude each other")
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
    def write(batch: Records, count: int) -> None:
        out.write(end.join([render(message) for message in islice(batch.messages(), count)]))
        out.write(end)

    return write


def _joined(out: BinaryIO, end: bytes) -> Writer:
    """A batch is written at once: millions of messages a second."""

    def write(batch: Records, count: int) -> None:
        contents = batch.contents
        if count < len(contents):
            contents = contents[:count]
        out.write(end.join(contents))
        out.write(end)

    return write
