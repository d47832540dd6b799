"""A small grpcio server behind the native front, for what that can't carry.

Calls to methods that are not in the table (reflection streams both ways) are
forwarded to it over a Unix socket in a private directory. That is locked while
it is in use, so that the next start can tell what a killed server left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from grpc import aio

from mq.server.fronts.base import Limits

_PREFIX = "mq-front-"


class Fallback:
    """Serves grpcio's generic handlers on a socket that only this user can reach."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], limits: Limits) -> None:
        self._handlers = handlers
        self._limits = limits
        self._directory: Path | None = None
        self._lock = -1
        self._server: aio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the socket's path."""
        for left_over in _left_over():
            shutil.rmtree(left_over, ignore_errors=True)
        # mkdtemp's directory has mode 0700.
        self._directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self._directory, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        path = str(self._directory / "fallback.sock")
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limits.max_recv_bytes),
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ],
        )
        self._server.add_generic_rpc_handlers(self._handlers)
        self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()
        return path

    async def stop(self, grace_s: float) -> None:
        """End its calls after at most ``grace_s`` seconds, and remove the socket."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
        if self._directory is not None:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            os.close(self._lock)
            self._directory = None


def _left_over() -> Iterator[Path]:
    """The directories of servers that were killed: ours, with a socket, and not locked."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/fallback.sock"):
        with contextlib.suppress(OSError):
            lock = os.open(path.parent, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield path.parent
            finally:
                os.close(lock)
