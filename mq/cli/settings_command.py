"""A command that has every setting of the server as a flag."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mq.config import Settings


class SettingsCommand(click.Command):
    """Makes its flags of the settings, when it is used: their module is slow to import."""

    _complete = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The flags of the settings, then those of the command."""
        if not self._complete:
            self.params[:0] = _setting_options()
            self._complete = True
        return super().get_params(ctx)


config_file_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file of settings.  [default: MQ_CONFIG, or mq.toml if there is one]",
)


def load_settings(config_file: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings in force.

    Raises:
        ConfigError: One can't be used.
    """
    from mq.config import Settings

    return Settings.load(flags, config_file=config_file)


def _setting_options() -> list[click.Parameter]:
    from mq.config import Settings
    from mq.config.settings import kind_of
    from mq.config.sources import flag_name

    options: list[click.Parameter] = []
    for name, field in Settings.model_fields.items():
        kind = kind_of(Settings, name)
        flag = flag_name(name)
        is_switch = kind.words == ("true", "false")
        declaration = f"{flag}/--no-{flag[2:]}" if is_switch else flag
        help_text = f"{field.description}  [default: {kind.show(field.default)}]"
        keywords: dict[str, Any] = {"help": help_text, "default": None}
        if kind.words and not is_switch:
            keywords["type"] = click.Choice(kind.words, case_sensitive=False)
        elif not is_switch:
            keywords["metavar"] = kind.metavar
        if name == "listen":
            keywords["multiple"] = True
        options.append(click.Option([declaration, name], **keywords))
    return options
