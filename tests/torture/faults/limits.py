"""Few file descriptors, little memory, very many channels."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc

from tests.conformance.rpc import Rpc
from tests.helpers.server import ServerError
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import connect, contents_of, until
from tests.torture.oracle import settle
from tests.torture.place import Place, TortureServer, memory_controller, needs

DESCRIPTORS = 64
CHANNELS = 40
MEMORY_BYTES = 200 << 20
STORED_BYTES = 400 << 20
MANY = 10_000
CREATORS = 8
LIMIT_S = 30.0


def strike(rng: random.Random, place: Place) -> Outcome:
    """One of the limits, in turn."""
    kinds = (few_descriptors, little_memory, few_descriptors, many_channels)
    return kinds[place.number % len(kinds)](rng, place)


def publish(
    rpc: Rpc, ledger: Ledger, channel: str, rng: random.Random, serial: int, count: int, size: int
) -> bool:
    """Publish a batch once and note the answer; whether it was acknowledged."""
    contents = contents_of(rng, channel, serial, count, size)
    ledger.send(channel, contents)
    try:
        answer = rpc.publish_batch(channel, contents)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            ledger.refuse(channel, contents)
        elif error.code() is not grpc.StatusCode.UNAVAILABLE:
            ledger.problem(f"publishing under a limit: {error.code().name} {error.details()}")
        return False
    ledger.acknowledge(channel, answer.base_offset, contents)
    return True


# ---- Descriptors --------------------------------------------------------------


def few_descriptors(rng: random.Random, place: Place) -> Outcome:
    """Many more channels and connections than descriptors."""
    prefix = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--")
    server = place.server("--segment-bytes", "64KiB", *front(rng), prefix=prefix).start()
    channels = create_channels(server, CHANNELS)
    ledger, outcome = Ledger(), Outcome()
    with contextlib.closing(connect(server.address)) as rpc:
        for serial in range(4):
            for channel in channels:
                publish(rpc, ledger, channel, rng, serial, rng.randint(1, 9), 3000)
        outcome.expect(ledger.acknowledged, "with few descriptors nothing can be published")
        check_bounded(server, outcome)
        with contextlib.ExitStack() as stack:
            # Some of them wait to be accepted, for as long as there are too many.
            for _ in range(2 * DESCRIPTORS):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for channel in rng.sample(channels, 5):
                publish(rpc, ledger, channel, rng, 100, 1, 10)
        serials = iter(range(1000, 100_000))
        works = until(lambda: publish(rpc, ledger, channels[0], rng, next(serials), 1, 10), LIMIT_S)
        outcome.expect(works, "after too many connections, publishing does not go on")
    return settle(server, ledger, outcome, rounds=1)


def check_bounded(server: TortureServer, outcome: Outcome) -> None:
    """Maps are as few as open files."""
    lines = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
    maps = sum(line.endswith(".seg") for line in lines)
    outcome.expect(maps <= DESCRIPTORS, f"{maps} segments are mapped")


# ---- Memory -------------------------------------------------------------------


def little_memory(rng: random.Random, place: Place) -> Outcome:
    """More is stored, and read, than there is memory for."""
    outcome = Outcome()
    if not memory_can_be_limited():
        return outcome
    server = place.server(*front(rng), prefix=place.memory_limit(MEMORY_BYTES)).start()
    (channel,) = create_channels(server, 1)
    ledger = Ledger()
    with contextlib.closing(connect(server.address)) as rpc:
        for serial in range(STORED_BYTES // (3 << 20)):
            publish(rpc, ledger, channel, rng, serial, 3, 1 << 20)
    outcome.expect(server.running, "with little memory the server has died while writing")
    return settle(server, ledger, outcome, rounds=1)


def memory_can_be_limited() -> bool:
    """Whether there are control groups that we may use."""
    try:
        memory_controller()
    except ServerError:
        return False
    return True


# ---- Channels -----------------------------------------------------------------


def many_channels(rng: random.Random, place: Place) -> Outcome:
    """Ten thousand channels, each with something in it."""
    server = place.server(*front(rng)).start()
    ledger, outcome = Ledger(), Outcome()
    names = [f"torture-{number}" for number in range(MANY)]
    seeds = [rng.getrandbits(64) for _ in range(CREATORS)]
    creators = [
        threading.Thread(target=create, args=(server, ledger, names[n::CREATORS], seeds[n]))
        for n in range(CREATORS)
    ]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join()
    if rng.random() < 0.5:
        server.kill()
    else:
        server.stop(60)
    server.start(120)
    count = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    outcome.expect(count < MANY, f"{count} descriptors are open")
    return settle(server, ledger, outcome, rounds=1)


def create(server: TortureServer, ledger: Ledger, names: Sequence[str], seed: int) -> None:
    """Make channels and publish to each."""
    rng = random.Random(seed)
    with contextlib.closing(connect(server.address)) as rpc:
        for name in names:
            try:
                rpc.create(name, retention_bytes=0)
            except grpc.RpcError as error:
                ledger.problem(f"creating {name}: {error.code().name} {error.details()}")
                return
            publish(rpc, ledger, name, rng, 0, 3, 50)


FAULT = Fault(
    "limits", 10, "64 descriptors, little memory, 10,000 channels", strike, needs("prlimit")
)
