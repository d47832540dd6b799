"""Settings: precedence, origins, the old names, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mq.config import Settings
from mq.config.settings import kind_of
from mq.config.sources import OLD_NAMES, flag_name, variable_name
from mq.errors import ConfigError
from mq.units import MIB

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"

# One value for each setting, as written, that differs from its default.
OTHER_VALUES = {
    "data_dir": "elsewhere",
    "listen": "[::1]:7000,unix:/run/mq.sock",
    "front": "grpcio",
    "segment_bytes": "128KiB",
    "sync": "false",
    "bytes_per_sync": "5000",
    "batch_size": "7",
    "sync_on_startup": "yes",
    "graceful_shutdown_timeout_s": "1m30s",
    "max_recv_bytes": "1MiB",
    "max_waiting_pulls": "8",
    "max_concurrent_calls": "9",
    "max_pending_bytes": "1GB",
    "max_open_channels": "10",
    "min_free_bytes": "0",
    "compact_dirty_percent": "20",
    "tombstone_retention_s": "1h",
    "metrics_listen": "off",
    "log_level": "debug",
    "log_format": "json",
    "environment": "staging",
}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``mq.toml`` and no ``.env`` but those that a test writes."""
    monkeypatch.chdir(tmp_path)


def load(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    """The settings with this environment, an empty one by default, and these flags."""
    return Settings.load(flags, environ=environ or {})


def source_of(settings: Settings, name: str) -> str:
    """Where the value of a setting came from."""
    return next(each.source for each in settings.sources() if each.name == name)


def refusal(environ: dict[str, str] | None = None, **flags: Any) -> str:
    """The message of the ``ConfigError`` that stops the start."""
    with pytest.raises(ConfigError) as caught:
        load(environ, **flags)
    return caught.value.message


def test_defaults_serve_on_loopback_and_sync_before_acknowledging() -> None:
    """Without any configuration the server is local, durable and 4 MiB-limited."""
    settings = load()
    assert settings.data_dir == Path("data")
    assert settings.listen == ("127.0.0.1:50051",)
    assert settings.sync
    assert not settings.sync_on_startup
    assert settings.segment_bytes == 64 * MIB
    assert settings.max_recv_bytes == 4 * MIB
    assert settings.graceful_shutdown_timeout_s == 5.0
    assert settings.metrics_endpoint == ("127.0.0.1", 9464)
    assert {each.source for each in settings.sources()} == {"default"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_flag_over_environment_over_dotenv_over_file_over_default(name: str) -> None:
    """Each setting takes the value of the strongest place, and knows which it was."""
    other = OTHER_VALUES[name]
    variable = variable_name(name)
    assert source_of(load(), name) == "default"
    default = getattr(load(), name)
    toml = f"{name} = {other}" if other in ("true", "false", "0") else f'{name} = "{other}"'
    Path("mq.toml").write_text(toml)
    assert source_of(load(), name) == "file mq.toml"
    changed = getattr(load(), name)
    assert changed != default
    Path(".env").write_text(f"{variable}={other}\n")
    assert source_of(load(), name) == f".env {variable}"
    assert source_of(load({variable: other}), name) == f"environment {variable}"
    settings = load({variable: other}, **{name: other})
    assert source_of(settings, name) == f"flag {flag_name(name)}"
    assert getattr(settings, name) == changed


def test_the_stronger_place_wins_with_its_value() -> None:
    """Values follow the same order as origins."""
    Path("mq.toml").write_text("batch_size = 4\n")
    assert load().batch_size == 4
    Path(".env").write_text("MQ_BATCH_SIZE=3\n")
    assert load().batch_size == 3
    assert load({"MQ_BATCH_SIZE": "2"}).batch_size == 2
    assert load({"MQ_BATCH_SIZE": "2"}, batch_size="1").batch_size == 1


def test_flags_not_given_are_none_or_empty() -> None:
    """What click passes for an absent flag changes nothing."""
    assert source_of(load(data_dir=None, listen=()), "listen") == "default"


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    (
        ("WAL_DIR_PATH", "/var/lib/mq", "data_dir", Path("/var/lib/mq")),
        ("WAL_SEGMENT_SIZE", "52428800", "segment_bytes", 52428800),
        ("WAL_SYNC", "F", "sync", False),
        ("WAL_BYTES_PER_SYNC", "5000", "bytes_per_sync", 5000),
        ("STORAGE_BATCH_SIZE", "250", "batch_size", 250),
        ("STORAGE_SYNC_ON_STARTUP", "true", "sync_on_startup", True),
        ("SERVER_GRACEFUL_SHUTDOWN_TIMEOUT", "1m30s", "graceful_shutdown_timeout_s", 90.0),
        ("BROKER_GRACEFUL_SHUTDOWN_TIMEOUT", "500ms", "graceful_shutdown_timeout_s", 0.5),
        ("SERVER_MAX_RECV_MSG_SIZE", "8388608", "max_recv_bytes", 8388608),
        ("GRPC_SERVER_MAX_RECV_MSG_SIZE", "1048576", "max_recv_bytes", 1048576),
        ("ENVIRONMENT", "production", "environment", "production"),
        ("ENV", "test", "environment", "test"),
        ("SERVER_PORT", "50052", "listen", ("0.0.0.0:50052",)),
        ("BROKER_PORT", "50053", "listen", ("0.0.0.0:50053",)),
        ("BROKER_HOST", "localhost", "listen", ("localhost:50051",)),
    ),
)
def test_old_names_still_work(variable: str, value: str, name: str, expected: object) -> None:
    """A variable of the earlier system sets what it always set, and is named as the origin."""
    settings = load({variable: value})
    assert getattr(settings, name) == expected
    assert source_of(settings, name) == f"environment {variable}"


@pytest.mark.parametrize(
    ("environ", "listen", "source"),
    (
        ({"BROKER_HOST": "10.0.0.1", "BROKER_PORT": "7"}, "10.0.0.1:7", "BROKER_HOST, BROKER_PORT"),
        ({"BROKER_HOST": "::", "SERVER_PORT": "7"}, "[::]:7", "BROKER_HOST, SERVER_PORT"),
        ({"BROKER_PORT": "8", "SERVER_PORT": "7"}, "0.0.0.0:7", "SERVER_PORT"),
    ),
)
def test_the_old_host_and_port_are_one_address(
    environ: dict[str, str], listen: str, source: str
) -> None:
    """BROKER_HOST and a port combine; SERVER_PORT goes before BROKER_PORT."""
    settings = load(environ)
    assert settings.listen == (listen,)
    assert source_of(settings, "listen") == f"environment {source}"


@pytest.mark.parametrize(("name", "olds"), OLD_NAMES.items())
def test_new_names_win_over_old_ones(name: str, olds: tuple[str, ...]) -> None:
    """Both may be set: the MQ_ name counts."""
    values = {variable_name(name): OTHER_VALUES[name], **dict.fromkeys(olds, "?")}
    assert source_of(load(values), name) == f"environment {variable_name(name)}"


def test_an_old_name_in_the_environment_wins_over_a_new_one_in_dotenv() -> None:
    """The place decides before the name does."""
    Path(".env").write_text("MQ_BATCH_SIZE=3\nWAL_SYNC=false\n")
    settings = load({"STORAGE_BATCH_SIZE": "2"})
    assert settings.batch_size == 2
    assert source_of(settings, "sync") == ".env WAL_SYNC"


def test_empty_variables_count_as_not_set() -> None:
    """``${X:-}`` in a compose file must not break the start."""
    settings = load({"SERVER_PORT": "", "WAL_SYNC": " ", "MQ_CONFIG": "", "MQ_LISTEN": ""})
    assert {each.source for each in settings.sources()} == {"default"}


def test_the_old_file_extension_is_ignored_with_one_warning() -> None:
    """It is accepted in both places, and said to have no effect once."""
    Path(".env").write_text("WAL_SEGMENT_FILE_EXT=.log\n")
    (warning,) = load({"WAL_SEGMENT_FILE_EXT": ".wal"}).warnings
    assert "WAL_SEGMENT_FILE_EXT" in warning
    assert "no effect" in warning
    Path(".env").unlink()
    assert load().warnings == ()


@pytest.mark.parametrize(
    ("name", "value"),
    (
        ("listen", "50051"),
        ("listen", ":50051"),
        ("listen", "localhost"),
        ("listen", "localhost:65536"),
        ("listen", "localhost:-1"),
        ("listen", "::1:50051"),
        ("listen", "http://localhost:50051"),
        ("listen", "localhost:1,"),
        ("listen", "unix:"),
        ("front", "fast"),
        ("segment_bytes", "65535"),
        ("segment_bytes", "1073741825"),
        ("segment_bytes", "64M"),
        ("segment_bytes", "9" * 400),
        ("sync", "perhaps"),
        ("bytes_per_sync", "0"),
        ("batch_size", "0"),
        ("batch_size", "1.5"),
        ("batch_size", "9" * 400),
        ("graceful_shutdown_timeout_s", "5 seconds"),
        ("graceful_shutdown_timeout_s", "-1s"),
        ("graceful_shutdown_timeout_s", "61m"),
        ("max_recv_bytes", "2GiB"),
        ("min_free_bytes", "-1"),
        ("compact_dirty_percent", "0"),
        ("tombstone_retention_s", "a day"),
        ("metrics_listen", "unix:/run/metrics"),
        ("metrics_listen", "on"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ),
)
def test_a_value_that_cannot_be_used_is_named_with_its_place(name: str, value: str) -> None:
    """The message has the setting, the place, the value and what is accepted."""
    message = refusal({variable_name(name): value})
    accepted = kind_of(Settings, name).accepts
    assert message == (
        f"{name}: can't use {value!r} from environment {variable_name(name)};"
        f" accepted is {accepted}"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    (
        ("listen", "host.example:0"),
        ("listen", "[::1]:50051"),
        ("listen", "unix:relative/path.sock"),
        ("segment_bytes", "64KiB"),
        ("segment_bytes", "1GiB"),
        ("batch_size", "1"),
        ("graceful_shutdown_timeout_s", "60m"),
        ("graceful_shutdown_timeout_s", "0s"),
        ("log_level", "INFO"),
        ("environment", "blue-green 2"),
    ),
)
def test_values_at_the_limits_are_accepted(name: str, value: str) -> None:
    """The harmless twins of what is refused."""
    assert source_of(load({variable_name(name): value}), name).startswith("environment")


@pytest.mark.parametrize("port", ("tcp://10.0.0.7:50051", "65536", "http"))
def test_a_bad_old_port_is_named_as_it_was_written(port: str) -> None:
    """The message shows the port and its variable, not the address made of it."""
    message = refusal({"SERVER_PORT": port})
    assert message.startswith(f"listen: can't use {port!r} from environment SERVER_PORT;")


def test_all_bad_values_are_told_at_once() -> None:
    """Two mistakes are two lines, not two starts."""
    lines = refusal({"WAL_SYNC": "perhaps"}, front="fast").splitlines()
    assert [line.split(":")[0] for line in lines] == ["front", "sync"]


@pytest.mark.parametrize(
    ("variable", "meant"),
    (
        ("MQ_DATADIR", "MQ_DATA_DIR"),
        ("MQ_SEGMENT_SIZE", "MQ_SEGMENT_BYTES"),
        ("MQ_WAL_SYNC", "MQ_SYNC"),
        ("MQ_SERVER_PORT", "MQ_LISTEN"),
        ("MQ_PORT", "MQ_LISTEN"),
    ),
)
def test_an_unknown_variable_is_refused_with_a_suggestion(variable: str, meant: str) -> None:
    """A misspelt variable stops the start instead of being ignored."""
    message = f"there is no setting {variable}; did you mean {meant}?"
    assert refusal({variable: "1"}) == f"environment: {message}"
    Path(".env").write_text(f"{variable}=1\n")
    assert refusal() == f".env: {message}"


def test_an_unknown_variable_that_resembles_nothing_points_to_the_list() -> None:
    """No far-fetched suggestion."""
    assert "`mq config` lists all settings" in refusal({"MQ_XYZZY": "1"})


def test_variables_of_others_are_left_alone() -> None:
    """Client variables, and what Kubernetes sets for a service named mq, are no settings."""
    load(
        {
            "MQ_SERVER": "broker:50051",
            "MQ_TIMEOUT": "5s",
            "MQ_TEST_SEED": "1",
            "MQ_SERVICE_HOST": "10.0.0.7",
            "MQ_SERVICE_PORT": "50051",
            "MQ_SERVICE_PORT_GRPC": "50051",
            "MQ_PORT": "tcp://10.0.0.7:50051",
            "MQ_PORT_50051_TCP": "tcp://10.0.0.7:50051",
            "MQ_PORT_50051_TCP_PROTO": "tcp",
            "MQ_BROKER_SERVICE_HOST": "10.0.0.7",
            "MQ_BROKER_PORT": "tcp://10.0.0.7:50051",
            "PATH": "/bin",
        }
    )


def test_an_unknown_key_in_the_file_is_refused_with_a_suggestion() -> None:
    """The message names the file."""
    Path("mq.toml").write_text("segment_byte = 1\n")
    message = "file mq.toml: there is no setting segment_byte; did you mean segment_bytes?"
    assert refusal() == message


def test_an_unknown_flag_is_refused() -> None:
    """A programmer's mistake is found as well."""
    assert refusal(data_dirs="x") == "flag: there is no setting data_dirs; did you mean data_dir?"


def test_toml_values_keep_their_types() -> None:
    """Numbers, lists and booleans need no quotes; sizes and durations may have them."""
    Path("mq.toml").write_text(
        'listen = ["127.0.0.1:1", "unix:/x"]\nsync = false\nsegment_bytes = 131072\n'
        'graceful_shutdown_timeout_s = 2.5\nmetrics_listen = false\nmax_recv_bytes = "2MiB"\n'
    )
    settings = load()
    assert settings.listen == ("127.0.0.1:1", "unix:/x")
    assert not settings.sync
    assert settings.segment_bytes == 131072
    assert settings.graceful_shutdown_timeout_s == 2.5
    assert settings.metrics_endpoint is None
    assert settings.max_recv_bytes == 2 * MIB


@pytest.mark.parametrize(
    "line",
    (
        "batch_size = true",
        "batch_size = 1.5",
        "segment_bytes = 1.5",
        "graceful_shutdown_timeout_s = true",
        "graceful_shutdown_timeout_s = nan",
        "listen = 50051",
        "listen = []",
        "listen = [1]",
        "data_dir = 1",
        "environment = 1",
        "log_level = {}",
    ),
)
def test_toml_values_of_another_type_are_refused(line: str) -> None:
    """The message names the setting and the file."""
    Path("mq.toml").write_text(line)
    name = line.split(maxsplit=1)[0]
    assert re.match(rf"{name}: can't use .* from file mq.toml; accepted is ", refusal())


def test_a_file_that_is_no_toml_is_refused_with_the_position() -> None:
    """The parser's line number reaches the user."""
    Path("mq.toml").write_text("data_dir = \n")
    assert re.search(r"mq\.toml is not valid TOML: .*line 1", refusal())


def test_the_file_is_named_by_argument_variable_or_dotenv(tmp_path: Path) -> None:
    """An argument goes before MQ_CONFIG, that before ./mq.toml."""
    for number, name in enumerate(("mq.toml", "a.toml", "b.toml", "c.toml"), 1):
        Path(name).write_text(f"batch_size = {number}\n")
    assert load().batch_size == 1
    Path(".env").write_text("MQ_CONFIG=a.toml\n")
    assert load().batch_size == 2
    assert load({"MQ_CONFIG": "b.toml"}).batch_size == 3
    named = Settings.load({}, environ={"MQ_CONFIG": "b.toml"}, config_file=tmp_path / "c.toml")
    assert named.batch_size == 4
    assert source_of(named, "batch_size") == f"file {tmp_path / 'c.toml'}"


def test_a_named_file_has_to_exist() -> None:
    """A file that was asked for and is missing stops the start; mq.toml may be missing."""
    assert "no.toml can't be read: No such file" in refusal({"MQ_CONFIG": "no.toml"})


def test_a_dotenv_that_cannot_be_read_is_refused() -> None:
    """Neither a directory nor odd bytes are passed over."""
    Path(".env").write_bytes(b"MQ_DATA_DIR=\xff\n")
    assert re.match(r"\.env can't be read", refusal())


def test_settings_are_frozen() -> None:
    """Nothing changes a setting after the start."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.batch_size = 1


def test_made_in_code_settings_look_at_their_arguments_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables and files don't reach an embedded server."""
    monkeypatch.setenv("MQ_BATCH_SIZE", "3")
    monkeypatch.setenv("BATCH_SIZE", "3")
    Path("mq.toml").write_text("batch_size = 4\n")
    settings = Settings(data_dir=Path("x"))
    assert settings.batch_size == 500
    assert source_of(settings, "data_dir") == "argument"
    assert source_of(settings, "batch_size") == "default"
    with pytest.raises(ValidationError):
        Settings(batch_size=0)


@pytest.mark.parametrize(
    ("given", "terminal", "expected"),
    (
        ({}, True, "console"),
        ({}, False, "json"),
        ({"environment": "production"}, True, "json"),
        ({"environment": "production", "log_format": "console"}, False, "console"),
        ({"log_format": "json"}, True, "json"),
    ),
)
def test_auto_is_console_on_a_terminal_outside_production(
    given: dict[str, Any], terminal: bool, expected: str
) -> None:
    """What ``log_format = auto`` means."""
    assert load(**given).resolve_log_format(terminal=terminal) == expected


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    """docs/configuration.md has the name, variable, flag, default and old names."""
    settings = Settings()
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}`")]
    assert len(rows) == 1, f"one row of a table in {DOCS} for {name}"
    shown = next(each.text for each in settings.sources() if each.name == name)
    assert f"`{shown}`" in rows[0]
    for old in OLD_NAMES.get(name, ()):
        assert f"`{old}`" in rows[0]


def test_other_variables_are_documented() -> None:
    """As are those that are no settings."""
    text = DOCS.read_text()
    for variable in ("MQ_CONFIG", "MQ_SERVER", "MQ_TIMEOUT", "WAL_SEGMENT_FILE_EXT"):
        assert f"`{variable}`" in text
    for variable in ("BROKER_HOST", "BROKER_PORT", "SERVER_PORT"):
        assert f"`{variable}`" in text
