"""Every command is documented, has help and examples, and the examples can be run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mq.cli import cli

DOCS = Path(__file__).parent.parent.parent / "docs" / "cli.md"


def commands(group: click.Group, path: str = "mq") -> Iterator[tuple[str, click.Command]]:
    """All commands below a group, with their full names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands(cli))
LEAVES = {name: each for name, each in ALL.items() if not isinstance(each, click.Group)}


def examples_in(text: str) -> list[str]:
    """The command lines of ``mq`` in a text, each up to a pipe, redirection or ``&&``."""
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r" (?:\||>|&&|#)(?= |$)", line)]
    without_variables = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", part) for part in parts]
    return [part for part in without_variables if part.startswith("mq ")]


def documented_examples() -> list[str]:
    """The command lines in the document's blocks."""
    blocks = re.findall(r"```console\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [line for block in blocks for line in examples_in(block)]


def parse(line: str) -> None:
    """Read a command line as click would, without running it."""
    arguments = shlex.split(line)[1:]
    context: click.Context = click.Context(cli, info_name="mq")
    command: click.Command = cli
    while isinstance(command, click.Group) and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None, line
        command = found
        context = click.Context(command, parent=context)
    command.parse_args(context, arguments)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_is_documented(name: str) -> None:
    """docs/cli.md has an example of it, and a section or an item that names it."""
    text = DOCS.read_text()
    section = " ".join(name.split()[:2])
    assert f"\n## {section}\n" in text
    assert any(line.startswith(name) for line in documented_examples())


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_and_examples(name: str) -> None:
    """A sentence of what it does, and command lines to copy."""
    command = ALL[name]
    assert command.help
    assert command.get_short_help_str(80).endswith(".")
    assert any(line.startswith(name) for line in examples_in(command.epilog or ""))


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_has_help(name: str) -> None:
    """Or it would be a puzzle."""
    options = LEAVES[name].get_params(click.Context(LEAVES[name]))
    assert all(each.help for each in options if isinstance(each, click.Option))


@pytest.mark.parametrize("name", LEAVES)
def test_options_of_each_command_are_documented(name: str) -> None:
    """All but the settings of the server, which have a document of their own."""
    if name in ("mq serve", "mq config"):
        return
    text = DOCS.read_text()
    for each in LEAVES[name].params:
        if isinstance(each, click.Option):
            assert any(flag in text for flag in each.opts), each.opts


EXAMPLES = sorted(
    {
        *documented_examples(),
        *(line for each in ALL.values() for line in examples_in(each.epilog or "")),
    }
)


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_valid_command_lines(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the help and in the document: their options and arguments exist."""
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"--file (\S+)", line):
        Path(name).touch()
    parse(line)


def test_a_bad_example_would_be_found() -> None:
    """The check refuses what it is there to refuse."""
    with pytest.raises(click.UsageError):
        parse("mq sub greetings --form beginning")


@pytest.mark.parametrize("code", ("0", "1", "2", "3", "4", "130"))
def test_exit_codes_are_documented(code: str) -> None:
    """In the document and in the help of mq itself."""
    assert f"\n| {code} | " in DOCS.read_text()
    assert code in (cli.help or "")
