"""A real broker in a process of its own, for end-to-end tests.

    server = ServerProcess(tmp_path / "data").start()
    grpc.insecure_channel(server.address)
    server.kill()          # kill -9
    server.start()         # again, on the same data and the same port
    assert server.stop() == 0

Every wait has a limit; passing it is a ``ServerError`` that shows the log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
LOG_TAIL_LINES = 30

# Settings of the machine the tests run on must not reach the server.
SETTING_PREFIXES = ("MQ_", "SERVER_", "BROKER_", "GRPC_SERVER_", "STORAGE_", "WAL_")
SETTING_NAMES = ("ENV", "ENVIRONMENT")

LogEntry = dict[str, Any]


class ServerError(AssertionError):
    """The server did not do in time what the test waited for."""


class ServerProcess:
    """Starts, kills, stops and restarts one ``mq serve`` on one data directory.

    The first start takes a free port; later ones take the same again, so that
    a client's connection can come back. ``address`` is what a client dials.
    """

    def __init__(
        self,
        data_dir: Path,
        *args: str,
        listen: str = "127.0.0.1:0",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs until `start`.

        Args:
            data_dir: The data directory; its parent is the working directory.
            *args: Further options of ``mq serve``, after the ones given here.
            listen: What to listen on; port 0 is any free port.
            env: Added to the environment, from which all settings of mq are removed.
        """
        self.data_dir = data_dir
        self.args = args
        self.address = ""
        self._listen = listen
        self._env = clean_environment() | dict(env or {})
        self._process: subprocess.Popen[str] | None = None
        self._log = _Log()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def log(self) -> list[LogEntry]:
        """What it has logged since its last start; plain lines as ``{"raw": line}``."""
        return self._log.entries()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, limit_s: float = START_LIMIT_S) -> Self:
        """Start it and wait until it listens."""
        self.spawn()
        self.address = str(self.wait_for("listening", limit_s)["address"])
        self._listen = self.address
        return self

    def spawn(self) -> Self:
        """Start it without waiting, for a start that may fail; see `wait`."""
        if self.running:
            raise ServerError("the server is running already")
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self.command(),
            cwd=self.data_dir.parent,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stderr is not None
        self._log = _Log(self._process.stderr)
        return self

    def command(self) -> list[str]:
        """The command line, later options winning over earlier ones."""
        return [
            *(sys.executable, "-m", "mq", "serve"),
            *("--data-dir", str(self.data_dir)),
            *("--listen", self._listen),
            *("--metrics-listen", "off"),
            *("--log-format", "json"),
            *self.args,
        ]

    def kill(self) -> None:
        """``kill -9``, and wait for the process to be gone; nothing if it is."""
        if self._process is None:
            return
        self._process.kill()
        self.wait()

    def stop(self, limit_s: float = STOP_LIMIT_S) -> int:
        """SIGTERM, wait for the end, and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(limit_s)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop (or ``kill -9``) and start again, on the same port."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running server."""
        self._running().send_signal(number)

    def wait(self, limit_s: float = STOP_LIMIT_S) -> int:
        """Wait for the process to end by itself and return its exit code."""
        assert self._process is not None, "the server was never started"
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerError(f"still running after {limit_s:g} s{self._log.tail()}") from None
        self._log.join()
        return code

    def wait_for(self, event: str, limit_s: float = START_LIMIT_S) -> LogEntry:
        """Wait for a log line with this ``event`` and return it."""
        found = self._log.wait_until(lambda entry: entry.get("event") == event, limit_s)
        if found is None:
            state = "has ended" if self._log.ended else "is running"
            raise ServerError(f"no {event!r} in the log; the server {state}{self._log.tail()}")
        return found

    def resident_bytes(self) -> int:
        """Its resident memory (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"the server is not running{self._log.tail()}")
        return self._process


class _Log:
    """Collects the lines of one process's standard error, in a thread."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._entries: list[LogEntry] = []
        self._changed = threading.Condition()
        self.ended = stream is None
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        if stream is not None:
            self._thread.start()

    def entries(self) -> list[LogEntry]:
        with self._changed:
            return list(self._entries)

    def tail(self) -> str:
        lines = [entry.get("raw") or json.dumps(entry) for entry in self.entries()]
        return "".join(f"\n    {line}" for line in lines[-LOG_TAIL_LINES:])

    def wait_until(self, matches: Callable[[LogEntry], bool], limit_s: float) -> LogEntry | None:
        """The first matching entry, or None at the limit or at the stream's end."""
        deadline = time.monotonic() + limit_s
        seen = 0
        with self._changed:
            while True:
                for entry in self._entries[seen:]:
                    if matches(entry):
                        return entry
                seen = len(self._entries)
                remaining = deadline - time.monotonic()
                if self.ended or remaining <= 0:
                    return None
                self._changed.wait(remaining)

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(STOP_LIMIT_S)

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._add(_parse(line.rstrip("\n")))
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _add(self, entry: LogEntry) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()


def _parse(line: str) -> LogEntry:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"raw": line}
    return entry if isinstance(entry, dict) else {"raw": line}


def clean_environment() -> dict[str, str]:
    """The environment without any setting of mq, and with this tree importable."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SETTING_PREFIXES) and name not in SETTING_NAMES
    }
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
