"""A small grpcio server behind the native front, for what that can't carry.

Calls to methods that are not in the table (reflection streams both ways) are
forwarded to it over a Unix socket in a private directory.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence

import grpc
from grpc import aio

from mq.server.fronts.base import Limits


class Fallback:
    """Serves grpcio's generic handlers on a socket that only this user can reach."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler], limits: Limits) -> None:
        self._handlers = handlers
        self._limits = limits
        self._directory = ""
        self._server: aio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the socket's path."""
        # mkdtemp's directory has mode 0700.
        self._directory = tempfile.mkdtemp(prefix="mq-front-")
        path = f"{self._directory}/fallback.sock"
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
        if self._directory:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            self._directory = ""
