"""Sizes and durations: what is read, what is refused, what is printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.units import GIB, KIB, MIB, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    (
        ("0", 0),
        ("4194304", 4194304),
        ("64MiB", 64 * MIB),
        ("64 mib", 64 * MIB),
        ("1GB", 10**9),
        ("1.5KiB", 1536),
        (" 7b ", 7),
    ),
)
def test_sizes_are_bytes_with_binary_and_decimal_units(text: str, size_bytes: int) -> None:
    """Bytes alone, or with a unit in any case."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ("", "MiB", "-1", "1e3", "64M", "1 2", "0.3KiB", "\u0661MiB", "1MiBs")
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """An ambiguous or broken size is an error that shows the text."""
    with pytest.raises(ValueError, match="not a"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_printed_size_reads_back(size_bytes: int) -> None:
    """`format_size` is exact."""
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_sizes_are_printed_in_the_largest_whole_unit() -> None:
    """64 MiB is 64MiB, and 1000 stays 1000."""
    assert [format_size(n) for n in (0, 1000, KIB, 64 * MIB, 1536 * MIB, 2 * GIB)] == [
        "0",
        "1000",
        "1KiB",
        "64MiB",
        "1536MiB",
        "2GiB",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    (
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("2h0m0.5s", 7200.5),
        ("1d", 86400.0),
        ("0", 0.0),
        ("2.5", 2.5),
    ),
)
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    """Units as in Go, days, and a plain number of seconds."""
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ("", "s", "5 s", "-5s", "5x", "1m30", "s5", "1e3s", "inf", "nan"))
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything that Go would not read either is an error that shows the text."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_printed_duration_reads_back(milliseconds: int) -> None:
    """`format_duration` is exact to the millisecond."""
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)
