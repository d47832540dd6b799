"""The kinds of value a setting can have: how it is read, and what it accepts.

A kind stands in a field's annotation, ``Annotated[int, size(1024, 4096)]``,
and is all the validation that the field has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import CoreSchema, core_schema

from mq.units import format_duration, format_size, parse_duration, parse_size

PORT_MAX = 65535
OFF = "off"

# The words of Go's strconv.ParseBool, which existing deployments may use, and a few more.
_TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})
_FALSE = frozenset({"0", "f", "false", "n", "no", "off"})


@dataclass(frozen=True)
class Kind:
    """Reads a value as it was written: in a variable, in TOML or in code.

    ``accepts`` says what can be written; ``parse`` raises ``ValueError`` for the
    rest; ``show`` writes a value as a person would. ``metavar`` stands for a value
    in help texts; ``words`` are all values there are, where they are few.
    """

    accepts: str
    parse: Callable[[object], object]
    show: Callable[[Any], str] = str
    metavar: str = "TEXT"
    words: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)


def count(least: int, most: int) -> Kind:
    """A whole number."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) else _number(value, int)
        return int(_within(number, least, most))

    return Kind(f"a whole number from {least} to {most}", parse, metavar="N")


def size(least: int, most: int) -> Kind:
    """A number of bytes."""

    def parse(value: object) -> int:
        number = parse_size(value) if isinstance(value, str) else _number(value, int)
        return int(_within(number, least, most))

    limits = f"from {format_size(least)} to {format_size(most)}"
    accepts = f"a size {limits}, such as 64MiB, 1GB or plain bytes"
    return Kind(accepts, parse, format_size, metavar="SIZE")


def duration(most_s: float) -> Kind:
    """A length of time, kept in seconds."""

    def parse(value: object) -> float:
        seconds = parse_duration(value) if isinstance(value, str) else _number(value, int | float)
        return float(_within(seconds, 0, most_s))

    limits = f"from 0s to {format_duration(most_s)}"
    accepts = f"a duration {limits}, such as 5s, 1m30s or 500ms"
    return Kind(accepts, parse, format_duration, metavar="DURATION")


def switch() -> Kind:
    """True or false."""

    def parse(value: object) -> bool:
        word = str(value).strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError("neither true nor false")
        return word in _TRUE

    return Kind(
        "true or false",
        parse,
        lambda value: "true" if value else "false",
        words=("true", "false"),
    )


def choice(*words: str) -> Kind:
    """One of a few words, in any case."""

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in words:
            raise ValueError("none of these")
        return word

    return Kind("one of " + ", ".join(words), parse, words=words)


def word() -> Kind:
    """Any text but none."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("no text")
        return value.strip()

    return Kind("any word, such as development or production", parse, metavar="WORD")


def directory() -> Kind:
    """A path; ``~`` is the home directory. It need not exist."""

    def parse(value: object) -> Path:
        if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
            raise ValueError("no path")
        return Path(value).expanduser()

    return Kind("the path of a directory", parse, metavar="DIR")


def addresses() -> Kind:
    """One or more addresses to listen on."""

    def parse(value: object) -> tuple[str, ...]:
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, Sequence) or not listed:
            raise ValueError("no address")
        return tuple(_address(each) for each in listed)

    accepts = "HOST:PORT or unix:PATH, or several of them, separated by commas"
    return Kind(accepts, parse, ", ".join, metavar="HOST:PORT")


def address_or_off() -> Kind:
    """An address of a TCP port, or ``off``."""

    def parse(value: object) -> str:
        text = str(value).strip()
        if value is False or text.lower() == OFF:
            return OFF
        split_address(text)
        return text

    return Kind("HOST:PORT, or off", parse, metavar="HOST:PORT|off")


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 host loses its brackets.

    Raises:
        ValueError: It is not of this form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or host == "unix" or any(c.isspace() or c in "/,@" for c in host):
        raise ValueError("not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets, [::1]:50051")
    return host, port_number(port)


def port_number(text: str) -> int:
    """A TCP port; 0 lets the system choose a free one.

    Raises:
        ValueError: It is not a port.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) > PORT_MAX:
        raise ValueError("not a port")
    return int(text)


def _address(value: object) -> str:
    address = str(value).strip()
    if not address.startswith("unix:"):
        split_address(address)
    elif address == "unix:" or "\0" in address:
        raise ValueError("no path")
    return address


def _number(value: object, kind: Any) -> Any:
    # True is an int to Python, and never meant as one in a setting.
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError("not a number")  # noqa: TRY004 - what a validator raises
    return value


def _within(value: float, least: float, most: float) -> float:
    if not least <= value <= most:  # neither is not-a-number within
        raise ValueError("out of range")
    return value
