"""Redis Streams: an append-only file, synced before each reply or each second."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import redis
import redis.asyncio

from bench.environment import Unavailable
from bench.peers.base import RELAXED, SYNCED, Driver, Peer, Plan, Running
from bench.process import ServerProcess, free_port
from mq.client import loadgen
from mq.client.loadgen import Load

_FIELD = b"c"
_LARGE_COUNT = 5_000


class Redis(Peer):
    """Debian's ``redis-server``, snapshots and rewrites off: only the log is measured."""

    name = "redis"
    settings: ClassVar[Mapping[str, str]] = {
        SYNCED: "appendonly yes, appendfsync always",
        RELAXED: "appendonly yes, appendfsync everysec (the default)",
    }

    def version(self) -> str:
        """The installed version."""
        if not shutil.which("redis-server"):
            raise Unavailable("redis-server is not installed: apt-get install redis-server")
        said = subprocess.run(
            ["redis-server", "--version"], capture_output=True, text=True, check=True
        )
        return said.stdout.split("v=")[1].split()[0]

    def start(self, mode: str, directory: Path) -> Running:
        """Starts it on a free port."""
        self.version()
        port = free_port()
        command = [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory),
            "--appendonly", "yes", "--save", "", "--auto-aof-rewrite-percentage", "0",
            "--appendfsync", "always" if mode == SYNCED else "everysec",
        ]  # fmt: skip
        process = ServerProcess(command, directory / "server.log")
        process.wait_for_port(port)
        return Running(process, f"127.0.0.1:{port}")


class RedisDriver(Driver):
    """redis-py with hiredis: pipelines, and one connection a message in flight."""

    _client: redis.Redis

    def _connect(self, kind: type[Any]) -> Any:
        host, _, port = self.address.partition(":")
        return kind(host=host, port=int(port), single_connection_client=True)

    async def open(self) -> None:
        """Connects the synchronous client, which is the faster one by itself."""
        self._client = self._connect(redis.Redis)
        self._client.ping()

    async def close(self) -> None:
        """Disconnects."""
        self._client.close()

    async def create(self, stream: str) -> None:
        """Nothing to do: a stream begins with its first message."""

    async def fill(self, stream: str, count: int, size: int) -> None:
        """Pipelines of 500."""
        for batch in loadgen.batches_of(size, 500, -(-count // 500)):
            self._send_batch(stream, batch)

    async def count(self, stream: str) -> int:
        """XLEN."""
        return int(_now(self._client.xlen(stream)))

    async def drop(self, stream: str) -> None:
        """DEL."""
        self._client.delete(stream)

    def _send_batch(self, stream: str, batch: Sequence[bytes]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for content in batch:
            pipeline.xadd(stream, {_FIELD: content})
        pipeline.execute()

    async def one(self, plan: Plan) -> Load:
        """XADD."""

        async def send(content: bytes) -> None:
            self._client.xadd(plan.stream, {_FIELD: content})

        return await loadgen.one_at_a_time(send, size=plan.size, seconds=plan.seconds)

    async def in_flight_64(self, plan: Plan) -> Load:
        """XADD on 64 connections; redis-py doesn't multiplex one."""
        clients = [self._connect(redis.asyncio.Redis) for _ in range(64)]

        def sender(client: Any) -> loadgen.Send:
            return lambda content: client.xadd(plan.stream, {_FIELD: content})

        try:
            sends = [sender(client) for client in clients]
            return await loadgen.in_flight(sends, size=plan.size, seconds=plan.seconds)
        finally:
            for client in clients:
                await client.aclose()

    async def batch(self, plan: Plan) -> Load:
        """A pipeline of XADD."""

        async def send(batch: Sequence[bytes]) -> None:
            self._send_batch(plan.stream, batch)

        return await loadgen.batches(
            [send], size=plan.size, records=plan.records, seconds=plan.seconds
        )

    async def batch_x4(self, plan: Plan) -> Load:
        """Pipelines of XADD on four connections."""
        clients = [self._connect(redis.asyncio.Redis) for _ in range(4)]

        def sender(client: Any) -> loadgen.SendBatch:
            async def send(batch: Sequence[bytes]) -> None:
                pipeline = client.pipeline(transaction=False)
                for content in batch:
                    pipeline.xadd(plan.stream, {_FIELD: content})
                await pipeline.execute()

            return send

        try:
            sends = [sender(client) for client in clients]
            return await loadgen.batches(
                sends, size=plan.size, records=plan.records, seconds=plan.seconds
            )
        finally:
            for client in clients:
                await client.aclose()

    async def read_500(self, plan: Plan) -> Load:
        """XREAD COUNT 500."""
        return await loadgen.reads(self._reader(plan.stream, 500), seconds=plan.seconds)

    async def read_best(self, plan: Plan) -> Load:
        """XREAD COUNT 5000."""
        return await loadgen.reads(self._reader(plan.stream, _LARGE_COUNT), seconds=plan.seconds)

    def _reader(self, stream: str, count: int) -> loadgen.ReadBatch:
        position: bytes | str = "0"

        async def read() -> list[bytes]:
            nonlocal position
            entries = _entries(self._client.xread({stream: position}, count=count))
            if not entries:
                entries = _entries(self._client.xread({stream: "0"}, count=count))
            position = entries[-1][0]
            return [fields[_FIELD] for _, fields in entries]

        return read

    async def group_ack(self, plan: Plan) -> Load:
        """XREADGROUP, then one XACK of all."""
        groups: list[str] = []

        def new_group() -> str:
            name = plan.group if plan.group and not groups else uuid.uuid4().hex
            groups.append(name)
            # Of several consumers the first makes it.
            with contextlib.suppress(redis.ResponseError):
                self._client.xgroup_create(plan.stream, name, id="0")
            return name

        group, consumer = new_group(), uuid.uuid4().hex

        async def read() -> list[bytes]:
            nonlocal group
            entries = self._fetch(plan, group, consumer)
            if not entries:
                group = new_group()
                entries = self._fetch(plan, group, consumer)
            self._client.xack(plan.stream, group, *(entry_id for entry_id, _ in entries))
            return [fields[_FIELD] for _, fields in entries]

        try:
            return await loadgen.reads(read, seconds=plan.seconds)
        finally:
            for name in groups if not plan.group else groups[1:]:
                self._client.xgroup_destroy(plan.stream, name)

    def _fetch(
        self, plan: Plan, group: str, consumer: str
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return _entries(
            self._client.xreadgroup(group, consumer, {plan.stream: ">"}, count=plan.records)
        )


def _now(value: Any) -> Any:
    """redis-py's types say that any answer may be awaitable; a synchronous one never is."""
    return value


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of the one stream in an answer, of either protocol version."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (entries,) = answer.values()
        # RESP3 wraps the entries of a stream once more.
        return list(entries[0]) if len(entries) == 1 and entries[0] else list(entries)
    return list(answer[0][1])
