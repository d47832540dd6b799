"""The settings of a channel as they are written on the command line: ``retention_ms=7d``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

from mq.cli.types import milliseconds
from mq.units import format_size, parse_size

ChannelSetting = tuple[str, int | str | bool]

# Sizes that a channel always has.
_OWN_SIZES = ("segment_bytes", "max_message_bytes")
# Those that `none` clears.
_LIMIT_SIZES = ("retention_bytes", "retain_unacknowledged_bytes")
_SPANS = ("retention_ms", "segment_ms")
_COUNTS = ("retention_records",)
_SWITCHES = ("retain_unacknowledged", "compact")
_DURABILITIES = ("synced", "written")
_SWITCH_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_COUNT = re.compile(r"\d+", re.ASCII)

# Largest first: the first that divides is the one to print in.
_DECIMAL = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 1000))
_PRINTED_SPANS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))

SETTINGS_HELP = """\
SETTINGs, each as NAME=VALUE:

\b
  segment_bytes=SIZE                     the size its segment files grow to
  durability=synced|written              what an acknowledgement means where the
                                         publisher doesn't say
  max_message_bytes=SIZE                 the largest message or batch accepted
  retention_ms=7d|none                   remove messages once they are older
  retention_bytes=10GB|none              remove the oldest beyond so many bytes
  retention_records=N|none               remove the oldest beyond so many
  retain_unacknowledged=true|false       keep what some group has not acknowledged
  retain_unacknowledged_bytes=SIZE|none  unless the channel holds more than this
  segment_ms=1h|none                     begin a new segment at this age; none: a
                                         quarter of retention_ms
  compact=true|false                     keep only the latest message of each key
"""

_NAMES = (*_OWN_SIZES, "durability", *_SPANS, *_LIMIT_SIZES, *_COUNTS, *_SWITCHES)


def channel_setting(text: str) -> ChannelSetting:
    """A setting of a channel, ``segment_bytes=64MiB``: name and value. For click's ``type=``."""
    name, equals, value = text.partition("=")
    if not equals or name not in _NAMES:
        raise click.BadParameter(
            f"{text!r} is no setting of a channel; there are {', '.join(_NAMES)}, "
            "each as NAME=VALUE"
        )
    try:
        return name, _value(name, value)
    except (ValueError, click.BadParameter) as error:
        raise click.BadParameter(f"{name}: {error}") from error


def _value(name: str, text: str) -> int | str | bool:
    if name == "durability":
        if text not in _DURABILITIES:
            raise ValueError(f"{text!r} is neither synced nor written")
        return text
    if name in _SWITCHES:
        if text.lower() not in _SWITCH_WORDS:
            raise ValueError(f"{text!r} is neither true nor false")
        return _SWITCH_WORDS[text.lower()]
    if name in _OWN_SIZES:
        return parse_size(text)
    if text.lower() == "none":
        return 0
    if name in _SPANS:
        return milliseconds(text)
    if name in _COUNTS:
        if not _COUNT.fullmatch(text):
            raise ValueError(f"{text!r} is no number of messages, nor none")
        return int(text)
    return parse_size(text)


def show_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A channel's settings as a person reads them; what was never set says what holds then."""
    for name, value in config.items():
        if name == "segment_ms" and not value and config["retention_ms"]:
            quarter = format_span(-(-config["retention_ms"] // 4))
            yield name, f"{quarter} (a quarter of retention_ms)"
        else:
            yield name, _show(name, value)


def _show(name: str, value: Any) -> str:
    if name in _SWITCHES:
        return "true" if value else "false"
    if name in (*_SPANS, *_LIMIT_SIZES, *_COUNTS) and not value:
        return "no limit"
    if value is None:
        return "default"
    if name in _SPANS:
        return format_span(value)
    return format_bytes(value) if name.endswith("_bytes") else str(value)


def format_bytes(size_bytes: int) -> str:
    """The shortest exact form: ``64MiB``, ``10GB``, ``1000``."""
    decimal = next(
        (f"{size_bytes // unit}{name}" for name, unit in _DECIMAL if size_bytes % unit == 0), ""
    )
    binary = format_size(size_bytes)
    return decimal if decimal and len(decimal) < len(binary) else binary


def format_span(span_ms: int) -> str:
    """The shortest exact form in one unit: ``7d``, ``90m``, ``1500ms``."""
    for name, unit in _PRINTED_SPANS:
        if span_ms and span_ms % unit == 0:
            return f"{span_ms // unit}{name}"
    return f"{span_ms}ms"
