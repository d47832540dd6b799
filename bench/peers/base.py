"""What a broker has to offer to be measured: a server, and a driver of clients.

A ``Peer`` lives in the bench's own process and starts servers. A ``Driver``
lives in a worker process (``bench.worker``) and has one method a workload, so
that clients never share an interpreter with each other or with the bench.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.process import ServerProcess
from mq.client.loadgen import Load

SYNCED = "synced"
RELAXED = "relaxed"
MODES: Mapping[str, str] = {
    SYNCED: "acknowledged after a sync to the device",
    RELAXED: "acknowledged once written to the page cache",
}

PUBLISH: Mapping[str, str] = {
    "one": "publish, one at a time",
    "one_unary": "the same, generated stubs",
    "in_flight_64": "publish, 64 in flight",
    "in_flight_64_unary": "the same, one call a message",
    "batch": "publish, batches of 500, one in flight",
    "batch_x4": "publish, batches of 500, four in flight",
    "producer": "publish, one send a message",
}
CONSUME: Mapping[str, str] = {
    "read_500": "read, 500 at a time",
    "read_best": "read, the client's fastest way",
    "group_ack": "group fetch 500 + acknowledge",
}
WORKLOADS: Mapping[str, str] = {**PUBLISH, **CONSUME}


@dataclass(frozen=True, slots=True)
class Plan:
    """One measurement: on which stream, for how long, with how large messages and batches."""

    stream: str
    seconds: float
    size: int = 100
    records: int = 500
    # Consume as one of several of this group; empty: alone, in groups of one's own.
    group: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections."""

    process: ServerProcess
    address: str


class Peer(ABC):
    """A broker that the bench can start."""

    name: ClassVar[str]
    # What the two modes are in this broker's own words.
    settings: ClassVar[Mapping[str, str]]

    @abstractmethod
    def version(self) -> str:
        """The server's version.

        Raises:
            Unavailable: It can't be started here; says how to get it.
        """

    @abstractmethod
    def start(self, mode: str, directory: Path) -> Running:
        """Starts a server with its data in an empty directory, and waits for it."""


class Driver(ABC):
    """Clients of one broker, in one process.

    Each workload of ``WORKLOADS`` is a method of that name that takes a
    ``Plan`` and returns a ``Load``; one that is not there is left out of the
    tables.
    """

    def __init__(self, address: str, mode: str) -> None:
        """Remembers where the server is; connects to nothing yet."""
        self.address = address
        self.mode = mode

    @abstractmethod
    async def open(self) -> None:
        """Connects."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnects."""

    @abstractmethod
    async def create(self, stream: str) -> None:
        """Makes an empty stream."""

    @abstractmethod
    async def fill(self, stream: str, count: int, size: int) -> None:
        """Appends at least ``count`` messages, as fast as it goes."""

    @abstractmethod
    async def count(self, stream: str) -> int:
        """How many messages the server says are stored."""

    @abstractmethod
    async def drop(self, stream: str) -> None:
        """Deletes a stream."""

    async def run(self, workload: str, plan: Plan) -> Load | None:
        """Measures one workload; None where this broker has no such thing."""
        method = getattr(self, workload, None)
        if method is None:
            return None
        load: Load = await method(plan)
        return load
