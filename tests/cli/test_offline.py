"""Commands without a broker: dump, config, completion, serve, and the frame of all."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from mq import __version__
from mq.cli import cli, exits
from mq.cli.progress import Bar
from mq.cli.settings_command import SettingsCommand
from mq.config import Settings
from mq.config.sources import flag_name
from mq.errors import (
    ChannelNotFound,
    ConfigError,
    DataDirError,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    MQError,
    Unavailable,
)
from tests.cli.conftest import Run
from tests.helpers.server import clean_environment

Module = Callable[..., None]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    """A function that puts a module with these attributes in the place of a real one."""

    def put(name: str, **attributes: object) -> None:
        made = ModuleType(name)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)

    return put


PARTS: list[dict[str, Any]] = [
    {"kind": "header", "base_offset": 0, "segment_id": b"\x01" * 16, "created_ns": 0},
    {"kind": "frame", "position": 128, "size": 90, "base_offset": 0, "append_time_ns": 10**18},
    {"kind": "damage", "position": 218, "size": 3, "reason": "bad header"},
]


def test_dump_prints_a_line_for_each_part(mq: Run, module: Module) -> None:
    """Ids in hex, times for people, and code 1 for damage."""
    module("mq.log.verify", dump_segment=lambda _path: iter(PARTS))
    ran = mq("dump", "x.seg")
    assert ran.code == 1
    assert ran.text.splitlines() == [
        f"header base_offset=0 segment_id={'01' * 16} created_ns=0",
        "frame position=128 size=90 base_offset=0 append_time_ns=2001-09-09T01:46:40.000000Z",
        "damage position=218 size=3 reason=bad header",
    ]
    assert mq("dump", "x.seg", "y.seg").text.count("x.seg:\nheader") == 1


def test_dump_json_has_the_values_as_they_are(mq: Run, module: Module) -> None:
    """With the file that they are from."""
    module("mq.log.verify", dump_segment=lambda _path: iter(PARTS[:2]))
    ran = mq("dump", "x.seg", "--json")
    assert ran.code == 0
    header, frame = map(json.loads, ran.out.splitlines())
    assert header["segment_id"] == "01" * 16
    assert frame == {"segment": "x.seg", **PARTS[1]}


def test_dump_of_what_is_no_segment_is_code_2(mq: Run, module: Module) -> None:
    """Whoever says so."""

    def refuse(path: Path) -> Iterator[dict[str, Any]]:
        yield from PARTS[:0]
        raise DataDirError("not a segment file")

    module("mq.log.verify", dump_segment=refuse)
    assert mq("dump", "x") == (2, b"", "mq: error: not a segment file\n")


def test_config_shows_values_and_origins(
    mq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From flags, variables and files alike, as a table and as JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAL_SYNC", "false")
    monkeypatch.setenv("WAL_SEGMENT_FILE_EXT", ".wal")
    Path("own.toml").write_text('segment_bytes = "1MiB"\n')
    args = ["--config", "own.toml", "--listen", "a:1", "--listen", "b:2", "--no-sync-on-startup"]
    ran = mq("config", *args)
    shown = {line.split("\t")[0]: line.split("\t")[1:] for line in ran.text.splitlines()}
    assert list(shown) == list(Settings.model_fields)
    assert shown["listen"] == ["a:1, b:2", "flag --listen"]
    assert shown["sync_on_startup"] == ["false", "flag --sync-on-startup"]
    assert shown["sync"] == ["false", "environment WAL_SYNC"]
    assert shown["segment_bytes"] == ["1MiB", "file own.toml"]
    assert shown["batch_size"] == ["500", "default"]
    assert "WAL_SEGMENT_FILE_EXT" in ran.err
    values = json.loads(mq("config", "--json", *args).out)
    assert values["listen"] == {"value": ["a:1", "b:2"], "source": "flag --listen"}
    assert values["segment_bytes"]["value"] == 1048576


def test_a_bad_setting_stops_serve_and_config_with_code_2(mq: Run, tmp_path: Path) -> None:
    """The message is the one of the settings."""
    for command in ("serve", "config"):
        ran = mq(command, "--segment-bytes", "12")
        assert ran.code == 2
        assert ran.err.startswith("mq: error: segment_bytes: can't use '12' from flag")
        missing = mq(command, "--config", str(tmp_path / "no.toml"))
        assert missing.code == 2
        assert "no.toml can't be read" in missing.err


@pytest.mark.parametrize(("returned", "code"), ((0, 0), (1, 2)))
def test_serve_runs_with_the_settings(
    mq: Run,
    module: Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    returned: int,
    code: int,
) -> None:
    """A server that could not start is code 2, as are settings that can't be used."""
    monkeypatch.chdir(tmp_path)
    served: list[Settings] = []

    def run(settings: Settings) -> int:
        served.append(settings)
        return returned

    module("mq.server.app", run=run)
    assert mq("serve", "--data-dir", "d", "--front", "GRPCIO").code == code
    assert served[0].data_dir == Path("d")
    assert served[0].front == "grpcio"


