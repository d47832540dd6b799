"""A process of clients that does what the bench tells it, line by line.

``python -m bench.worker`` reads one JSON request a line and answers each with
one JSON line. Between requests it waits in ``readline`` and costs nothing, so
several can be there while one of them measures.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.environment import Unavailable


class Worker:
    """The bench's end: starts the process, and calls functions in it."""

    def __init__(self, directory: Path, name: str) -> None:
        """Starts a worker; what it prints goes to a file in ``directory``."""
        self._log = directory / f"worker-{name}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker"], cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def begin(self, function: str, **arguments: object) -> None:
        """Sends a request; ``finish`` reads its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"function": function, **arguments}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """The answer to the oldest request that has none yet.

        Raises:
            Unavailable: The function failed, or the worker is gone.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"a client process ended\n{self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def call(self, function: str, **arguments: object) -> dict[str, Any]:
        """``begin`` and ``finish``."""
        self.begin(function, **arguments)
        return self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def serve(functions: Mapping[str, Any]) -> None:
    """The worker's end: answers requests until standard input ends."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        function = functions[request.pop("function")]
        gc.collect()
        cpu = time.process_time()
        try:
            answer = function(**request)
            if inspect.iscoroutine(answer):
                answer = asyncio.run(answer)
        except Exception as error:  # noqa: BLE001 - the bench is told, and goes on or stops
            answer = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        answer["client_cpu_s"] = time.process_time() - cpu
        print(json.dumps(answer), flush=True)


class _Functions(dict[str, Any]):
    """Functions by name, their modules imported when one is asked for."""

    def __missing__(self, name: str) -> Any:
        for module in ("bench.jobs", "bench.jobs_mq"):
            self.update(importlib.import_module(module).FUNCTIONS)
            if name in self:
                return self[name]
        raise KeyError(name)


if __name__ == "__main__":
    serve(_Functions())
