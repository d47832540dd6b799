"""Which front is chosen, and why."""

from __future__ import annotations

import pytest

from mq.errors import ConfigError
from mq.server.fronts.choose import Requested, choose_front, is_local

LOCAL = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "LocalHost:1", "unix:/x"]
EXPOSED = ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "broker.example:1", "[fe80::1]:1", "127.example:1"]


@pytest.mark.parametrize("listen", LOCAL)
def test_loopback_is_local(listen: str) -> None:
    """Only this machine reaches it."""
    assert is_local(listen)


@pytest.mark.parametrize("listen", EXPOSED)
def test_everything_else_is_not(listen: str) -> None:
    """Others might reach it."""
    assert not is_local(listen)


@pytest.mark.parametrize(
    ("requested", "listen", "tls", "installed", "chosen", "reason"),
    [
        ("auto", LOCAL, False, True, "native", "loopback"),
        ("auto", LOCAL, False, False, "grpcio", "not installed"),
        ("auto", LOCAL, True, True, "grpcio", "TLS"),
        ("auto", [*LOCAL, "0.0.0.0:1"], False, True, "grpcio", "0.0.0.0:1"),
        ("grpcio", LOCAL, False, True, "grpcio", "asked for"),
        ("grpcio", EXPOSED, True, False, "grpcio", "asked for"),
        ("native", EXPOSED, False, True, "native", "asked for"),
    ],
)
def test_chooses(
    requested: Requested,
    listen: list[str],
    tls: bool,
    installed: bool,
    chosen: str,
    reason: str,
) -> None:
    """Native only where nobody else can reach it, unless it is asked for."""
    name, why = choose_front(requested, listen, tls, installed)
    assert name == chosen
    assert reason in why


@pytest.mark.parametrize(
    ("tls", "installed", "advice"), [(True, True, "TLS"), (False, False, "pip install")]
)
def test_native_can_be_impossible(tls: bool, installed: bool, advice: str) -> None:
    """Asking for what can't be had is an error, not a silent change."""
    with pytest.raises(ConfigError, match=advice):
        choose_front("native", LOCAL, tls, installed)


def test_a_bad_address_is_refused() -> None:
    """It is checked before anything is chosen."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        choose_front("auto", ["nonsense"], installed=True)
