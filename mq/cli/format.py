"""How messages look on standard output: as text, raw, as JSON, or in a format of one's own."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any

from mq.cli.output import to_json

if TYPE_CHECKING:
    from mq import Message

Render = Callable[["Message"], bytes]

# What a terminal would act upon: C0 and C1 controls, except tab and newline.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\0": "\0", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[ntr0\\]")


@lru_cache(maxsize=256)  # all messages of a batch have the same
def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC, to the microsecond below: `--from` with it begins at this record."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{nanoseconds // 1000:06d}Z"


def as_json(message: Message) -> bytes:
    """One JSON object; what is not UTF-8 is base64, under another name."""
    fields: dict[str, Any] = {
        "offset": message.offset,
        "time": timestamp(message.append_time_ns),
        **text_field("key", message.key),
        "headers": {},
        **text_field("content", message.content),
    }
    for name, value in _pairs(message):
        fields["headers"].update(text_field(name, value))
    delivery_count = _delivery_count(message)
    if delivery_count is not None:
        fields["delivery_count"] = delivery_count
    return to_json(fields)


def for_terminal(content: bytes) -> bytes:
    r"""Text that does nothing to a terminal: controls and odd bytes become ``\x1b``."""
    text = content.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text).encode()


def compile_format(template: str) -> Render:
    r"""A function that writes messages as in ``{offset} {time} {key} {content}``.

    There are also ``{time_ns}``, ``{headers}``, ``{size}`` and, of a group,
    ``{delivery_count}``; ``\n \t \r \0 \\``
    are what they are in C, and ``{{`` is a brace.

    Raises:
        ValueError: The template names a field that isn't there, or is malformed.
    """
    text = _ESCAPE.sub(lambda match: _ESCAPES[match[0]], template)
    parts: list[bytes | Render] = []
    for literal, name, spec, conversion in Formatter().parse(text):
        parts.append(literal.encode("utf-8", "surrogateescape"))
        if name is None:
            continue
        if name not in _FIELDS or spec or conversion:
            raise ValueError(f"there is no {{{name}}}; there are {', '.join(_FIELDS)}")
        parts.append(_FIELDS[name])

    def render(message: Message) -> bytes:
        return b"".join(part if isinstance(part, bytes) else part(message) for part in parts)

    return render


def _headers(message: Message) -> bytes:
    return b",".join(name.encode() + b"=" + value for name, value in _pairs(message))


def _delivery_count(message: Message) -> int | None:
    """How often a group delivered it, where a group did."""
    count: int | None = getattr(message, "delivery_count", None)
    return count


_FIELDS: dict[str, Render] = {
    "offset": lambda message: b"%d" % message.offset,
    "time": lambda message: timestamp(message.append_time_ns).encode(),
    "time_ns": lambda message: b"%d" % message.append_time_ns,
    "key": lambda message: message.key or b"",
    "headers": _headers,
    "size": lambda message: b"%d" % len(message.content),
    "content": lambda message: message.content,
    "delivery_count": lambda message: b"%d" % (_delivery_count(message) or 0),
}


def _pairs(message: Message) -> Iterable[tuple[str, bytes]]:
    return message.headers


def text_field(name: str, value: bytes | None) -> dict[str, str | None]:
    """A JSON field: the text, or ``name_base64`` for bytes that are no text; null for none."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
