"""One message of a key at a time."""

from __future__ import annotations

from typing import NamedTuple

import pytest

import mq
from mq.client.group_keys import KeyLines, check_concurrency, reason_of


class Keyed(NamedTuple):
    """A message, for as much as matters here."""

    key: bytes | None
    number: int


A1, A2, A3, B1, NONE1, NONE2 = (
    Keyed(b"a", 1),
    Keyed(b"a", 2),
    Keyed(b"a", 3),
    Keyed(b"b", 1),
    Keyed(None, 1),
    Keyed(None, 2),
)


def test_one_of_a_key_goes_in_and_the_others_wait() -> None:
    """Other keys don't mind; those without a key wait for nobody."""
    lines: KeyLines[Keyed] = KeyLines(ordered=True)
    assert [lines.enter(each) for each in (A1, A2, B1, NONE1, NONE2, A3)] == [
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert lines.waiting == 2
    assert lines.leave(NONE1, processed=True) == (None, [])
    assert lines.leave(A1, processed=True) == (A2, [])
    assert lines.leave(A2, processed=True) == (A3, [])
    assert lines.leave(A3, processed=True) == (None, [])
    assert lines.waiting == 0
    assert lines.enter(A1)


def test_behind_one_that_fails_all_go_back() -> None:
    """In order; the key is free then."""
    lines: KeyLines[Keyed] = KeyLines(ordered=True)
    for each in (A1, A2, A3):
        lines.enter(each)
    assert lines.leave(A1, processed=False) == (None, [A2, A3])
    assert lines.waiting == 0
    assert lines.enter(A1)


def test_all_that_wait_can_be_taken_out() -> None:
    """Those that are worked on still leave in order."""
    lines: KeyLines[Keyed] = KeyLines(ordered=True)
    for each in (A1, A2, B1, A3):
        lines.enter(each)
    assert lines.leave_all() == [A2, A3]
    assert lines.waiting == 0
    assert lines.leave(A1, processed=True) == (None, [])
    assert lines.leave(B1, processed=True) == (None, [])


def test_keys_mean_nothing_where_they_are_not_ordered() -> None:
    """All go in at once."""
    lines: KeyLines[Keyed] = KeyLines(ordered=False)
    assert lines.enter(A1)
    assert lines.enter(A2)
    assert lines.leave(A1, processed=False) == (None, [])


def test_a_concurrency_is_at_least_one() -> None:
    """None is refused."""
    assert check_concurrency(3) == 3
    with pytest.raises(mq.InvalidArgument, match="1 or more: 0"):
        check_concurrency(0)


def test_the_reason_names_the_error() -> None:
    """And is no longer than the broker keeps."""
    assert reason_of(ValueError("bad")) == "ValueError: bad"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(RuntimeError("x" * 1000))) == 512
