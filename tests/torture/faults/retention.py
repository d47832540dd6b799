"""Retention removes segments while they are being pulled."""

from __future__ import annotations

import contextlib
import random
import time

import grpc

from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Pulled, Rpc
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import CALL_LIMIT_S, Load, Shape, Worker, connect
from tests.torture.oracle import settle
from tests.torture.place import Place

SECONDS = 6.0
READERS = 4


class OldestReader(Worker):
    """Pulls at the very beginning of the log, where segments go away."""

    def __init__(self, address: str, ledger: Ledger, channel: str) -> None:
        super().__init__(address, ledger)
        self._channel = channel
        self.pulls = 0
        self.too_late = 0

    def step(self, rpc: Rpc) -> None:
        """From the beginning, and on for some pulls."""
        offset = None
        for _ in range(5):
            request = pb.PullRequest(channel=self._channel, max_bytes=200_000, offset=offset)
            self.pulls += 1
            try:
                pulled = Pulled(rpc.raw("Pull", request.SerializeToString(), CALL_LIMIT_S))
            except grpc.RpcError as error:
                code = self.note(error, f"reading {self._channel}")
                if code is grpc.StatusCode.OUT_OF_RANGE:
                    self.too_late += 1
                elif code is not grpc.StatusCode.UNAVAILABLE:
                    self.ledger.problem(f"a pull of the oldest segment: {code.name}")
                return
            for at, content in pulled.records():
                self.ledger.see(self._channel, at, content)
            offset = pulled.answer.next_offset


def strike(rng: random.Random, place: Place) -> Outcome:
    """Publish much into channels that keep little, and read their beginnings."""
    server = place.server("--segment-bytes", "64KiB", *front(rng)).start()
    channels = create_channels(server, 2, retention_bytes=rng.choice((1, 200_000, 1 << 20)))
    ledger, outcome = Ledger(), Outcome()
    shape = Shape(batch_records_max=50, content_bytes_max=2000)
    readers = [OldestReader(server.address, ledger, c) for c in channels for _ in range(READERS)]
    with Load(server.address, ledger, channels, rng, shape=shape, follow=False):
        for reader in readers:
            reader.start()
        time.sleep(SECONDS)
        if rng.random() < 0.3:
            server.kill()
            server.start()
            time.sleep(SECONDS / 2)
        for reader in readers:
            reader.stopping.set()
        for reader in readers:
            reader.join(CALL_LIMIT_S + 5)
    with contextlib.closing(connect(server.address)) as rpc:
        removed = sum(rpc.describe(name).log_start_offset for name in channels)
    outcome.expect(removed, "retention has removed nothing")
    return settle(server, ledger, outcome, rounds=sum(reader.pulls for reader in readers))


FAULT = Fault("retention", 14, "retention racing pulls of the oldest segment", strike)
