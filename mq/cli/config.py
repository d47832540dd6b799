"""``mq config``: the settings in force, and where each comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mq.cli import output
from mq.cli.help import examples
from mq.cli.settings_command import SettingsCommand, config_file_option, load_settings


@click.command(
    cls=SettingsCommand,
    epilog=examples(
        "mq config",
        "mq config --json",
        "mq config --config /etc/mq/mq.toml --listen 0.0.0.0:50051",
    ),
)
@config_file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, by name of setting.")
def config(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Show the settings in force and where each comes from.

    Takes the flags of `mq serve`, to show what they would change.
    """
    settings = load_settings(config_file, flags)
    for warning in settings.warnings:
        output.tell(f"mq: warning: {warning}")
    if as_json:
        values = settings.model_dump(mode="json")
        output.print_json(
            {
                each.name: {"value": values[each.name], "source": each.source}
                for each in settings.sources()
            }
        )
        return
    rows = [(each.name, each.text, each.source) for each in settings.sources()]
    output.print_table(("SETTING", "VALUE", "FROM"), rows)
