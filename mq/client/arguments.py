"""What the caller passes in, checked and turned into what the wire wants."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, cast

from mq.client.types import time_to_ns
from mq.errors import InvalidArgument
from mq.pb import mq_pb2 as pb

BytesLike = bytes | bytearray | memoryview
HeaderPairs = tuple[tuple[str, bytes], ...]
HeadersLike = Mapping[str, bytes] | Iterable[tuple[str, bytes]]
Position = Literal["beginning", "latest"]
Start = int | Position | datetime

_POSITIONS = {"beginning": pb.OFFSET_BEGINNING, "latest": pb.OFFSET_LATEST}
_U64_LIMIT = 1 << 64
_U32_LIMIT = 1 << 32


def check_channel(channel: str) -> str:
    """A channel's name, if it can be one; the broker knows the finer rules.

    Raises:
        TypeError: It isn't text.
        InvalidArgument: It is empty.
    """
    if type(channel) is not str:
        raise TypeError(f"a channel's name is a str: {type(channel).__name__}")
    if not channel:
        raise InvalidArgument("a channel needs a name: it is empty")
    return channel


def to_bytes(value: object, what: str = "content") -> bytes:
    """The bytes of a content, key or header value.

    Raises:
        TypeError: It isn't bytes; text has to be encoded by the caller.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, BytesLike):
        return bytes(value)
    if isinstance(value, str):
        raise TypeError(f"{what} is bytes: encode the str first, as in text.encode()")
    raise TypeError(f"{what} is bytes: {type(value).__name__} has to be encoded first")


def to_key(key: BytesLike | None) -> bytes:
    """A key's bytes; none and empty are the same on the wire."""
    return b"" if key is None else to_bytes(key, "key")


def encode_headers(headers: HeadersLike | None) -> bytes:
    """Serialize one record's `Headers`; empty where there are none.

    Raises:
        TypeError: They are not pairs of str and bytes.
    """
    if not headers:
        return b""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    message = pb.Headers()
    for key, value in pairs:
        if not isinstance(key, str):
            raise TypeError(f"a header's name is a str: {type(key).__name__}")
        message.entries.add(key=key, value=to_bytes(value, f"header {key!r}"))
    return message.SerializeToString()


def to_columns(
    contents: Iterable[BytesLike],
    keys: Sequence[BytesLike | None] | None,
    headers: Sequence[HeadersLike | None] | None,
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Columns of one batch: contents, keys and serialized headers.

    Raises:
        TypeError: Something is not bytes.
        InvalidArgument: No contents, or columns of different lengths.
    """
    if isinstance(contents, (str, *BytesLike.__args__)):
        raise TypeError("contents is a list of bytes, one a message: use publish() for one message")
    given = list(contents)
    all_bytes = set(map(type, given)) == {bytes}
    content_column = cast("list[bytes]", given) if all_bytes else [to_bytes(each) for each in given]
    if not content_column:
        raise InvalidArgument("a batch holds at least one message: contents is empty")
    key_column = [to_key(key) for key in keys or ()]
    header_column = [encode_headers(each) for each in headers or ()]
    for name, column in (("keys", key_column), ("headers", header_column)):
        if column and len(column) != len(content_column):
            raise InvalidArgument(
                f"{name} has {len(column)} entries for {len(content_column)} contents: "
                "give one a message (None where there is none), or leave it out"
            )
    return (
        content_column,
        key_column if any(key_column) else [],
        header_column if any(header_column) else [],
    )


def to_limit(value: int, name: str) -> int:
    """A count or size that the wire carries in 32 bits.

    Raises:
        InvalidArgument: It doesn't fit.
    """
    if not 0 <= value < _U32_LIMIT:
        raise InvalidArgument(f"{name} is from 0 to {_U32_LIMIT - 1}: {value}")
    return value


def pull_request(channel: str, start: Start) -> pb.PullRequest:
    """A `PullRequest` from this start, without limits yet.

    Raises:
        TypeError: The start is none of the kinds.
        InvalidArgument: It is one, but means nothing.
    """
    request = pb.PullRequest(channel=channel)
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidArgument(
                "a start time needs a time zone: datetime.now(tz=timezone.utc), "
                "or .astimezone() for local time"
            )
        request.time_ns = time_to_ns(start)
    elif isinstance(start, str):
        if start not in _POSITIONS:
            raise InvalidArgument(
                f'a start is "beginning", "latest", an offset or a datetime: {start!r}'
            )
        request.position = _POSITIONS[start]
    else:
        request.offset = _to_offset(start)
    return request


def _to_offset(start: int) -> int:
    try:
        offset = operator.index(start)
    except TypeError:
        raise TypeError(
            f'a start is "beginning", "latest", an offset or a datetime: {type(start).__name__}'
        ) from None
    if not 0 <= offset < _U64_LIMIT:
        raise InvalidArgument(f"an offset is 0 or more: {offset}")
    return offset
