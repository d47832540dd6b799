"""The kinds of argument that commands share: functions for click's ``type=``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import click

from mq.units import parse_duration, parse_size

Start = int | Literal["beginning", "latest"] | datetime
ChannelSetting = tuple[str, int | str]

_POSITIONS: dict[str, Literal["beginning", "latest"]] = {
    "beginning": "beginning",
    "latest": "latest",
}
_SIZES = ("segment_bytes", "max_message_bytes")
_DURABILITIES = ("synced", "written")
_CHANNEL_SETTINGS = "segment_bytes=SIZE, durability=synced|written, max_message_bytes=SIZE"


def duration(text: str) -> float:
    """A length of time, ``5s``; in seconds."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} is no time at all")
    return seconds


def header(text: str) -> tuple[str, bytes]:
    """A header, ``KEY=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return name, to_bytes(value)


def channel_setting(text: str) -> ChannelSetting:
    """A setting of a channel, ``segment_bytes=64MiB``: name and value."""
    name, equals, value = text.partition("=")
    if not equals or name not in (*_SIZES, "durability"):
        raise click.BadParameter(
            f"{text!r} is no setting of a channel; there are {_CHANNEL_SETTINGS}"
        )
    if name == "durability":
        if value not in _DURABILITIES:
            raise click.BadParameter(f"{text!r}: durability is synced or written")
        return name, value
    try:
        return name, parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}") from error


def start(text: str) -> Start:
    """Where to begin reading."""
    try:
        return parse_start(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is no place to begin; there are beginning, latest, an offset, "
            "a time (RFC 3339), -1h for an hour ago, @UNIX_SECONDS"
        ) from error


def parse_start(text: str, now: datetime) -> Start:
    """What ``--from`` means.

    ``beginning`` and ``latest`` are themselves; digits are an offset; ``-1h`` is
    that long before ``now``, ``@1700000000.5`` a Unix time, and the rest ISO 8601,
    in the local zone where it names none.

    Raises:
        ValueError: It is none of these.
        OverflowError: It is a time outside the calendar.
    """
    if text in _POSITIONS:
        return _POSITIONS[text]
    if text.isascii() and text.isdecimal():
        return int(text)
    if text.startswith("-"):
        return now - timedelta(seconds=parse_duration(text[1:]))
    if text.startswith("@"):
        return datetime.fromtimestamp(float(text[1:]), UTC)
    return datetime.fromisoformat(text).astimezone()


def to_bytes(argument: str) -> bytes:
    """An argument's bytes as the shell gave them, valid UTF-8 or not."""
    return argument.encode("utf-8", "surrogateescape")