@pytest.mark.parametrize("command", ("serve", "config"))
def test_every_setting_is_a_flag(command: str) -> None:
    """Nobody has to remember to add one."""
    made = cli.commands[command]
    assert isinstance(made, SettingsCommand)
    context = click.Context(made)
    flags = {flag for each in made.get_params(context) for flag in each.opts}
    assert flags >= {flag_name(name) for name in Settings.model_fields}
    assert len(made.get_params(context)) == len({each.name for each in made.get_params(context)})


@pytest.mark.parametrize("shell", ("bash", "zsh", "fish"))
def test_completion_prints_a_script(mq: Run, shell: str) -> None:
    """For each shell, naming the variable that asks for completions."""
    ran = mq("completion", shell)
    assert ran.code == 0
    assert "_MQ_COMPLETE" in ran.text


def test_completion_of_another_shell_is_wrong_usage(mq: Run) -> None:
    """The message lists those there are."""
    ran = mq("completion", "tcsh")
    assert ran.code == 2
    assert "zsh" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    (
        (InvalidArgument("no"), 1),
        (DataLoss("lost"), 1),
        (ConfigError("bad"), 2),
        (DataDirError("bad"), 2),
        (ChannelNotFound("none"), 3),
        (Unavailable("gone"), 4),
        (DeadlineExceeded("late"), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (KeyboardInterrupt(), 130),
    ),
)
def test_errors_have_codes(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    """And are one line on standard error, or two with a hint; never a traceback."""

    @click.command()
    def failing() -> None:
        raise error

    assert exits.run(failing, []) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    if isinstance(error, MQError | OSError):
        assert err.startswith("mq: error: ")
        assert err.count("\n") == 1 + isinstance(error, Unavailable)


def test_a_bug_is_not_hidden() -> None:
    """What is no error of ours or of the system's keeps its traceback."""

    @click.command()
    def failing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exits.run(failing, [])


def test_wrong_usage_shows_the_usage(mq: Run) -> None:
    """Code 2, nothing on standard output."""
    ran = mq("pubb")
    assert (ran.code, ran.out) == (2, b"")
    assert "Usage: mq" in ran.err
    assert mq("sub").code == 2
    assert mq("--nope").code == 2


def test_version(mq: Run) -> None:
    """On standard output, for scripts."""
    ran = mq("--version")
    assert ran.code == 0
    assert ran.text == f"mq {__version__}\n"


HEAVY = ("grpc", "numpy", "google", "rich", "pydantic", "crc32c", "structlog")


@pytest.mark.parametrize("args", (["--help"], ["sub", "--help"], ["completion", "fish"]))
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    """It answers at once, as does completion, which loads the same modules."""
    program = (
        "import sys\nfrom mq.cli import cli, exits\n"
        f"exits.run(cli, {args!r})\n"
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stderr.split() == []


def test_completion_completes_commands() -> None:
    """What the script of a shell asks for."""
    asked = {"_MQ_COMPLETE": "fish_complete", "COMP_WORDS": "mq ", "COMP_CWORD": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "mq"],
        env=clean_environment() | asked,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "plain,serve" in ran.stdout
    assert "plain,channels" in ran.stdout


def test_a_lazy_command_is_listed_only_where_it_exists(
    mq: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Listed without being imported, imported when it is used."""
    (tmp_path / "lazy_bench.py").write_text(
        "import click\n@click.command()\ndef bench():\n    click.echo('measured')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.commands, "gone", click.Command("gone"))
    monkeypatch.setattr(
        "mq.cli.help._LAZY",
        {"bench": ("lazy_bench", "Measure."), "gone": ("mq.cli.no_such", "")},
    )
    text = mq("--help").text
    assert "bench" in text
    assert "gone" not in text
    assert "lazy_bench" not in sys.modules
    monkeypatch.delitem(cli.commands, "bench", raising=False)
    assert mq("bench").text == "measured\n"
    del cli.commands["bench"], sys.modules["lazy_bench"]


@pytest.mark.parametrize(
    ("enabled", "at_s", "shown"), ((True, 0.5, False), (True, 2.0, True), (False, 9.0, False))
)
def test_a_bar_shows_after_a_while(enabled: bool, at_s: float, shown: bool) -> None:
    """Short work has none, and none is shown where there is no terminal."""
    now = [0.0]
    bar = Bar("working", enabled=enabled, clock=lambda: now[0])
    bar.update(1, 10)
    now[0] = at_s
    bar.update(5, None)
    assert bar.shown == shown
    bar.close()
