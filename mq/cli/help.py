"""What all commands share of their help: examples, the order of commands, the version."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import click

from mq.cli.exits import reader_may_leave

# Commands whose modules are too heavy to be imported for a list of commands, or
# that may be absent: name, module (with an attribute of that name), line in the list.
_LAZY = {"bench": ("mq.cli.bench", "Measure a running broker.")}


def examples(*lines: str) -> str:
    """An epilog that shows command lines as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class Root(click.Group):
    """Lists commands in the order they were added, the lazy ones last.

    A reader of standard output may leave while any of them runs.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Reads the command line; ``--help`` writes here."""
        with reader_may_leave():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with reader_may_leave():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names; a lazy one only where its module exists."""
        lazy = [name for name, (module, _) in _LAZY.items() if _exists(module)]
        return [*(name for name in self.commands if name not in _LAZY), *lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if it is a lazy one."""
        if cmd_name in _LAZY and cmd_name not in self.commands and _exists(_LAZY[cmd_name][0]):
            module = importlib.import_module(_LAZY[cmd_name][0])
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing the lazy ones."""
        rows = [(name, self._line(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _line(self, name: str) -> str:
        if name in _LAZY:
            return _LAZY[name][1]
        return self.commands[name].get_short_help_str(limit=80)


def print_version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Callback of ``--version``."""
    if not value or ctx.resilient_parsing:
        return
    from mq import __version__

    click.echo(f"mq {__version__}")
    ctx.exit()


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
