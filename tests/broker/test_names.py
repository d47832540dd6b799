"""Channel names: what is allowed, and that nothing else is."""

from __future__ import annotations

import pytest

from mq.broker.names import NAME_BYTES_MAX, check_channel_name
from mq.errors import InvalidArgument


@pytest.mark.parametrize(
    "name",
    ["a", "orders", "eu/orders.v2", "Orders", "_x", "0", "a:b@c+d=e~f#g-h", "x" * NAME_BYTES_MAX],
)
def test_a_plain_name_is_allowed(name: str) -> None:
    """Letters, digits and the listed signs, up to the limit."""
    assert check_channel_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "-x",
        "a\0b",
        "%2e%2e",
        "a b",
        "a\n",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "cafe\N{COMBINING ACUTE ACCENT}",
        "x" * (NAME_BYTES_MAX + 1),
        "a\\b",
        "a*",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    """Paths, escapes, control characters, other scripts, and one byte too many."""
    with pytest.raises(InvalidArgument):
        check_channel_name(name)
