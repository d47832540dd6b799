"""kill -9 of the broker and of its consumers, with acknowledgements in flight.

Every message is processed at least once, and none is handed out again once its
acknowledgement was answered.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Sequence

import grpc

from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Rpc
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger, digest
from tests.torture.load import CALL_LIMIT_S, Load, Shape, Worker, connect, until
from tests.torture.oracle import settle
from tests.torture.place import Place

KILLS = 4
CONSUMERS = 4
GROUP = "group"
LEASE_MS = 1500
# By then every lease of a consumer that is gone has run out, several times.
FINISH_LIMIT_S = 60.0


class Processed:
    """What consumers have done, and been told. Thread-safe."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        # By offset, what was processed.
        self.contents: dict[int, int] = {}
        # By offset, when its acknowledgement was answered.
        self._acked_s: dict[int, float] = {}
        self.again = 0

    def take(self, offset: int, content: bytes, asked_s: float) -> None:
        """A record was handed out, in answer to a fetch that was sent at this time."""
        known = digest(content)
        with self._lock:
            acked_s = self._acked_s.get(offset)
            if acked_s is not None and acked_s < asked_s:
                self.again += 1
                self._ledger.problem(
                    f"offset {offset} was handed out {asked_s - acked_s:.3f} s after its "
                    "acknowledgement was answered"
                )
            if self.contents.setdefault(offset, known) != known:
                self._ledger.problem(f"offset {offset} was handed out with two contents")

    def acked(self, ranges: Sequence[pb.OffsetRange], refused: Sequence[pb.RefusedRange]) -> None:
        """An acknowledgement was answered."""
        now = time.monotonic()
        not_done = {o for r in refused for o in range(r.first_offset, r.next_offset)}
        with self._lock:
            for each in ranges:
                for offset in range(each.first_offset, each.next_offset):
                    if offset not in not_done:
                        self._acked_s.setdefault(offset, now)


class Consumer(Worker):
    """Fetches, processes and acknowledges; now and then it is gone, as if it was killed."""

    def __init__(
        self,
        address: str,
        ledger: Ledger,
        processed: Processed,
        rng: random.Random,
        mode: pb.GroupMode,
    ) -> None:
        super().__init__(address, ledger)
        self._processed = processed
        self._rng = rng
        self._mode = mode
        self._epoch = 0
        self.consumer = f"{rng.getrandbits(32):x}"
        (self._channel,) = ledger.channels
        self.gone = False

    def step(self, rpc: Rpc) -> None:
        """Fetch once, process what comes, acknowledge it or part of it."""
        asked_s = time.monotonic()
        try:
            fetched = self._fetch(rpc)
        except grpc.RpcError as error:
            self.note(error, "fetching")
            self._epoch = 0
            self.pause()
            return
        self._epoch = fetched.epoch
        leased = [
            pb.OffsetRange(first_offset=d.first_offset, next_offset=d.next_offset)
            for d in fetched.deliveries
        ]
        for batch in fetched.batches:
            contents = pb.Records.FromString(batch.records).contents
            for offset, content in enumerate(contents, batch.base_offset):
                if any(each.first_offset <= offset < each.next_offset for each in leased):
                    self._processed.take(offset, content, asked_s)
        if not leased:
            return
        fate = self._rng.random()
        if fate < 0.03:
            # Killed before it acknowledges.
            self._vanish()
        elif fate < 0.06:
            # Killed with the acknowledgement in flight.
            rpc.later("Ack", self._ack(leased))
            self._vanish()
        else:
            self._acknowledge(rpc, leased)

    def _fetch(self, rpc: Rpc) -> pb.FetchResponse:
        request = pb.FetchRequest(
            channel=self._channel,
            group=GROUP,
            consumer=self.consumer,
            max_records=self._rng.choice((1, 20, 500)),
            max_wait_ms=300,
            lease_ms=LEASE_MS,
            epoch=self._epoch,
            config=pb.GroupConfig(mode=self._mode, max_deliveries=0, session_ms=1000),
        )
        raw = rpc.raw("Fetch", request.SerializeToString(), CALL_LIMIT_S)
        return pb.FetchResponse.FromString(raw)

    def _ack(self, leased: Sequence[pb.OffsetRange]) -> pb.AckRequest:
        return pb.AckRequest(
            channel=self._channel,
            group=GROUP,
            consumer=self.consumer,
            ranges=leased,
            epoch=self._epoch,
        )

    def _acknowledge(self, rpc: Rpc, leased: Sequence[pb.OffsetRange]) -> None:
        try:
            raw = rpc.raw("Ack", self._ack(leased).SerializeToString(), CALL_LIMIT_S)
        except grpc.RpcError as error:
            self.note(error, "acknowledging")
            self.pause()
        else:
            self._processed.acked(leased, pb.AckResponse.FromString(raw).refused)

    def _vanish(self) -> None:
        self.gone = True
        self.stopping.set()


