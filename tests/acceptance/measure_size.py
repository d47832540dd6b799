"""Memory and opening time of a server by what it stores.

    python -m tests.acceptance.measure_size --large 10GB --small 10MB

For each size, on a fresh directory: fill and read a channel of WARM_UP_BYTES and
delete it, so that the buffers of a busy server are there whatever the size; fill
one channel, read all of it, `kill -9` and start, a few times. Prints the time
from the start of the process to its listening, imports included, and the memory
at each step: its own, and with it the pages of files that it has mapped (those of
segments belong to the page cache, which the kernel takes back when it needs them).

Not a test: it asserts nothing. Needs Linux (/proc), and the room on the disk.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import grpc

from mq.pb import mq_pb2 as pb
from mq.units import MIB, parse_size
from tests.helpers.server import ServerProcess

CHANNEL, WARM_UP_CHANNEL = "c", "warm-up"
WARM_UP_BYTES = 1000 * MIB
MESSAGE_BYTES = 100
IN_FLIGHT_BYTES = 4 * MIB
IN_FLIGHT_MAX = 64
LIMIT_S = 600
STARTS = 5


@dataclass
class Memory:
    """The memory of a process, bytes."""

    own: int
    mapped: int

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Of a running process."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        own, mapped = int(values["RssAnon"]), int(values["RssFile"]) + int(values["RssShmem"])
        return cls(own * 1024, mapped * 1024)


@dataclass
class Measured:
    """What is printed for one size."""

    messages: int
    stored_bytes: int = 0
    fill_seconds: float = 0.0
    start_seconds: list[float] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)


def fill(stub: Any, channel: str, total_bytes: int, batch_bytes: int) -> int:
    """Publish so many bytes of messages to a new channel; returns how many messages."""
    create = stub.unary_unary("/mq.MQService/CreateChannel")
    create(pb.CreateChannelRequest(channel=channel).SerializeToString(), timeout=LIMIT_S)
    publish = stub.unary_unary("/mq.MQService/PublishBatch")
    count = max(1, batch_bytes // MESSAGE_BYTES)
    records = pb.Records(contents=[os.urandom(MESSAGE_BYTES)] * count).SerializeToString()
    request = pb.PublishBatchRequest(channel=channel, records=records).SerializeToString()
    batches = max(1, total_bytes // len(records))
    under_way: collections.deque[Any] = collections.deque()
    for _ in range(batches):
        if len(under_way) == min(IN_FLIGHT_MAX, max(2, IN_FLIGHT_BYTES // len(records))):
            under_way.popleft().result()
        under_way.append(publish.future(request, timeout=LIMIT_S))
    for call in under_way:
        call.result()
    return batches * count


def read_all(stub: Any, channel: str) -> int:
    """Pull a channel from its beginning to its end; returns how many messages."""
    pull = stub.unary_unary(
        "/mq.MQService/Pull", pb.PullRequest.SerializeToString, pb.PullResponse.FromString
    )
    offset = 0
    while True:
        answer: pb.PullResponse = pull(
            pb.PullRequest(channel=channel, offset=offset, max_bytes=4 * MIB), timeout=LIMIT_S
        )
        if answer.next_offset == offset:
            return offset
        offset = answer.next_offset


def warm_up(stub: Any, batch_bytes: int) -> None:
    """Let the server do what it will do, and delete what it stored."""
    fill(stub, WARM_UP_CHANNEL, WARM_UP_BYTES, batch_bytes)
    read_all(stub, WARM_UP_CHANNEL)
    delete = stub.unary_unary("/mq.MQService/DeleteChannel")
    delete(pb.DeleteChannelRequest(channel=WARM_UP_CHANNEL).SerializeToString(), timeout=LIMIT_S)


@contextlib.contextmanager
def client(server: ServerProcess) -> Iterator[Any]:
    """A connection with room for large answers."""
    with grpc.insecure_channel(
        server.address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield channel


def fill_and_read(server: ServerProcess, total_bytes: int, batch_bytes: int) -> Measured:
    """Fill a channel of a fresh server, and read all of it."""
    server.start()
    with client(server) as stub:
        warm_up(stub, batch_bytes)
        began = time.monotonic()
        measured = Measured(fill(stub, CHANNEL, total_bytes, batch_bytes))
        measured.fill_seconds = time.monotonic() - began
        measured.memory["filled"] = Memory.of(server.pid)
        assert read_all(stub, CHANNEL) == measured.messages
        measured.memory["read"] = Memory.of(server.pid)
    measured.stored_bytes = sum(p.stat().st_size for p in server.data_dir.rglob("*.seg"))
    return measured


def restart(server: ServerProcess, measured: Measured) -> None:
    """`kill -9`, start, and read all again."""
    server.kill()
    began = time.monotonic()
    server.start(limit_s=LIMIT_S)
    measured.start_seconds.append(time.monotonic() - began)
    measured.memory["opened"] = Memory.of(server.pid)


def read_again(server: ServerProcess, measured: Measured) -> None:
    """Read all of it after a restart."""
    with client(server) as stub:
        assert read_all(stub, CHANNEL) == measured.messages
    measured.memory["read again"] = Memory.of(server.pid)


def measure(sizes: list[int], batch_bytes: int, where: Path, args: list[str]) -> list[Measured]:
    """Every size on a server of its own; the starts take turns, so that they share the weather."""
    servers = [ServerProcess(where / str(size) / "data", *args) for size in sizes]
    try:
        found = []
        for server, size in zip(servers, sizes, strict=True):
            found.append(fill_and_read(server, size, batch_bytes))
            server.kill()
        for _ in range(STARTS):
            for server, measured in zip(servers, found, strict=True):
                restart(server, measured)
                server.kill()
        for server, measured in zip(servers, found, strict=True):
            server.start(limit_s=LIMIT_S)
            read_again(server, measured)
            server.stop()
        return found
    finally:
        for server in servers:
            server.kill()


def megabytes(size_bytes: float) -> str:
    """A size for people."""
    return f"{size_bytes / 1e6:,.0f} MB"


def show(sizes: dict[str, Measured]) -> None:
    """A table: a column a size, and how much more the larger one takes."""
    small, large = sizes.values()
    rows = [("stored", megabytes(small.stored_bytes), megabytes(large.stored_bytes), "")]
    rows.append(("messages", f"{small.messages:,}", f"{large.messages:,}", ""))
    rows.append(("filling, s", f"{small.fill_seconds:.2f}", f"{large.fill_seconds:.2f}", ""))
    for name, pick in (("fastest", min), ("median", statistics.median)):
        starts = pick(small.start_seconds), pick(large.start_seconds)
        rows.append(_row(f"{name} start after kill -9, s", *starts, 1))
    for step, before in small.memory.items():
        after = large.memory[step]
        rows.append(_row(f"own memory, {step}, MiB", before.own, after.own, MIB))
        rows.append(
            _row(
                f"with mapped files, {step}, MiB",
                before.own + before.mapped,
                after.own + after.mapped,
                MIB,
            )
        )
    for label, *cells in [("", *sizes, "ratio"), *rows]:
        click.echo(f"{label:34}" + "".join(f"{cell:>14}" for cell in cells))


def _row(label: str, small: float, large: float, unit: int) -> tuple[str, str, str, str]:
    return label, f"{small / unit:.2f}", f"{large / unit:.2f}", f"{large / small:.2f}"


def main() -> None:
    """Measure both sizes and print the table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--large", type=parse_size, default="10GB")
    parser.add_argument("--small", type=parse_size, default="10MB")
    parser.add_argument("--batch", type=parse_size, default="64KiB", help="size of a batch")
    parser.add_argument("--dir", type=Path, help="where to store; a temporary directory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("serve", nargs="*", help="options of mq serve, after --")
    options = parser.parse_args()
    room = shutil.disk_usage(options.dir or tempfile.gettempdir()).free // 2
    large = min(options.large, room)
    if large < options.large:
        click.echo(f"half of what is free is {megabytes(large)}: measured with that", err=True)
    with tempfile.TemporaryDirectory(dir=options.dir) as where:
        pair = [options.small, large]
        measured = measure(pair, options.batch, Path(where), options.serve)
    sizes = dict(zip(map(megabytes, pair), measured, strict=True))
    if options.json:
        click.echo(json.dumps({size: asdict(each) for size, each in sizes.items()}, indent=2))
    else:
        show(sizes)


if __name__ == "__main__":
    main()
