"""mq itself, behind the same interface as the brokers it is compared with."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import mq
from bench.mq_server import MqServer
from bench.peers.base import RELAXED, SYNCED, Driver, Peer, Plan, Running
from mq import AsyncClient
from mq.client import loadgen, workloads
from mq.client.aio_group import AsyncGroupBatch, AsyncGroupConsumer
from mq.client.loadgen import Load
from mq.client.types import Durability

# Which front to run, when it isn't the server's own choice.
FRONT_VARIABLE = "MQ_BENCH_FRONT"


# How long nothing comes before a group that others share is taken to be at its end.
_IDLE_MS = 100


class Mq(Peer):
    """``mq serve`` as it comes, or with the front that the bench was told to run it with."""

    name = "mq"
    front: ClassVar[str | None] = None
    settings: ClassVar[Mapping[str, str]] = {
        SYNCED: "durability synced (the default)",
        RELAXED: "durability written",
    }

    def version(self) -> str:
        """The version of this source tree."""
        return mq.__version__

    def start(self, mode: str, directory: Path) -> Running:
        """Starts it; the mode is a channel's setting, and made with the channel."""
        front = self.front or os.environ.get(FRONT_VARIABLE, "auto")
        server = MqServer(directory / "data", directory / "server.log", front)
        return Running(server.process, server.address)


class MqNative(Mq):
    """With the native front."""

    name = "mq-native"
    front = "native"


class MqGrpcio(Mq):
    """With the grpcio front."""

    name = "mq-grpcio"
    front = "grpcio"


class MqDriver(Driver):
    """``mq.AsyncClient``."""

    _client: AsyncClient

    async def open(self) -> None:
        """Connects."""
        self._client = AsyncClient(self.address)

    async def close(self) -> None:
        """Disconnects."""
        await self._client.close()

    async def create(self, stream: str) -> None:
        """A channel of the mode's durability."""
        durability: Durability = "synced" if self.mode == SYNCED else "written"
        await self._client.create_channel(stream, durability=durability)

    async def fill(self, stream: str, count: int, size: int) -> None:
        """Batches of 500: readers are given what was appended."""
        await workloads.fill(self._client, stream, count=count, size=size, records=500)

    async def count(self, stream: str) -> int:
        """From the log's start to the durable offset."""
        return (await self._client.describe_channel(stream)).record_count

    async def drop(self, stream: str) -> None:
        """Deletes the channel."""
        await self._client.delete_channel(stream)

    async def one(self, plan: Plan) -> Load:
        """``publish``."""
        return await workloads.publish_one(
            self._client, plan.stream, size=plan.size, seconds=plan.seconds
        )

    async def in_flight_64(self, plan: Plan) -> Load:
        """``publish`` in 64 tasks on one connection."""
        return await workloads.publish_in_flight(
            self._client, plan.stream, width=64, size=plan.size, seconds=plan.seconds
        )

    async def one_unary(self, plan: Plan) -> Load:
        """The first contract's ``Publish``, by generated stubs."""
        return await self._unary(plan, 1)

    async def in_flight_64_unary(self, plan: Plan) -> Load:
        """The same with 64 calls in flight."""
        return await self._unary(plan, 64)

    async def _unary(self, plan: Plan, width: int) -> Load:
        return await workloads.publish_unary(
            self.address, plan.stream, width=width, size=plan.size, seconds=plan.seconds
        )

    async def batch(self, plan: Plan) -> Load:
        """``publish_many``."""
        return await self._batches(plan, 1)

    async def batch_x4(self, plan: Plan) -> Load:
        """``publish_many`` in four tasks."""
        return await self._batches(plan, 4)

    async def _batches(self, plan: Plan, width: int) -> Load:
        return await workloads.publish_batches(
            self._client, plan.stream, records=plan.records, width=width, size=plan.size,
            seconds=plan.seconds,
        )  # fmt: skip

    async def producer(self, plan: Plan) -> Load:
        """The batching producer."""
        return await workloads.produce(
            self._client, plan.stream, size=plan.size, seconds=plan.seconds
        )

    async def read_500(self, plan: Plan) -> Load:
        """``pull`` of 500 records, one after the other."""
        return await workloads.pull(
            self._client, plan.stream, max_records=500, seconds=plan.seconds, ahead=False
        )

    async def read_best(self, plan: Plan) -> Load:
        """``pull`` of 1 MiB, the next one under way meanwhile."""
        return await workloads.pull(
            self._client, plan.stream, max_bytes=1 << 20, seconds=plan.seconds
        )

    async def group_ack(self, plan: Plan) -> Load:
        """A group's batches, each acknowledged durably before the next one."""
        stored = await self.count(plan.stream)
        group: AsyncGroupConsumer | None = None
        batches: AsyncIterator[AsyncGroupBatch] | None = None
        left = 0

        async def read() -> list[bytes]:
            nonlocal plan, group, batches, left
            if left <= 0:
                if group is not None:
                    await group.close()
                name = plan.group or uuid.uuid4().hex
                group = self._client.group(
                    name, plan.stream, max_records=plan.records, idle_ms=_IDLE_MS
                )
                await group.__aenter__()
                batches = group.batches()
                left = stored
            assert batches is not None, "a group was begun"
            batch = await anext(batches, None)
            if batch is None:
                # Others of the group have had the rest: begin again, alone.
                plan, left = replace(plan, group=""), 0
                return await read()
            contents = batch.contents
            await batch.ack()
            left -= len(contents)
            return contents

        try:
            return await loadgen.reads(read, seconds=plan.seconds)
        finally:
            if group is not None:
                await group.close()
