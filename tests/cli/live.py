"""Commands that go on, as processes of their own, against a real broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from tests.helpers.server import ServerProcess, clean_environment

LIMIT_S = 50


@contextmanager
def start(broker: ServerProcess, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on, with all its streams as pipes; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mq", *args],
        env=clean_environment() | {"MQ_SERVER": broker.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """A stream of a process that was started with pipes."""
    assert stream is not None
    return stream
