"""Apache Kafka on one node (KRaft), flushed at each append or never by itself."""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bench.environment import Unavailable
from bench.peers.base import RELAXED, SYNCED, Driver, Peer, Plan, Running
from bench.process import ServerProcess, free_port
from mq.client import loadgen
from mq.client.loadgen import Load

_VERSION = "4.3.0"
# As kafka-run-class.sh and kafka-server-start.sh have them.
_JVM = [
    "-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
]  # fmt: skip
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={directory}/data
num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
{flush}
"""


class Kafka(Peer):
    """Kafka's own jars, fetched with Maven into the user's cache."""

    name = "kafka"
    settings: ClassVar[Mapping[str, str]] = {
        SYNCED: "log.flush.interval.messages=1",
        RELAXED: "no flush.interval (the default)",
    }

    def version(self) -> str:
        """The version that ``kafka-pom.xml`` asks for."""
        for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
            if not shutil.which(program):
                raise Unavailable(f"{program} is not installed: apt-get install {package}")
        return _VERSION

    def start(self, mode: str, directory: Path) -> Running:
        """Formats a directory, starts the server and waits until it answers."""
        self.version()
        classpath = f"{_jars()}/*"
        port, controller = free_port(), free_port()
        flush = "log.flush.interval.messages=1" if mode == SYNCED else ""
        properties = directory / "server.properties"
        properties.write_text(
            _PROPERTIES.format(port=port, controller=controller, directory=directory, flush=flush)
        )
        _format(classpath, properties)
        command = ["java", *_JVM, "-cp", classpath, "kafka.Kafka", str(properties)]
        process = ServerProcess(command, directory / "server.log")
        process.wait_for_port(port, 60)
        address = f"127.0.0.1:{port}"
        AdminClient({"bootstrap.servers": address}).list_topics(timeout=30)
        return Running(process, address)


def _jars() -> Path:
    """Where Kafka's jars are, fetched on the first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    target = cache / "mq-bench" / f"kafka-{_VERSION}"
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    pom = importlib.resources.files("bench.peers") / "kafka-pom.xml"
    command = [
        "mvn", "-q", "-B", "-f", str(pom), f"-Dkafka.version={_VERSION}",
        "dependency:copy-dependencies", f"-DoutputDirectory={partial}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unavailable(f"Maven could not fetch Kafka {_VERSION}:\n{done.stdout[-800:]}")
    partial.rename(target)
    return target


def _format(classpath: str, properties: Path) -> None:
    cluster = "bXEtYmVuY2gtY2x1c3RlcQ"
    command = [
        "java", "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", cluster, "-c",
        str(properties),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"Kafka could not format its directory:\n{done.stderr[-800:]}")


class KafkaDriver(Driver):
    """confluent-kafka: librdkafka, with ``acks=all``."""

    _admin: AdminClient

    async def open(self) -> None:
        """Connects the administration client; producers are made a measurement."""
        self._admin = AdminClient({"bootstrap.servers": self.address})

    async def close(self) -> None:
        """Nothing to do: these clients close when they are collected."""

    async def create(self, stream: str) -> None:
        """A topic with one partition, and waits until it has a leader."""
        topic = NewTopic(stream, num_partitions=1, replication_factor=1)
        self._admin.create_topics([topic])[stream].result(30)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = self._admin.list_topics(stream, timeout=10).topics[stream]
            if found.error is None and found.partitions and found.partitions[0].leader == 1:
                return
            await asyncio.sleep(0.01)
        raise Unavailable(f"Kafka has no leader for topic {stream} after 30 s")

    async def fill(self, stream: str, count: int, size: int) -> None:
        """Batches of 5,000."""
        producer = self._producer(linger_ms=5, batch=5_000)
        sent = _Deliveries()
        for batch in loadgen.batches_of(size, 5_000, -(-count // 5_000)):
            _send_batch(producer, stream, batch, sent)
            producer.flush()
        sent.check()

    async def count(self, stream: str) -> int:
        """The high watermark."""
        consumer = self._consumer(uuid.uuid4().hex)
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(stream, 0), timeout=30)
            return int(high - low)
        finally:
            consumer.close()

    async def drop(self, stream: str) -> None:
        """Deletes the topic."""
        self._admin.delete_topics([stream])[stream].result(30)

    def _producer(self, linger_ms: float, batch: int) -> Producer:
        # Small requests are not to wait for each other, whatever the library's default.
        return Producer({
            "bootstrap.servers": self.address, "acks": "all", "linger.ms": linger_ms,
            "batch.num.messages": batch, "queue.buffering.max.messages": 200_000,
            "socket.nagle.disable": True,
        })  # fmt: skip

    def _consumer(self, group: str) -> Consumer:
        return Consumer({
            "bootstrap.servers": self.address, "group.id": group,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "queued.min.messages": 200_000,
        })  # fmt: skip

    async def one(self, plan: Plan) -> Load:
        """``produce`` and ``flush``."""
        producer = self._producer(linger_ms=0, batch=1)
        sent = _Deliveries()

        async def send(content: bytes) -> None:
            producer.produce(plan.stream, content, on_delivery=sent.one)
            producer.flush()

        load = await loadgen.one_at_a_time(send, size=plan.size, seconds=plan.seconds)
        sent.check()
        return load

    async def in_flight_64(self, plan: Plan) -> Load:
        """``produce`` while fewer than 64 are unacknowledged."""
        producer = self._producer(linger_ms=0, batch=64)
        return _windowed(producer, plan, records=1, window=64)

    async def batch(self, plan: Plan) -> Load:
        """``produce_batch``, and ``flush``."""
        producer = self._producer(linger_ms=5, batch=plan.records)
        sent = _Deliveries()

        async def send(batch: Sequence[bytes]) -> None:
            _send_batch(producer, plan.stream, batch, sent)
            producer.flush()

        load = await loadgen.batches(
            [send], size=plan.size, records=plan.records, seconds=plan.seconds
        )
        sent.check()
        return load

    async def batch_x4(self, plan: Plan) -> Load:
        """``produce_batch`` while fewer than four batches are unacknowledged."""
        producer = self._producer(linger_ms=5, batch=plan.records)
        return _windowed(producer, plan, records=plan.records, window=4 * plan.records)

    async def producer(self, plan: Plan) -> Load:
        """``produce`` without a pause, librdkafka's own settings, 100,000 at most."""
        producer = self._producer(linger_ms=5, batch=10_000)
        return _windowed(producer, plan, records=1, window=100_000)

    async def read_500(self, plan: Plan) -> Load:
        """``consume(500)``."""
        return await self._consume(plan, 500, commit=False)

    async def read_best(self, plan: Plan) -> Load:
        """``consume(5000)``."""
        return await self._consume(plan, 5_000, commit=False)

    async def group_ack(self, plan: Plan) -> Load:
        """``consume(500)``, then a synchronous commit."""
        return await self._consume(plan, 500, commit=True)

    async def _consume(self, plan: Plan, count: int, *, commit: bool) -> Load:
        stored = await self.count(plan.stream)
        consumer = self._consumer(uuid.uuid4().hex)
        consumer.assign([TopicPartition(plan.stream, 0, 0)])
        left = stored

        async def read() -> list[bytes]:
            nonlocal left
            if left == 0:
                consumer.seek(TopicPartition(plan.stream, 0, 0))
                left = stored
            messages = consumer.consume(min(count, left), timeout=10)
            left -= len(messages)
            if commit and messages:
                # Named: what the library has stored by itself may be gone after a seek.
                consumer.commit(message=messages[-1], asynchronous=False)
            return [message.value() or b"" for message in messages]

        try:
            return await loadgen.reads(read, seconds=plan.seconds)
        finally:
            consumer.close()


class _Deliveries:
    """Counts delivery reports and remembers a failed one."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self._error: KafkaError | None = None
        self._lock = threading.Lock()

    def one(self, error: KafkaError | None, _message: Any) -> None:
        self.acknowledged += 1
        if error is not None:
            self._error = error

    def check(self) -> None:
        """Raises ``Unavailable`` if a message was not delivered."""
        if self._error is not None:
            raise Unavailable(f"Kafka did not acknowledge a message: {self._error}")


def _send_batch(producer: Producer, topic: str, batch: Sequence[bytes], sent: _Deliveries) -> None:
    messages = [{"value": content} for content in batch]
    if producer.produce_batch(topic, messages, on_delivery=sent.one) != len(batch):
        raise Unavailable("librdkafka's queue is full: fewer messages may be in flight")


def _windowed(producer: Producer, plan: Plan, *, records: int, window: int) -> Load:
    """Sends while fewer than ``window`` messages are unacknowledged."""
    pool = loadgen.contents(plan.size)
    lists = loadgen.batches_of(plan.size, records)
    acknowledged = _Deliveries()
    sent = 0
    began = time.perf_counter_ns()
    until = began + int(plan.seconds * 1e9)
    while time.perf_counter_ns() < until:
        while sent - acknowledged.acknowledged <= window - records:
            if records == 1:
                producer.produce(plan.stream, pool[sent % len(pool)], on_delivery=acknowledged.one)
            else:
                batch = lists[sent // records % len(lists)]
                _send_batch(producer, plan.stream, batch, acknowledged)
            sent += records
            if sent % 1_000 == 0:
                break
        producer.poll(0 if sent - acknowledged.acknowledged <= window - records else 0.1)
    producer.flush()
    seconds = (time.perf_counter_ns() - began) / 1e9
    acknowledged.check()
    return Load(sent, sent * plan.size, seconds, np.zeros(0, np.int64))
