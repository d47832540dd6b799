"""Limits: met exactly, passed with a clear error, and memory stays within them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import (
    Rpc,
    messages,
    refused,
    wait_until,
)
from tests.helpers.server import ServerProcess

KIB = 1 << 10
MIB = 1 << 20
LONG_MS = 600_000


def sized(channel: str, size: int) -> bytes:
    """A PublishRequest of exactly so many bytes."""
    request = pb.PublishRequest(channel=channel, content=b"x" * size)
    request.content = b"x" * (2 * size - request.ByteSize())
    assert request.ByteSize() == size
    return request.SerializeToString()


@pytest.fixture
def limited(start: StartFront) -> ServerProcess:
    """A server with small limits."""
    return start(
        "--max-waiting-pulls",
        "10",
        "--max-concurrent-calls",
        "20",
        env={
            "SERVER_MAX_RECV_MSG_SIZE": "65536",
        },
    )


def test_small_limits(limited: ServerProcess, connect: Callable[[ServerProcess], Rpc]) -> None:
    """Requests, waiting pulls and calls: as much as allowed works, one more does not."""
    rpc = connect(limited)
    rpc.create("c")
    _request_size(rpc)
    _waiting_pulls(rpc)
    _concurrent_calls(rpc)


def _request_size(rpc: Rpc) -> None:
    rpc.raw("Publish", sized("c", 64 * KIB))
    with refused("RESOURCE_EXHAUSTED"):
        rpc.raw("Publish", sized("c", 64 * KIB + 1))
    with refused("RESOURCE_EXHAUSTED"):
        rpc.raw("Publish", sized("c", 8 * MIB))
    assert rpc.describe("c").durable_offset == 1
    assert rpc.describe("c").config.max_message_bytes == 64 * KIB


def _waiting_pulls(rpc: Rpc) -> None:
    request = pb.PullRequest(channel="c", position=pb.OFFSET_LATEST, max_wait_ms=LONG_MS)
    waiting = [rpc.later("Pull", request) for _ in range(10)]
    rpc.wait_waiting("c", 10)
    with refused("RESOURCE_EXHAUSTED", "overloaded") as refusal:
        rpc.raw("Pull", request.SerializeToString())
    assert "max_waiting_pulls" in refusal.message
    # What need not wait is still answered; and a place that is free is taken.
    assert rpc.pull("c", offset=0, max_wait_ms=LONG_MS).records()
    assert rpc.pull("c", position=pb.OFFSET_LATEST).records() == []
    waiting[0].cancel()
    rpc.wait_waiting("c", 9)
    waiting[0] = rpc.later("Pull", request)
    rpc.wait_waiting("c", 10)
    rpc.publish("c", b"now")
    for each in waiting:
        assert pb.PullResponse.FromString(each.result()).batches
    assert rpc.describe("c").waiting_pulls == 0


def _concurrent_calls(rpc: Rpc) -> None:
    # Subscribers that have got a message and wait for their interval are calls, not waiting pulls.
    streams = [rpc.subscribe("c", interval_ms=LONG_MS) for _ in range(20)]
    for stream in streams:
        messages(stream, 2)
    with refused("RESOURCE_EXHAUSTED", "overloaded") as refusal:
        rpc.describe("c")
    assert "max_concurrent_calls" in refusal.message
    with refused("RESOURCE_EXHAUSTED", "overloaded"):
        next(rpc.subscribe("c"))
    assert rpc.raw("/grpc.health.v1.Health/Check", b"") == b"\x08\x01"
    assert all(stream.is_active() for stream in streams)
    streams[0].cancel()
    wait_until(lambda: _describes(rpc), "a call that ended makes room for another")
    for stream in streams:
        stream.cancel()


def _describes(rpc: Rpc) -> bool:
    try:
        rpc.describe("c")
    except grpc.RpcError:
        return False
    return True


def test_calls_that_come_while_the_server_stands_still(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """A process that was stopped for a while, SIGSTOP, answers all that has come meanwhile."""
    server = start()
    clients = [connect(server) for _ in range(3)]
    clients[0].create("c")
    for client in clients:
        client.describe("c")
    server.signal(signal.SIGSTOP)
    request = pb.PublishRequest(channel="c", content=b"x")
    calls = [client.later("Publish", request) for _ in range(1000) for client in clients]
    server.signal(signal.SIGCONT)
    offsets = [pb.PublishResponse.FromString(call.result()).offset for call in calls]
    assert sorted(offsets) == list(range(3000))


def test_the_largest_message_can_be_read(rpc: Rpc, channel: str) -> None:
    """What fits into a request comes back by every road, though answers are larger."""
    request = sized(channel, 4 * MIB)
    content = pb.PublishRequest.FromString(request).content
    rpc.raw("Publish", request)
    with refused("RESOURCE_EXHAUSTED"):
        rpc.raw("Publish", sized(channel, 4 * MIB + 1))
    assert rpc.pull(channel, max_bytes=1).records() == [(0, content)]
    assert messages(rpc.subscribe(channel), 1)[0].content == content


def test_what_waits_for_the_disk_is_bounded(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Publishes beyond max_pending_bytes are refused, nothing of them is written, and it passes."""
    server = start("--max-pending-bytes", "64KiB")
    rpc = connect(server)
    rpc.create("c")
    content = b"x" * 40_000
    calls = [
        rpc.later("Publish", pb.PublishRequest(channel="c", content=content)) for _ in range(60)
    ]
    errors = [error for call in calls if (error := call.exception()) is not None]
    codes = {error.code().name for error in errors}
    assert codes <= {"RESOURCE_EXHAUSTED"}
    assert all(dict(error.trailing_metadata())["mq-reason"] == "overloaded" for error in errors)
    assert rpc.describe("c").durable_offset == 60 - len(errors)
    assert rpc.publish("c", content).offset == 60 - len(errors)


