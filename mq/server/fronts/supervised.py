"""A grpc.aio server that survives the end of its accept loop.

In grpcio (1.85 and before) one request whose path is not UTF-8 raises in the
asyncio server's accept loop, which ends it: the port is closed, though calls in
flight go on. Nothing tells the application. So it is watched, and another
server takes over its addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import structlog
from grpc import aio

from mq.errors import FailedPrecondition
from mq.server.fronts.address import Address, claim, unbound

_log = structlog.get_logger("mq.server")

_WATCH_S = 0.2
# How long the calls of a server that has died may go on.
_RETIRE_S = 60.0


class SupervisedServer:
    """A grpc.aio server for plain-text addresses.

    Args:
        options: grpcio's channel arguments.
        handlers: What it serves.
    """

    def __init__(
        self, options: Sequence[tuple[str, int]], handlers: Sequence[grpc.GenericRpcHandler]
    ) -> None:
        self._options = options
        self._handlers = handlers
        self._servers: list[aio.Server] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, listen: Sequence[str]) -> list[Address]:
        """Listen; the addresses, with the port that 0 became.

        Raises:
            ConfigError: If one is not an address.
            FailedPrecondition: If one is in use or can't be had.
        """
        addresses = await self._open(listen)
        self._watcher = asyncio.create_task(self._watch([str(address) for address in addresses]))
        return addresses

    async def _open(self, listen: Sequence[str]) -> list[Address]:
        server = aio.server(options=list(self._options))
        server.add_generic_rpc_handlers(tuple(self._handlers))
        addresses = [_bind(server, address) for address in claim(listen)]
        await server.start()
        self._servers.append(server)
        return addresses

    async def _watch(self, listen: Sequence[str]) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if not _accepts(self._servers[-1]):
                _log.error("grpcio stopped accepting calls; starting it again", listen=listen)
                self._retire(self._servers[-1])
                await self._reopen(listen)

    def _retire(self, server: aio.Server) -> None:
        async def run() -> None:
            await server.stop(_RETIRE_S)
            self._servers.remove(server)

        task = asyncio.create_task(run())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _reopen(self, listen: Sequence[str]) -> None:
        while True:
            try:
                await self._open(listen)
            except FailedPrecondition as error:
                # Its predecessor may need a moment to let go of the port.
                _log.warning("can't listen yet; trying again", reason=error.message)
                await asyncio.sleep(_WATCH_S)
            else:
                return

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls at once; cancel those in flight after ``grace_s`` seconds."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers), *self._retiring)
        self._servers.clear()


def _accepts(server: aio.Server) -> bool:
    # Private, and the only place to ask; without it, nothing can be said.
    core = vars(server).get("_server")
    return core is None or bool(core.is_running())


def _bind(server: aio.Server, address: Address) -> Address:
    try:
        port = server.add_insecure_port(str(address))
    except RuntimeError as error:
        raise unbound(address, error) from error
    return address if address.path else address._replace(port=port)
