"""The operating system, held up or failing where a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mq.broker import commit
from mq.log.files import Files, Handle
from tests.broker.help import LIMIT_S


class GatedFiles(Files):
    """Holds calls up, or fails them, by their name and a part of their path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        # Nothing on the event loop, which would be held up with it.
        monkeypatch.setattr(commit, "_QUICK_SYNC_S", 0.0)
        self._held: tuple[str, str] | None = None
        self._failing: tuple[str, str, int] | None = None
        self._gate = threading.Event()
        self._reached = threading.Event()

    def hold(self, call: str, part: str) -> None:
        """Hold up such calls until `let_go`."""
        self._gate.clear()
        self._reached.clear()
        self._held = call, part

    async def reached(self) -> None:
        """Wait until one is held up."""
        assert await asyncio.to_thread(self._reached.wait, LIMIT_S), "nothing came to the gate"

    def let_go(self) -> None:
        """Let them go on, and hold nothing up any more."""
        self._held = None
        self._gate.set()

    def fail(self, call: str, part: str, code: int) -> None:
        """Fail such calls until `heal`."""
        self._failing = call, part, code

    def heal(self) -> None:
        """Fail nothing any more."""
        self._failing = None

    def _pass(self, call: str, path: Path) -> None:
        if self._held is not None and self._held[0] == call and self._held[1] in str(path):
            self._reached.set()
            assert self._gate.wait(LIMIT_S), "the gate stayed shut"
        if self._failing is not None:
            name, part, code = self._failing
            if name == call and part in str(path):
                raise OSError(code, "injected")

    def open(self, path: Path, *, write: bool = False) -> Handle:
        """Open a file."""
        self._pass("open", path)
        return super().open(path, write=write)

    def list(self, path: Path) -> list[str]:
        """Also the first thing that is done to open a log."""
        self._pass("list", path)
        return super().list(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        self._pass("mkdir", path)
        super().mkdir(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or directory."""
        self._pass("rename", source)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self._pass("unlink", path)
        super().unlink(path)

    def sync_dir(self, path: Path) -> None:
        """Sync a directory."""
        self._pass("sync_dir", path)
        super().sync_dir(path)

    def write(self, handle: Handle, buffers: Sequence[bytes | memoryview], position: int) -> int:
        """Write to a file."""
        self._pass("write", handle.path)
        return super().write(handle, buffers, position)

    def sync_data(self, handle: Handle) -> None:
        """Sync a file."""
        self._pass("sync_data", handle.path)
        super().sync_data(handle)


async def turns(count: int = 10) -> None:
    """Let everything go on that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the broker does on its own, with a limit."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 the broker has no event for tests
            await asyncio.sleep(0.005)
