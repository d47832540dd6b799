"""Where settings come from: flags, variables, a TOML file; and under which names.

Each reader returns, for the settings it finds, the value as it was written and
the origin to show for it. Nothing here knows what a value may be.
"""

from __future__ import annotations

import difflib
import io
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from mq.config.kinds import PORT_MAX, port_number
from mq.errors import ConfigError

PREFIX = "MQ_"
CONFIG_VARIABLE = "MQ_CONFIG"
DEFAULT_PORT = "50051"

# Read by the client commands, or by tests and benchmarks; no settings of a server.
_OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "MQ_SERVER", "MQ_TIMEOUT"})
_OTHER_PREFIXES = ("MQ_TEST_", "MQ_BENCH_")

# The names that deployments of the earlier system set; where there are two, the first wins.
OLD_NAMES: Mapping[str, tuple[str, ...]] = {
    "environment": ("ENVIRONMENT", "ENV"),
    "data_dir": ("WAL_DIR_PATH",),
    "segment_bytes": ("WAL_SEGMENT_SIZE",),
    "sync": ("WAL_SYNC",),
    "bytes_per_sync": ("WAL_BYTES_PER_SYNC",),
    "batch_size": ("STORAGE_BATCH_SIZE",),
    "sync_on_startup": ("STORAGE_SYNC_ON_STARTUP",),
    "graceful_shutdown_timeout_s": (
        "SERVER_GRACEFUL_SHUTDOWN_TIMEOUT",
        "BROKER_GRACEFUL_SHUTDOWN_TIMEOUT",
    ),
    "max_recv_bytes": ("SERVER_MAX_RECV_MSG_SIZE", "GRPC_SERVER_MAX_RECV_MSG_SIZE"),
}
_OLD_HOST = "BROKER_HOST"
_OLD_PORTS = ("SERVER_PORT", "BROKER_PORT")
_OLD_EXTENSION = "WAL_SEGMENT_FILE_EXT"

# Kubernetes, and Docker's links, set such variables for every service near by: for
# one that is called mq, MQ_SERVICE_HOST and MQ_PORT_50051_TCP_ADDR, and MQ_PORT with an URL.
_SERVICE_LINK = re.compile(
    r"MQ_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)(?:_\w+)?|NAME)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp)://")


@dataclass(frozen=True)
class Found:
    """A value as it was written, and where."""

    value: object
    origin: str


class Layer(PydanticBaseSettingsSource):
    """What one place says, as a source that pydantic-settings can merge with others."""

    def __init__(self, settings_cls: type[BaseSettings], found: Mapping[str, Found]) -> None:
        super().__init__(settings_cls)
        self.found = found

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value of one field; never one to decode as JSON."""
        found = self.found.get(field_name)
        return (found.value if found else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """The values of all fields found."""
        return {name: found.value for name, found in self.found.items()}


def flags(given: Mapping[str, Any], settings: Collection[str]) -> dict[str, Found]:
    """From the command line, by setting; ``None`` and ``()`` are flags not given.

    Raises:
        ConfigError: There is no such setting.
    """
    _refuse_unknown(given, settings, "flag", str)
    return {
        name: Found(value, f"flag {flag_name(name)}")
        for name, value in given.items()
        if value is not None and value != ()
    }


def flag_name(setting: str) -> str:
    """The flag of a setting: ``--data-dir``."""
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """The variable of a setting: ``MQ_DATA_DIR``."""
    return PREFIX + setting.upper()


def variables(values: Mapping[str, str], place: str, settings: Collection[str]) -> dict[str, Found]:
    """From variables: ``MQ_…`` first, then the old names. An empty one counts as not set.

    Args:
        values: The variables.
        place: Where they are: ``environment`` or ``.env``.
        settings: The names of all settings.

    Raises:
        ConfigError: A variable begins with ``MQ_`` and is none of ours.
    """
    given = {name: value for name, value in values.items() if value.strip()}
    ours = [name for name, value in given.items() if _is_claimed(name, value)]
    _refuse_unknown(ours, [variable_name(name) for name in settings], place, _without_old_name)
    found = _old_listen(given, place)
    for setting in settings:
        for name in (variable_name(setting), *OLD_NAMES.get(setting, ())):
            if name in given:
                found[setting] = Found(given[name], f"{place} {name}")
                break
    return found


def ignored(values: Mapping[str, str], place: str) -> list[str]:
    """Warnings about variables that are accepted and have no effect."""
    extension = values.get(_OLD_EXTENSION, "")
    if not extension:
        return []
    return [f"{place} {_OLD_EXTENSION} = {extension!r} has no effect: segments end in .seg"]


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a ``.env`` file; none if there is no such file.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read ({error}): correct or remove it") from error
    parsed = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in parsed.items() if value is not None}


def toml_file(path: Path, settings: Collection[str]) -> dict[str, Found]:
    """From a TOML file of ``setting = value`` lines.

    Raises:
        ConfigError: It can't be read, is no TOML, or has a key that is no setting.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"the configuration file {path} can't be read: {reason}") from error
    except ValueError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}") from error
    origin = f"file {path}"
    _refuse_unknown(values, settings, origin, str)
    return {name: Found(value, origin) for name, value in values.items()}


def _old_listen(given: Mapping[str, str], place: str) -> dict[str, Found]:
    """The old system had one address, its host and port in two variables."""
    ports = [name for name in _OLD_PORTS if name in given]
    names = [name for name in (_OLD_HOST, *ports[:1]) if name in given]
    if not names:
        return {}
    host = given.get(_OLD_HOST, "0.0.0.0").strip()  # noqa: S104 - what SERVER_PORT alone meant
    port = given[ports[0]].strip() if ports else DEFAULT_PORT
    try:
        port_number(port)
    except ValueError as error:
        raise ConfigError(
            f"listen: can't use {port!r} from {place} {ports[0]};"
            f" accepted is a port from 0 to {PORT_MAX}"
        ) from error
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return {"listen": Found(f"{host}:{port}", f"{place} {', '.join(names)}")}


def _is_claimed(name: str, value: str) -> bool:
    """Whether a variable has to be one of our settings."""
    return (
        name.startswith(PREFIX)
        and name not in _OTHER_VARIABLES
        and not name.startswith(_OTHER_PREFIXES)
        and not _SERVICE_LINK.fullmatch(name)
        and not (name.endswith("_PORT") and _SERVICE_URL.match(value))
    )


def _without_old_name(variable: str) -> str:
    """``MQ_WAL_SYNC`` is taken for ``MQ_SYNC`` when looking for what was meant."""
    old = variable.removeprefix(PREFIX)
    if old in (_OLD_HOST, *_OLD_PORTS, "HOST", "PORT", "ADDRESS"):
        return variable_name("listen")
    return next((variable_name(name) for name, olds in OLD_NAMES.items() if old in olds), variable)


def _refuse_unknown(
    given: Iterable[str], known: Collection[str], place: str, meant: Callable[[str], str]
) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        name = unknown[0]
        near = difflib.get_close_matches(meant(name), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`mq config` lists all settings"
        raise ConfigError(f"{place}: there is no setting {name}; {hint}")
