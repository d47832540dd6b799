"""Server processes: started, watched and stopped by the bench."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.environment import Unavailable

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One server in a process of its own, its output in a file."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts it; it may not be ready yet."""
        self.command = list(command)
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=None if env is None else dict(env), start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def wait_for_port(self, port: int, limit_s: float = 30) -> None:
        """Waits until something accepts connections on a loopback port.

        Raises:
            Unavailable: The process ended, or the limit has passed.
        """
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            self.check()
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.005)
        raise Unavailable(f"{self.command[0]} is not listening after {limit_s} s\n{self.tail()}")

    def check(self) -> None:
        """Raises ``Unavailable``, with what it printed, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise Unavailable(f"{self.command[0]} ended with {code}\n{self.tail()}")

    def tail(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self, limit_s: float = 15) -> None:
        """Asks it to stop, and kills it after the limit."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, at once; returns when the process is gone. Fine if it is gone already."""
        self._process.kill()
        self._process.wait()

    @property
    def cpu_s(self) -> float:
        """Processor time used so far, user and system, by all its threads."""
        return cpu_s(self.pid)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used so far."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_bytes(pid: int) -> dict[str, int]:
    """Resident memory: ``rss``, and of it ``anonymous`` and ``file`` (mapped) pages."""
    names = {"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "file"}
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in names:
            found[names[key]] = int(value.split()[0]) * 1024
    return found


def open_files(pid: int) -> int:
    """How many file descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def device_read_bytes(pid: int) -> int:
    """Bytes a process has caused to be read from a device so far."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0
