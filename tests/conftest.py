"""Fixtures and settings shared by all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from tests.helpers.server import ServerProcess

# No deadline: nothing in the tests asserts a time, and the machine may be busy.
hypothesis.settings.register_profile("mq", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "torture", parent=hypothesis.settings.get_profile("mq"), max_examples=3000
)
hypothesis.settings.load_profile("mq")


class StartServer(Protocol):
    """Starts a broker; it is killed when the test is over."""

    def __call__(
        self,
        *args: str,
        data_dir: Path | None = None,
        listen: str = "127.0.0.1:0",
        env: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """Start ``mq serve`` with further ``args``, by default on a fresh directory."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """A function that starts a real broker process; see `StartServer`."""
    with contextlib.ExitStack() as stack:
        started = 0

        def start(
            *args: str,
            data_dir: Path | None = None,
            listen: str = "127.0.0.1:0",
            env: Mapping[str, str] | None = None,
        ) -> ServerProcess:
            nonlocal started
            where = data_dir or tmp_path / f"server-{started}" / "data"
            started += 1
            process = ServerProcess(where, *args, listen=listen, env=env)
            stack.callback(process.kill)
            return process.start()

        yield start
