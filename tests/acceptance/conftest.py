"""Acceptance tests run on both fronts, with real input and the commands that people use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from mq.server.fronts.choose import native_installed
from tests.conftest import StartServer
from tests.helpers.server import ServerProcess, clean_environment

LIMIT_S = 600


@pytest.fixture(
    params=[
        "grpcio",
        pytest.param(
            "native",
            marks=pytest.mark.skipif(
                not native_installed(), reason="pygrpc-native is not installed"
            ),
        ),
    ]
)
def front(request: pytest.FixtureRequest) -> str:
    """The name of a front."""
    return str(request.param)


@pytest.fixture
def start(front: str, server: StartServer) -> Callable[..., ServerProcess]:
    """A function that starts a server on this front."""

    def begin(*args: str, **given: Any) -> ServerProcess:
        return server("--front", front, *args, **given)

    return begin


class Mq(Protocol):
    """Runs the command line."""

    def __call__(self, *args: str | Path, server: ServerProcess | None = None) -> bytes:
        """Standard output of ``mq`` with these arguments, which has to succeed."""


@pytest.fixture
def mq() -> Mq:
    """A function that runs ``mq`` to its end."""

    def run(*args: str | Path, server: ServerProcess | None = None) -> bytes:
        environment = clean_environment()
        if server is not None:
            environment["MQ_SERVER"] = server.address
        ran = subprocess.run(
            [sys.executable, "-m", "mq", *map(str, args)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")
        return ran.stdout

    return run
