"""The broker that a client command talks to: ``--server`` and ``--timeout``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mq.cli.types import duration

if TYPE_CHECKING:
    from mq import Client

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_SERVER = "localhost:50051"
DEFAULT_TIMEOUT = "30s"
# A hiccup is waited out; that no broker is there is told soon.
RETRY_TIMEOUT_S = 1.0
# A person is waiting behind the tab key.
COMPLETION_TIMEOUT_S = 1.0
COMPLETION_MOST = 100


@dataclass(frozen=True)
class Connection:
    """Where the broker is, and how long a call to it may take."""

    target: str
    timeout_s: float

    def open(self) -> Client:
        """A client, to be used as a context manager."""
        from mq import Client

        return Client(self.target, timeout_s=self.timeout_s, retry_timeout_s=RETRY_TIMEOUT_S)


def connection_options(command: Command) -> Command:
    """Add ``--server`` and ``--timeout``; the command gets a ``connection``."""

    @click.option(
        "-s",
        "--server",
        envvar="MQ_SERVER",
        default=DEFAULT_SERVER,
        metavar="HOST:PORT",
        show_default=True,
        show_envvar=True,
        help="The broker to talk to; unix:PATH for a socket.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        envvar="MQ_TIMEOUT",
        type=duration,
        default=DEFAULT_TIMEOUT,
        show_default=True,
        show_envvar=True,
        metavar="DURATION",
        help="How long one call may take.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, server: str, timeout_s: float, **kwargs: Any) -> Any:
        return command(*args, connection=Connection(server, timeout_s), **kwargs)

    return wrapped  # type: ignore[return-value]


def complete_channel(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of channels that begin with what has been typed; none without a broker."""
    from mq.errors import MQError

    target = ctx.params.get("server") or DEFAULT_SERVER
    try:
        with Connection(target, COMPLETION_TIMEOUT_S).open() as client:
            found = list(client.list_channels(incomplete))
    except MQError:
        return []
    return [CompletionItem(each.name) for each in found[:COMPLETION_MOST]]


def complete_group(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the channel's groups that begin with what has been typed; none without a broker."""
    from mq.errors import MQError

    target = ctx.params.get("server") or DEFAULT_SERVER
    channel = ctx.params.get("channel")
    try:
        with Connection(target, COMPLETION_TIMEOUT_S).open() as client:
            found = client.list_groups(channel) if channel else []
    except MQError:
        return []
    names = [each.name for each in found if each.name.startswith(incomplete)]
    return [CompletionItem(name) for name in names[:COMPLETION_MOST]]
