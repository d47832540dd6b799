"""The kinds of argument that commands share: functions for click's ``type=``."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

import click

from mq.units import parse_duration

Start = int | Literal["beginning", "latest"] | datetime

_POSITIONS: dict[str, Literal["beginning", "latest"]] = {
    "beginning": "beginning",
    "latest": "latest",
}


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


def milliseconds(text: str) -> int:
    """A length of time, ``30s``, in whole milliseconds; a plain number is milliseconds."""
    if text.isascii() and text.isdecimal():
        return int(text)
    return _to_ms(text)


def delay(text: str) -> int:
    """A length of time, ``5s``, in whole milliseconds; a plain number is seconds."""
    span_ms = _to_ms(text)
    if span_ms == 0:
        raise click.BadParameter(f"{text!r} is no time at all")
    return span_ms


def _to_ms(text: str) -> int:
    try:
        span_ms = parse_duration(text) * 1000
    except ValueError as error:
        negative = text.startswith("-")
        reason = f"{text!r} is negative; a length of time is not" if negative else str(error)
        raise click.BadParameter(reason) from error
    if 0 < span_ms < 1:
        raise click.BadParameter(f"{text!r} is less than a millisecond")
    return round(span_ms)


def moment(text: str) -> datetime:
    """A time: RFC 3339, ``-1h`` for an hour ago, ``@UNIX_SECONDS``."""
    found: Start | None = None
    with suppress(ValueError, OverflowError):
        found = parse_start(text, datetime.now(UTC))
    if not isinstance(found, datetime):
        raise click.BadParameter(
            f"{text!r} is no time; there are RFC 3339, -1h for an hour ago, @UNIX_SECONDS"
        )
    return found


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
