"""What the sections about mq alone share: a fresh server, and workers beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.context import Context
from bench.environment import fresh_directory
from bench.mq_server import MqServer
from bench.worker import Worker


@dataclass(frozen=True, slots=True)
class Rig:
    """A running server with its files, and client processes."""

    directory: Path
    server: MqServer
    workers: list[Worker]

    def workload(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Runs one of ``mq.client.workloads`` in the first worker."""
        os.sync()
        before = self.server.process.cpu_s
        figures = self.workers[0].call(
            "workload", address=self.server.address, name=name, **arguments
        )
        figures["server_cpu_s"] = self.server.process.cpu_s - before
        return figures

    def call(self, function: str, **arguments: Any) -> dict[str, Any]:
        """Runs a job in the first worker, against this server."""
        return self.workers[0].call(function, address=self.server.address, **arguments)

    def fill(self, channel: str, count: int, size: int = 100, records: int = 500) -> dict[str, Any]:
        """Appends messages to a channel."""
        return self.call("fill_mq", channel=channel, count=count, size=size, records=records)


@contextmanager
def rig(context: Context, workers: int = 1) -> Iterator[Rig]:
    """A server with an empty data directory, and workers; all gone at the end."""
    with ExitStack() as stack:
        directory = stack.enter_context(fresh_directory(context.root, "mq"))
        clients = [stack.enter_context(Worker(directory, str(number))) for number in range(workers)]
        server = MqServer(directory / "data", directory / "server.log", context.front)
        stack.callback(server.process.stop)
        yield Rig(directory, server, clients)
