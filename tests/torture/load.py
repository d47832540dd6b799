"""Publishers and consumers that go on across restarts, and write down what they are told.

A batch has a producer and a sequence: it is sent again, the same, until an
answer says what became of it, and is stored once. A single message is sent
once; without an answer, nothing is known of it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Pulled, Rpc, batch_request
from tests.torture.ledger import Ledger

# Connections come back soon after a restart.
RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    # This one is how long a connection may take.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 200),
)
CALL_LIMIT_S = 5.0
JOIN_LIMIT_S = 60.0
PAUSE_S = 0.02
_REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED,)
# These say that mq or this client has a bug, whatever the disk does.
_BUGS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DATA_LOSS,
)


def connect(address: str) -> Rpc:
    """A client that reconnects soon."""
    return Rpc(address, RECONNECT)


def contents_of(rng: random.Random, who: str, serial: int, count: int, size: int) -> list[bytes]:
    """Contents that are each unique: who, which batch, which of it, and any bytes."""
    body = rng.randbytes(size)
    return [b"%s/%d/%d:" % (who.encode(), serial, index) + body for index in range(count)]


class Worker(threading.Thread):
    """A thread with a connection, which goes on until it is stopped."""

    def __init__(self, address: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.ledger = ledger
        self.stopping = threading.Event()
        self._address = address

    def run(self) -> None:
        """Work, and note an exception as a problem."""
        rpc = connect(self._address)
        try:
            while not self.stopping.is_set():
                self.step(rpc)
        except Exception as error:  # noqa: BLE001 a bug here must not look like success
            self.ledger.problem(f"{self.name}: {error!r}")
        finally:
            rpc.close()

    def step(self, rpc: Rpc) -> None:
        """A piece of work."""
        raise NotImplementedError

    def pause(self) -> None:
        """Between two tries."""
        self.stopping.wait(PAUSE_S)

    def note(self, error: grpc.RpcError, what: str) -> grpc.StatusCode:
        """Why a call failed; noted if it never should."""
        call: Any = error
        code: grpc.StatusCode = call.code()
        reason = dict(call.trailing_metadata() or ()).get("mq-reason")
        if code in _BUGS or reason == "sequence-gap":
            self.ledger.problem(f"{what}: {code.name} {call.details()}")
        return code


class Shape:
    """How much a publisher sends."""

    def __init__(
        self,
        batch_records_max: int = 20,
        content_bytes_max: int = 2000,
        durability: int = pb.DURABILITY_DEFAULT,
    ) -> None:
        self.batch_records_max = batch_records_max
        self.content_bytes_max = content_bytes_max
        self.durability = durability


class BatchPublisher(Worker):
    """Publishes batches one after another, each until it is known what became of it."""

    def __init__(
        self, address: str, ledger: Ledger, channel: str, rng: random.Random, shape: Shape
    ) -> None:
        super().__init__(address, ledger)
        self._channel = channel
        self._rng = rng
        self._shape = shape
        self._producer_id = rng.getrandbits(63) | 1
        self._sequence = 0
        self._serial = 0

    def step(self, rpc: Rpc) -> None:
        """Publish one batch."""
        shape, self._serial = self._shape, self._serial + 1
        contents = contents_of(
            self._rng,
            f"{self._producer_id:x}",
            self._serial,
            self._rng.randint(1, shape.batch_records_max),
            self._rng.randint(0, shape.content_bytes_max),
        )
        request = batch_request(
            self._channel,
            contents,
            producer_id=self._producer_id,
            sequence=self._sequence,
            durability=shape.durability,
        ).SerializeToString()
        self.ledger.send(self._channel, contents)
        unknown = False
        while not self.stopping.is_set():
            try:
                raw = rpc.raw("PublishBatch", request, CALL_LIMIT_S)
            except grpc.RpcError as error:
                code = self.note(error, f"publishing to {self._channel}")
                # After an earlier try without an answer, a refusal is only that of this one.
                if code in _REFUSED and not unknown:
                    self.ledger.refuse(self._channel, contents)
                    self.pause()
                    return
                unknown = unknown or code not in _REFUSED
                self.pause()
            else:
                answer = pb.PublishBatchResponse.FromString(raw)
                if answer.record_count != len(contents):
                    self.ledger.problem(f"{self._channel}: acknowledged {answer.record_count}")
                self._sequence += 1
                self.ledger.acknowledge(self._channel, answer.base_offset, contents)
                return


class SinglePublisher(Worker):
    """Publishes single messages, several calls at a time, each once."""

    def __init__(
        self, address: str, ledger: Ledger, channel: str, rng: random.Random, calls: int = 8
    ) -> None:
        super().__init__(address, ledger)
        self._channel = channel
        self._rng = rng
        self._calls = calls
        self._who = f"{rng.getrandbits(63):x}"
        self._serial = 0

    def step(self, rpc: Rpc) -> None:
        """Publish some messages side by side."""
        self._serial += 1
        size = self._rng.randint(0, 300)
        contents = contents_of(self._rng, self._who, self._serial, self._calls, size)
        self.ledger.send(self._channel, contents)
        requests = [pb.PublishRequest(channel=self._channel, content=each) for each in contents]
        calls = [rpc.later("Publish", request, CALL_LIMIT_S) for request in requests]
        failed = False
        for content, call in zip(contents, calls, strict=True):
            try:
                answer = pb.PublishResponse.FromString(call.result())
            except grpc.RpcError as error:
                failed = True
                code = self.note(error, f"publishing to {self._channel}")
                if code in _REFUSED:
                    self.ledger.refuse(self._channel, [content])
            else:
                self.ledger.acknowledge(self._channel, answer.offset, [content])
        if failed:
            self.pause()


class Follower(Worker):
    """Reads a channel from its beginning on, and notes all that it is shown."""

    def __init__(self, address: str, ledger: Ledger, channel: str) -> None:
        super().__init__(address, ledger)
        self._channel = channel
        self._offset = 0

    def step(self, rpc: Rpc) -> None:
        """Pull once."""
        request = pb.PullRequest(channel=self._channel, offset=self._offset, max_wait_ms=300)
        try:
            pulled = Pulled(rpc.raw("Pull", request.SerializeToString(), CALL_LIMIT_S))
        except grpc.RpcError as error:
            code = self.note(error, f"reading {self._channel}")
            if code is grpc.StatusCode.OUT_OF_RANGE:
                self._moved(error)
            self.pause()
            return
        for offset, content in pulled.records():
            self.ledger.see(self._channel, offset, content)
        self._offset = pulled.answer.next_offset

    def _moved(self, error: grpc.RpcError) -> None:
        call: Any = error
        told = dict(call.trailing_metadata() or ())
        start, end = int(told["mq-log-start-offset"]), int(told["mq-next-offset"])
        if self._offset > end:
            self.ledger.problem(
                f"{self._channel}: the log ends at {end}, and was read up to {self._offset}"
            )
        self._offset = max(start, min(self._offset, end))


class Load:
    """Publishers and followers on some channels of one server."""

    def __init__(
        self,
        address: str,
        ledger: Ledger,
        channels: Sequence[str],
        rng: random.Random,
        *,
        shape: Shape | None = None,
        publishers: int = 2,
        singles: bool = True,
        follow: bool = True,
    ) -> None:
        """Prepare ``publishers`` of batches a channel, and one of single messages.

        Args:
            address: Of the server.
            ledger: Told of everything.
            channels: Exist, or will.
            rng: For the sizes and contents.
            shape: Of the batches.
            publishers: Batch publishers a channel.
            singles: Whether there is one of single messages as well.
            follow: Whether the channels are read meanwhile.
        """
        self.ledger = ledger
        self._workers: list[Worker] = []

        def own() -> random.Random:
            return random.Random(rng.getrandbits(64))

        for channel in channels:
            shape = shape or Shape()
            self._workers += [
                BatchPublisher(address, ledger, channel, own(), shape) for _ in range(publishers)
            ]
            if singles:
                self._workers.append(SinglePublisher(address, ledger, channel, own()))
            if follow:
                self._workers.append(Follower(address, ledger, channel))

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.stopping.set()
        for worker in self._workers:
            worker.join(JOIN_LIMIT_S)
            if worker.is_alive():
                self.ledger.problem(f"{type(worker).__name__} did not end")

    def more(self, count: int, limit_s: float = 30.0) -> bool:
        """Wait until so many more messages are acknowledged; a problem is noted if not."""
        done = self.ledger.wait_acknowledged(self.ledger.acknowledged + count, limit_s)
        if not done:
            self.ledger.problem(f"not {count} messages more within {limit_s:g} s")
        return done


def until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Ask again and again; whether it held before the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_S)
    return True
