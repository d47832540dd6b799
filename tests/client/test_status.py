"""gRPC's errors become the project's."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from mq.client.status import error_from_rpc
from mq.errors import (
    DataLoss,
    DeadlineExceeded,
    Internal,
    MQError,
    Overloaded,
    ResourceExhausted,
    SequenceGap,
    Unavailable,
)


class Failed(grpc.RpcError):
    """A call that ended with a status."""

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str | None = "details",
        metadata: tuple[tuple[str, str | bytes], ...] | None = None,
    ) -> None:
        self._status = code, details, metadata

    def code(self) -> grpc.StatusCode:
        """Its code."""
        return self._status[0]

    def details(self) -> str | None:
        """Its message."""
        return self._status[1]

    def trailing_metadata(self) -> Any:
        """Its metadata."""
        return self._status[2]


@pytest.mark.parametrize(
    "error",
    (DataLoss("lost", 3, 9), Overloaded("busy"), SequenceGap("gap", 4), Unavailable("stopping")),
)
def test_the_brokers_errors_come_through(error: MQError) -> None:
    """Class, message and numbers are those that the broker raised."""
    rpc = Failed(grpc.StatusCode[error.code], error.message, (*error.metadata(), ("x-bin", b"\0")))
    rebuilt = error_from_rpc(rpc, "host:1")
    assert (type(rebuilt), rebuilt.message) == (type(error), error.message)
    assert rebuilt.details() == error.details()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    (
        (grpc.StatusCode.UNAVAILABLE, Unavailable, r"no broker answers at host:1: check .*details"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded, "no answer from host:1 in time"),
        (grpc.StatusCode.UNIMPLEMENTED, Internal, "is no mq broker"),
        (grpc.StatusCode.UNKNOWN, Internal, "details"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted, "details"),
        (grpc.StatusCode.CANCELLED, Unavailable, "cancelled on the way to host:1"),
    ),
)
def test_grpcs_own_errors_say_what_to_do(
    code: grpc.StatusCode, error: type[MQError], message: str
) -> None:
    """What no broker said is explained, and retriable where a repetition can help."""
    rebuilt = error_from_rpc(Failed(code), "host:1")
    assert type(rebuilt) is error
    with pytest.raises(error, match=message):
        raise rebuilt


def test_an_error_without_details_has_a_message() -> None:
    """The code's name stands in."""
    assert "INTERNAL" in str(error_from_rpc(Failed(grpc.StatusCode.INTERNAL, None), "host:1"))
