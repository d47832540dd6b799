"""The one place where an exception becomes a gRPC status."""

from __future__ import annotations

from typing import NamedTuple

from mq.errors import Internal, MQError, Overloaded, Unavailable

CODES: dict[str, int] = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""gRPC's status codes by name."""

CODE_NAMES: tuple[str, ...] = tuple(CODES)
"""The names, indexed by code."""

OK = 0
CANCELLED = CODES["CANCELLED"]
DEADLINE_EXCEEDED = CODES["DEADLINE_EXCEEDED"]
RESOURCE_EXHAUSTED = CODES["RESOURCE_EXHAUSTED"]

# A client accepts 8 KiB of trailers by default, and the message travels
# percent-encoded: one byte may become three.
_MESSAGE_BYTES_MAX = 2048


class Status(NamedTuple):
    """A call's end: code, message for people, trailing metadata for programs."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...]


def to_status(error: MQError) -> Status:
    """Translate an exception; long messages are cut so that they arrive."""
    return Status(CODES[error.code], _bounded(error.message), error.metadata())


def _bounded(message: str) -> str:
    # "replace": a file name in the message may hold surrogates, which UTF-8 can't.
    data = message.encode("utf-8", "replace")
    if len(data) <= _MESSAGE_BYTES_MAX:
        return data.decode()
    return data[: _MESSAGE_BYTES_MAX - 3].decode("utf-8", "ignore") + "..."


def internal() -> Internal:
    """What a client is told of a handler's bug; the details are in the log."""
    return Internal("internal error; the broker's log has the details under this time")


def stopping() -> Unavailable:
    """What calls are told that the broker can no longer serve."""
    return Unavailable("the broker is stopping; try again once it is back")


def overloaded(max_concurrent_calls: int) -> Overloaded:
    """What calls over the limit are told."""
    return Overloaded(
        f"{max_concurrent_calls} calls are in flight, as many as this broker takes; "
        "try again in a moment, or raise its max_concurrent_calls"
    )


def too_large(size_bytes: int, max_recv_bytes: int) -> Status:
    """An oversize request, in the words that gRPC's core has for it.

    The grpcio front can't choose them: its core refuses such a request while
    receiving it. The same answer is given where mq has the choice.
    """
    message = f"SERVER: Received message larger than max ({size_bytes} vs. {max_recv_bytes})"
    return Status(RESOURCE_EXHAUSTED, message, ())
