"""Exceptions become statuses, and come back as the same exceptions."""

from __future__ import annotations

import grpc
import pytest

from mq import errors
from mq.errors import DataLoss, Internal, MQError, from_status
from mq.server.status import CODE_NAMES, CODES, to_status, too_large


def test_codes_are_grpcs() -> None:
    """The numbers are those of the gRPC library."""
    assert {code.name: code.value[0] for code in grpc.StatusCode} == CODES
    assert [CODES[name] for name in CODE_NAMES] == list(range(17))


ERRORS = [cls for cls in errors._tree(MQError) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_survives_the_trip(cls: type[MQError]) -> None:
    """A client rebuilds the class, the message and the numbers."""
    error = cls("what to do")
    for number, name in enumerate(cls.detail_fields):
        setattr(error, name, number + 7)
    status = to_status(error)
    rebuilt = from_status(CODE_NAMES[status.code], status.message, dict(status.metadata))
    # An error without a reason of its own comes back as its base.
    assert isinstance(error, type(rebuilt)) or cls is MQError
    assert rebuilt.reason == error.reason
    assert rebuilt.message == "what to do"
    assert rebuilt.details() == error.details()


def test_an_oversize_call_is_told_as_one() -> None:
    """Its answer has no reason, as gRPC's core gives it; a program gets the class all the same."""
    status = too_large(5_000_032, 4_194_304)
    rebuilt = from_status(CODE_NAMES[status.code], status.message, dict(status.metadata))
    assert type(rebuilt) is errors.MessageTooLarge
    assert "5000032 bytes is over the broker's max_recv_bytes, 4194304" in rebuilt.message


def test_a_long_message_is_cut() -> None:
    """Clients refuse large trailers, so a message is bounded, between characters."""
    message = to_status(Internal("\u20ac" * 5000)).message
    assert len(message.encode()) <= 2048
    assert message.endswith("\u20ac...")


def test_a_message_need_not_be_text() -> None:
    """A file name's undecodable bytes in a message can't break the answer."""
    assert to_status(DataLoss("in \udcff.seg")).message == "in ?.seg"
