"""The settings, their defaults and their limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mq.config import sources
from mq.config.kinds import (
    OFF,
    Kind,
    address_or_off,
    addresses,
    choice,
    count,
    directory,
    duration,
    size,
    split_address,
    switch,
    word,
)
from mq.errors import ConfigError
from mq.units import GIB, KIB, MIB

DEFAULT_CONFIG_FILE = Path("mq.toml")
DEFAULT_DOTENV = Path(".env")

_LAYERS = "layers"
_MILLION = 1_000_000


class SettingSource(NamedTuple):
    """One setting in force.

    ``source`` is ``flag --x``, ``environment NAME``, ``.env NAME``, ``file PATH``,
    ``default``, or ``argument`` for one that was set in code; ``text`` is the value
    as a person would write it.
    """

    name: str
    value: object
    source: str
    text: str


class Settings(BaseSettings):
    """All settings of a server. Sizes are bytes, times are seconds.

    Made in code, ``Settings(data_dir=…)``, it looks at nothing but its arguments;
    `load` looks at flags, variables and files. Invalid values are a
    ``pydantic.ValidationError`` here and a ``ConfigError`` there.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    data_dir: Annotated[Path, directory()] = Field(
        default=Path("./data"), description="Where everything is stored."
    )
    listen: Annotated[tuple[str, ...], addresses()] = Field(
        default=("127.0.0.1:50051",), description="Addresses to serve on: HOST:PORT or unix:PATH."
    )
    front: Annotated[Literal["auto", "native", "grpcio"], choice("auto", "native", "grpcio")] = (
        Field(default="auto", description="Which gRPC front serves.")
    )
    segment_bytes: Annotated[int, size(64 * KIB, GIB)] = Field(
        default=64 * MIB,
        description="Size of a segment file, for channels that don't set their own.",
    )
    sync: Annotated[bool, switch()] = Field(
        default=True, description="Acknowledge after the sync; false: once written."
    )
    bytes_per_sync: Annotated[int, size(1, 4 * GIB)] = Field(
        default=4 * MIB, description="With sync off: bytes written but not yet synced at most."
    )
    batch_size: Annotated[int, count(1, _MILLION)] = Field(
        default=500, description="Messages in one batch of a Subscribe stream at most."
    )
    sync_on_startup: Annotated[bool, switch()] = Field(
        default=False,
        description="Open and recover every channel before serving, not each at its first use.",
    )
    graceful_shutdown_timeout_s: Annotated[float, duration(3600)] = Field(
        default=5.0, description="How long a stop waits for calls in flight."
    )
    max_recv_bytes: Annotated[int, size(KIB, GIB)] = Field(
        default=4 * MIB, description="Largest request accepted."
    )
    max_waiting_pulls: Annotated[int, count(1, _MILLION)] = Field(
        default=10_000, description="Pulls that may wait for messages at the same time."
    )
    max_concurrent_calls: Annotated[int, count(1, _MILLION)] = Field(
        default=10_000, description="Calls that may be in progress at the same time."
    )
    max_pending_bytes: Annotated[int, size(KIB, 16 * GIB)] = Field(
        default=64 * MIB,
        description="Bytes of publishes that may wait for a commit, per channel; of all, 4 times.",
    )
    max_open_channels: Annotated[int, count(1, _MILLION)] = Field(
        default=1024, description="Channels that keep their files open."
    )
    min_free_bytes: Annotated[int, size(0, 1024 * GIB)] = Field(
        default=64 * MIB, description="Publishes are refused when less of the disk is free."
    )
    compact_dirty_percent: Annotated[int, count(1, 100)] = Field(
        default=50,
        description="How much of a compacted channel has to be new before it is compacted again.",
    )
    tombstone_retention_s: Annotated[float, duration(10 * 365 * 86_400)] = Field(
        default=86_400.0,
        description="How long a compacted channel keeps a message that deletes its key.",
    )
    metrics_listen: Annotated[str, address_or_off()] = Field(
        default="127.0.0.1:9464", description="Address of the Prometheus metrics, or off."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], choice("debug", "info", "warning", "error")
    ] = Field(default="info", description="The least severe log line written.")
    log_format: Annotated[Literal["auto", "console", "json"], choice("auto", "console", "json")] = (
        Field(default="auto", description="How log lines look.")
    )
    environment: Annotated[str, word()] = Field(
        default="development",
        description="Kind of deployment; production makes log_format auto json.",
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any],
        *,
        environ: Mapping[str, str] = os.environ,
        dotenv: Path = DEFAULT_DOTENV,
        config_file: Path | None = None,
    ) -> Self:
        """The settings in force.

        Args:
            flags: By name of setting, as written; ``None`` is a flag not given.
            environ: The environment.
            dotenv: A file of further variables; it may be missing.
            config_file: A TOML file. ``None``: what ``MQ_CONFIG`` names, else
                ``mq.toml`` if there is one.

        Raises:
            ConfigError: A value can't be used, a name is unknown, or a file can't be read.
        """
        names = tuple(cls.model_fields)
        from_file = sources.read_dotenv(dotenv)
        places = ((environ, "environment"), (from_file, str(dotenv)))
        layers = [sources.flags(flags, names)]
        layers += [sources.variables(values, place, names) for values, place in places]
        path = config_file or _config_file(environ, from_file)
        if path is not None:
            layers.append(sources.toml_file(path, names))
        # What is in an earlier layer hides the later ones.
        origins = {name: found for layer in reversed(layers) for name, found in layer.items()}
        arguments: dict[str, Any] = {_LAYERS: [sources.Layer(cls, layer) for layer in layers]}
        try:
            settings = cls(**arguments)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, origins)) from None
        settings._origins.update({name: found.origin for name, found in origins.items()})
        settings._warnings = tuple(
            line for values, place in places for line in sources.ignored(values, place)
        )[:1]
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments, and the layers that `load` has read.

        The library's own sources don't say where a value came from, and know no
        old names that combine into one setting.
        """
        arguments: dict[str, Any] = getattr(init_settings, "init_kwargs", {})
        layers: Sequence[PydanticBaseSettingsSource] = arguments.pop(_LAYERS, ())
        return (init_settings, *layers)

    def sources(self) -> list[SettingSource]:
        """Every setting with its value and where that came from, in order of definition."""
        return [self._source(name, getattr(self, name)) for name in type(self).model_fields]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to tell at the start: a setting that was given and has no effect."""
        return self._warnings

    @property
    def metrics_endpoint(self) -> tuple[str, int] | None:
        """Host and port of the metrics; ``None`` if they are off."""
        return None if self.metrics_listen == OFF else split_address(self.metrics_listen)

    def resolve_log_format(self, *, terminal: bool) -> Literal["console", "json"]:
        """What ``auto`` means: console on a terminal, except in production."""
        if self.log_format != "auto":
            return self.log_format
        return "console" if terminal and self.environment != "production" else "json"

    def _source(self, name: str, value: object) -> SettingSource:
        unset = "argument" if name in self.model_fields_set else "default"
        return SettingSource(
            name, value, self._origins.get(name, unset), kind_of(type(self), name).show(value)
        )


def kind_of(settings: type[Settings], name: str) -> Kind:
    """The kind of a setting."""
    return next(each for each in settings.model_fields[name].metadata if isinstance(each, Kind))


def _config_file(environ: Mapping[str, str], dotenv: Mapping[str, str]) -> Path | None:
    named = environ.get(sources.CONFIG_VARIABLE) or dotenv.get(sources.CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.exists() else None


def _explain(
    settings: type[Settings], error: ValidationError, origins: Mapping[str, sources.Found]
) -> str:
    """One line for each setting that can't be used."""
    lines = []
    for each in error.errors():
        name = str(each["loc"][0])
        origin = origins[name].origin
        lines.append(
            f"{name}: can't use {each['input']!r} from {origin};"
            f" accepted is {kind_of(settings, name).accepts}"
        )
    return "\n".join(lines)
