"""Every test here runs on both fronts, over a real socket, against a real process."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from mq.server.fronts.choose import native_installed
from tests.conformance.rpc import Rpc
from tests.conftest import StartServer
from tests.helpers.server import LogEntry, ServerProcess

SHARED_OPTIONS = ("--metrics-listen", "127.0.0.1:0")
_numbers = itertools.count()


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


@pytest.fixture(scope="session")
def shared_servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], ServerProcess]]:
    """One server a front, for all tests that leave it as it was."""
    servers: dict[str, ServerProcess] = {}
    with contextlib.ExitStack() as stack:

        def get(front: str) -> ServerProcess:
            if front not in servers:
                where = tmp_path_factory.mktemp(f"shared-{front}") / "data"
                server = ServerProcess(where, "--front", front, *SHARED_OPTIONS)
                stack.callback(server.kill)
                servers[front] = server.start()
            return servers[front]

        yield get


@pytest.fixture
def shared(front: str, shared_servers: Callable[[str], ServerProcess]) -> Iterator[ServerProcess]:
    """The front's shared server; it has to be alive, and without a bug in its log, at the end."""
    server = shared_servers(front)
    before = len(server.log)
    yield server
    assert server.running, server.log[-5:]
    assert bugs(server.log[before:]) == []


def bugs(log: list[LogEntry]) -> list[LogEntry]:
    """What should be in no log: errors, and lines that are not the logger's."""
    return [entry for entry in log if "raw" in entry or entry["level"] == "error"]


@pytest.fixture
def connect() -> Iterator[Callable[[ServerProcess], Rpc]]:
    """A function that makes a client; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(server: ServerProcess) -> Rpc:
            return stack.enter_context(contextlib.closing(Rpc(server.address)))

        yield make


@pytest.fixture
def rpc(shared: ServerProcess, connect: Callable[[ServerProcess], Rpc]) -> Rpc:
    """A client of the shared server."""
    return connect(shared)


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> str:
    """The name of a channel that does not exist, and that no other test has."""
    return f"{request.node.originalname}-{next(_numbers)}"


@pytest.fixture
def channel(rpc: Rpc, fresh_name: str) -> str:
    """A channel of the shared server that no other test has."""
    return rpc.create(fresh_name)


class StartFront(Protocol):
    """Starts a server of the test's own."""

    def __call__(
        self, *args: str, data_dir: Path | None = None, env: Mapping[str, str] | None = None
    ) -> ServerProcess:
        """Start it, with further options of ``mq serve``."""


@pytest.fixture
def start(front: str, server: StartServer) -> StartFront:
    """A function that starts a server of the test's own on this front."""

    def begin(*args: str, **given: Any) -> ServerProcess:
        return server("--front", front, *args, **given)

    return begin
