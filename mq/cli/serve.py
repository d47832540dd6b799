"""``mq serve``: run a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mq.cli.exits import COULD_NOT_RUN, OK
from mq.cli.help import examples
from mq.cli.settings_command import SettingsCommand, config_file_option, load_settings


@click.command(
    cls=SettingsCommand,
    epilog=examples(
        "mq serve",
        "mq serve --data-dir /var/lib/mq --listen 0.0.0.0:50051",
        "mq serve --listen unix:/run/mq/mq.sock --metrics-listen off",
        "mq serve --config /etc/mq/mq.toml",
    ),
)
@config_file_option
def serve(config_file: Path | None, **flags: Any) -> int:
    """Run a broker until it is stopped.

    Every setting is a flag, a variable MQ_NAME and a key of a TOML file; `mq
    config` shows what is in force. SIGTERM or Ctrl-C stops it gracefully: calls in
    flight are answered, everything is synced. Exit code 2: it could not start.
    """
    settings = load_settings(config_file, flags)
    from mq.server.app import run

    return OK if run(settings) == 0 else COULD_NOT_RUN
