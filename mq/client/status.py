"""gRPC's errors to the project's, in one place."""

from __future__ import annotations

from typing import Any

import grpc

from mq.errors import (
    REASON_KEY,
    Cancelled,
    FailedPrecondition,
    Internal,
    MQError,
    Unavailable,
    from_status,
)


def error_from_rpc(error: grpc.RpcError, target: str) -> MQError:
    """The project's exception for a call that failed.

    Args:
        error: As raised by the synchronous or the asynchronous API.
        target: The broker's address, for the message.
    """
    call: Any = error  # it is one in either API, with differing types
    code: grpc.StatusCode = call.code()
    message: str = call.details() or code.name
    metadata = {
        key: value for key, value in call.trailing_metadata() or () if isinstance(value, str)
    }
    if REASON_KEY not in metadata:
        message = _explain(code, message, target)
    known = from_status(code.name, message, metadata)
    if isinstance(known, Cancelled):
        # Not by this side, where a cancelled call raises no such error.
        return Unavailable(f"the call was cancelled on the way to {target}: {message}")
    return known if type(known) is not MQError else Internal(known.message)


def _explain(code: grpc.StatusCode, message: str, target: str) -> str:
    """What gRPC itself says, with what can be done about it."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"no broker answers at {target}: check the address, and that it runs ({message})"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {target} in time: raise timeout_s, or see what keeps the broker"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server at {target} is no mq broker, or an older one ({message})"
    return message


def closed_error() -> FailedPrecondition:
    """What a call on a closed client raises."""
    return FailedPrecondition("the client is closed: make a new one")
