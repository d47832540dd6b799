"""A broker of ours in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.environment import Unavailable
from bench.process import ServerProcess

# Settings of whoever runs the bench must not reach the server that is measured.
_SETTINGS = ("MQ_", "WAL_", "STORAGE_", "SERVER_", "BROKER_")


class MqServer:
    """``mq serve`` on a free loopback port, and its log."""

    def __init__(self, data_dir: Path, log: Path, front: str = "auto") -> None:
        """Starts it and waits until it listens.

        Args:
            data_dir: Where it keeps its data; may hold data already.
            log: Where its log goes.
            front: ``auto``, ``native`` or ``grpcio``.

        Raises:
            Unavailable: It did not start.
        """
        command = [
            sys.executable, "-m", "mq", "serve", "--data-dir", str(data_dir), "--listen",
            "127.0.0.1:0", "--metrics-listen", "off", "--log-format", "json", "--front", front,
        ]  # fmt: skip
        self.data_dir = data_dir
        self.began_ns = time.monotonic_ns()
        env = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
        self.process = ServerProcess(command, log, env)
        try:
            event = self._wait_for("listening", 120)
        except Unavailable:
            self.process.kill()
            raise
        self.listening_s = (time.monotonic_ns() - self.began_ns) / 1e9
        self.address = str(event["address"])

    def _wait_for(self, name: str, limit_s: float) -> dict[str, Any]:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for event in self.events():
                if event.get("event") == name:
                    return event
            self.process.check()
            time.sleep(0.002)
        raise Unavailable(f"mq serve is not {name} after {limit_s} s\n{self.process.tail()}")

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        found = []
        for line in self.process.log.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    def segment_files(self) -> list[Path]:
        """Its segment files."""
        return sorted(self.data_dir.rglob("*.seg"))
