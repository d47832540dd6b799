"""The options that say how a consumer group works, for the commands that make one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mq.cli.types import milliseconds

Command = TypeVar("Command", bound=Callable[..., Any])

MODES = ("shared", "key_ordered", "exclusive")

_TIME = "DURATION"

mode_option = click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Whoever asks gets the next ones; those of one key in order; or one consumer only.",
)
lease_option = click.option(
    "--lease-ms",
    type=milliseconds,
    metavar=_TIME,
    help="How long a consumer may be silent about a message: 30s, or milliseconds.",
)
max_deliveries_option = click.option(
    "--max-deliveries",
    type=click.IntRange(min=0),
    metavar="N",
    help="A message that failed so often becomes a dead letter; 0: never.",
)

_SETTINGS = (
    mode_option,
    lease_option,
    max_deliveries_option,
    click.option(
        "--backoff-min-ms",
        type=milliseconds,
        metavar=_TIME,
        help="How long a message waits after its first failure; it doubles with each.",
    ),
    click.option(
        "--backoff-max-ms", type=milliseconds, metavar=_TIME, help="The longest it waits."
    ),
    click.option(
        "--dead-letter-channel",
        metavar="NAME",
        help="Where dead letters go; '' is CHANNEL.dead.",
    ),
    click.option(
        "--dead-letter-expired/--no-dead-letter-expired",
        default=None,
        help="Whether messages that expire become dead letters too.",
    ),
    click.option(
        "--session-ms",
        type=milliseconds,
        metavar=_TIME,
        help="How long the active consumer of an exclusive group may be silent.",
    ),
)
_NAMES = (
    "mode",
    "lease_ms",
    "max_deliveries",
    "backoff_min_ms",
    "backoff_max_ms",
    "dead_letter_channel",
    "dead_letter_expired",
    "session_ms",
)


def setting_options(command: Command) -> Command:
    """Add an option for each setting; the command gets those that were given as ``settings``."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _NAMES}
        settings = {name: value for name, value in given.items() if value is not None}
        return command(*args, settings=settings, **kwargs)

    made: Any = wrapped
    for option in reversed(_SETTINGS):
        made = option(made)
    return made  # type: ignore[no-any-return]