class Herd:
    """As many consumers as there should be, others in the place of those that are gone."""

    def __init__(
        self,
        address: str,
        ledger: Ledger,
        processed: Processed,
        rng: random.Random,
        mode: pb.GroupMode,
    ) -> None:
        self._given = (address, ledger, processed)
        self._rng = rng
        self._mode = mode
        self._consumers: list[Consumer] = []

    def fill(self) -> None:
        """Start what is missing."""
        self._consumers = [each for each in self._consumers if not each.gone]
        while len(self._consumers) < CONSUMERS:
            own = random.Random(self._rng.getrandbits(64))
            consumer = Consumer(*self._given, own, self._mode)
            consumer.start()
            self._consumers.append(consumer)

    def end(self) -> None:
        """Stop them all."""
        for consumer in self._consumers:
            consumer.stopping.set()
        for consumer in self._consumers:
            consumer.join(CALL_LIMIT_S + 5)


def strike(rng: random.Random, place: Place) -> Outcome:
    """Kill broker and consumers several times; then let them finish, and check."""
    server = place.server("--segment-bytes", rng.choice(("64KiB", "64MiB")), *front(rng)).start()
    (channel,) = create_channels(server, 1)
    ledger, outcome = Ledger(), Outcome()
    ledger.of(channel)
    processed = Processed(ledger)
    mode = rng.choice((pb.GROUP_MODE_SHARED, pb.GROUP_MODE_SHARED, pb.GROUP_MODE_EXCLUSIVE))
    herd = Herd(server.address, ledger, processed, rng, mode)
    shape = Shape(batch_records_max=5, content_bytes_max=100)
    try:
        with Load(server.address, ledger, [channel], rng, shape=shape, follow=False) as load:
            for _ in range(KILLS):
                herd.fill()
                load.more(rng.randint(1, 200))
                time.sleep(rng.uniform(0, 1.0))
                server.kill()
                server.start()
            load.more(1)

        def done() -> bool:
            herd.fill()
            time.sleep(0.1)
            return behind(server.address, channel) == 0

        outcome.expect(until(done, FINISH_LIMIT_S), "the group does not come to the end")
    finally:
        herd.end()
    check(ledger, processed, channel, outcome)
    return settle(server, ledger, outcome, rounds=KILLS)


def behind(address: str, channel: str) -> int:
    """How many messages the group has still to do."""
    request = pb.DescribeGroupRequest(channel=channel, group=GROUP)
    with contextlib.closing(connect(address)) as rpc:
        try:
            raw = rpc.raw("DescribeGroup", request.SerializeToString(), CALL_LIMIT_S)
        except grpc.RpcError:
            return -1
    return int(pb.GroupInfo.FromString(raw).messages_behind)


def check(ledger: Ledger, processed: Processed, channel: str, outcome: Outcome) -> None:
    """Each acknowledged message was processed, and as it was published."""
    told = ledger.told(channel)
    missed = [o for o, known in told.items() if processed.contents.get(o) != known]
    outcome.lost += len(missed)
    outcome.expect(not missed, f"{len(missed)} messages were never processed: {missed[:5]}")
    outcome.doubled += processed.again


FAULT = Fault("groups", 19, "kill -9 of broker and consumers of a group", strike)
