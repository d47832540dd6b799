"""An orderly stop: new work refused, what is in flight answered, everything kept, soon over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from mq.log.checkpoint import Checkpoint
from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront, bugs
from tests.conformance.rpc import LIMIT_S, Pulled, Rpc, messages, refused
from tests.helpers.server import ServerProcess

LONG_MS = 600_000


class Publisher:
    """Publishes batches, many at a time, until the server is gone; knows what was acknowledged."""

    def __init__(self, rpc: Rpc, channel: str, number: int) -> None:
        self._rpc = rpc
        self._channel = channel
        self._number = number
        self.acknowledged: dict[int, list[bytes]] = {}
        self.errors: list[grpc.StatusCode] = []
        self.busy = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sequence = 0
        while not self.errors:
            sent = []
            for _ in range(8):
                contents = [b"%d %d %d" % (self._number, sequence, n) for n in range(50)]
                request = pb.PublishBatchRequest(
                    channel=self._channel, records=pb.Records(contents=contents).SerializeToString()
                )
                sent.append((contents, self._rpc.later("PublishBatch", request)))
                sequence += 1
            for contents, call in sent:
                self._take(contents, call)
            if sequence > 40:
                self.busy.set()

    def _take(self, contents: list[bytes], call: Any) -> None:
        error = call.exception()
        if error is None:
            answer = pb.PublishBatchResponse.FromString(call.result())
            self.acknowledged[answer.base_offset] = contents
        else:
            self.errors.append(error.code())

    def join(self) -> None:
        """Wait until it has met an error."""
        self._thread.join(LIMIT_S)
        assert self.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_stop_under_load(
    start: StartFront, connect: Callable[[ServerProcess], Rpc], number: signal.Signals
) -> None:
    """It exits with 0, whatever was acknowledged is there, once, and the log is marked clean."""
    server = start()
    connect(server).create("c")
    publishers = [Publisher(connect(server), "c", n) for n in range(2)]
    for publisher in publishers:
        assert publisher.busy.wait(LIMIT_S)
    server.signal(number)
    assert server.wait() == 0
    assert [entry["event"] for entry in server.log][-2:] == ["stopping", "stopped"]
    assert bugs(server.log) == []
    for publisher in publishers:
        publisher.join()
        # Answered, or told to come again; never left without a word.
        assert set(publisher.errors) == {grpc.StatusCode.UNAVAILABLE}
    (checkpoint,) = server.data_dir.glob("channels/*/checkpoint")
    decoded = Checkpoint.decode(checkpoint.read_bytes())
    assert decoded is not None
    assert decoded.clean
    server.start()
    assert "recovered" not in [entry["event"] for entry in server.log]
    stored = connect(server).contents("c")
    for publisher in publishers:
        for base, contents in publisher.acknowledged.items():
            assert stored[base : base + 50] == contents
    assert len(set(stored)) == len(stored)
    assert len(stored) % 50 == 0


def test_a_stop_does_not_wait_for_idle_clients(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Waiting pulls are answered and streams ended, however long the grace is."""
    server = start(env={"SERVER_GRACEFUL_SHUTDOWN_TIMEOUT": "1h"})
    rpc = connect(server)
    rpc.create("c")
    rpc.publish("c", b"0")
    wait = pb.PullRequest(channel="c", position=pb.OFFSET_LATEST, max_wait_ms=LONG_MS)
    pulls = [rpc.later("Pull", wait) for _ in range(5)]
    at_the_end = rpc.subscribe("c", pb.OFFSET_LATEST)
    in_its_interval = rpc.subscribe("c", interval_ms=LONG_MS)
    messages(in_its_interval, 1)
    watching = rpc.stream("/grpc.health.v1.Health/Watch", b"")
    assert next(watching) == b"\x08\x01"
    rpc.wait_waiting("c", 6)
    assert server.stop() == 0
    assert bugs(server.log) == []
    for pull in pulls:
        assert Pulled(pull.result()).records() == []
    for stream in (at_the_end, in_its_interval):
        with refused("UNAVAILABLE", "unavailable"):
            next(stream)
    assert next(watching) == b"\x08\x02"
    with refused("UNAVAILABLE", "unavailable"):
        next(watching)


def test_a_stop_is_not_held_up_by_who_does_not_read(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """A stream that can't be ended properly is cut off when the grace is over."""
    server = start(env={"SERVER_GRACEFUL_SHUTDOWN_TIMEOUT": "2s"})
    rpc, stuck = connect(server), connect(server)
    rpc.create("c")
    for _ in range(20):
        rpc.publish("c", b"x" * 1_000_000)
    never_read = stuck.subscribe("c")
    # When another has read it all, the first is stuck.
    messages(rpc.subscribe("c"), 20)
    assert server.stop(limit_s=10) == 0
    assert bugs(server.log) == []
    never_read.cancel()
    server.start()
    assert connect(server).describe("c").durable_offset == 20