def test_a_disk_with_little_room(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Below min_free_bytes publishes are refused, with what to do; everything else goes on."""
    server = start()
    rpc = connect(server)
    rpc.create("c")
    rpc.publish("c", b"before")
    server.kill()
    server.args = (*server.args, "--min-free-bytes", "1024GiB")
    server.start()
    rpc = connect(server)
    with refused("RESOURCE_EXHAUSTED", "disk-full") as refusal:
        rpc.publish("c", b"x")
    assert "min_free_bytes" in refusal.message
    with refused("RESOURCE_EXHAUSTED", "disk-full"):
        rpc.publish_batch("c", [b"x"])
    assert rpc.contents("c") == [b"before"]
    rpc.delete("c")


# ---- Memory ---------------------------------------------------------------------------


def anonymous_bytes(server: ServerProcess) -> int:
    """The server's memory but for mapped files, whose pages are the page cache's."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * KIB


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is measured through /proc")
def test_readers_that_do_not_read_cost_little(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Subscribers with a backlog of 64 MiB that never read: the server's memory does not follow."""
    server = start()
    rpc, stuck = connect(server), connect(server)
    rpc.create("c")
    megabyte = [b"x" * 10_000] * 100
    _publish_and_read(rpc, 5, megabyte)
    before = anonymous_bytes(server)
    never_read = [stuck.subscribe("c") for _ in range(3)]
    _publish_and_read(rpc, 64, megabyte)
    grown = anonymous_bytes(server) - before
    assert grown < 32 * MIB, f"{grown / MIB:.0f} MiB more"
    assert all(stream.is_active() for stream in never_read)
    for stream in never_read:
        stream.cancel()


def _publish_and_read(rpc: Rpc, batches: int, contents: list[bytes]) -> None:
    """By the time one subscriber has read it all, others have come as far as they will."""
    for _ in range(batches):
        rpc.publish_batch("c", contents)
    stream = rpc.subscribe("c")
    messages(stream, batches * len(contents))
    stream.cancel()
