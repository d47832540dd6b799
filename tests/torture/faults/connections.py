"""Clients that don't read, that go silent, and that are gone before their answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import grpc

from mq.pb import mq_pb2 as pb
from mq.server.fronts.base import KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS
from tests.conformance.rpc import Rpc, batch_request
from tests.helpers.server import ROOT, ServerError
from tests.server.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    headers,
    message,
)
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import Load, Shape, connect, contents_of, until
from tests.torture.oracle import settle
from tests.torture.place import Place, TortureServer, run

READERS = 40
STORED = 64
SILENT = 10
# All readers that don't read together may cost so much.
GROWTH_BYTES = 128 << 20
HASTY = 60
REAP_LIMIT_S = 2 * (KEEPALIVE_TIME_MS + KEEPALIVE_TIMEOUT_MS) / 1000


def strike(rng: random.Random, place: Place) -> Outcome:
    """All of them on one broker, beside publishers who go on."""
    link = Link.make(place) if place.number % 2 == 0 else None
    listen = "127.0.0.1:0" if link is None else f"{link.address}:0"
    server = place.server(*front(rng), listen=listen).start()
    channels = create_channels(server, 3)
    ledger, outcome = Ledger(), Outcome()
    stored, hasty, quiet = channels
    with contextlib.ExitStack() as stack:
        rpc = stack.enter_context(contextlib.closing(connect(server.address)))
        store(rng, rpc, ledger, stored)
        ledger.send(quiet, [b"only message"])
        ledger.acknowledge(quiet, rpc.publish(quiet, b"only message").offset, [b"only message"])
        go_silent(server, quiet, link, stack)
        waiting = until(lambda: rpc.describe(quiet).waiting_pulls == SILENT, 20)
        outcome.expect(waiting, f"{rpc.describe(quiet).waiting_pulls} pulls wait, not {SILENT}")
        if link is not None:
            link.cut()
        with Load(server.address, ledger, [stored], rng, shape=Shape(5, 100), follow=False) as load:
            load.more(10)
            check_slow_readers(server, rpc, stored, outcome)
            leave_early(rng, server, rpc, ledger, hasty, outcome)
            load.more(10)
        reaped = until(lambda: rpc.describe(quiet).waiting_pulls == 0, REAP_LIMIT_S)
        outcome.expect(reaped, f"silent connections are still there after {REAP_LIMIT_S:g} s")
    return settle(server, ledger, outcome, rounds=READERS + SILENT + HASTY)


def store(rng: random.Random, rpc: Rpc, ledger: Ledger, channel: str) -> None:
    """Something to be read: far more than connections and queues hold."""
    for serial in range(STORED):
        contents = contents_of(rng, "stored", serial, 4, 256 << 10)
        ledger.send(channel, contents)
        answer = rpc.publish_batch(channel, contents)
        ledger.acknowledge(channel, answer.base_offset, contents)


def check_slow_readers(server: TortureServer, rpc: Rpc, channel: str, outcome: Outcome) -> None:
    """Subscribers that read nothing cost little."""
    before = server.resident_bytes()
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(READERS):
            own = stack.enter_context(contextlib.closing(connect(server.address)))
            streams.append(own.subscribe(channel))
        # They are served, each up to its window.
        next(streams[0])
        rpc.describe(channel)
        asyncio.run(asyncio.sleep(3))
        growth = server.resident_bytes() - before
    outcome.expect(growth < GROWTH_BYTES, f"{READERS} slow readers cost {growth >> 20} MiB")


# ---- Gone before the answer ---------------------------------------------------


def leave_early(
    rng: random.Random,
    server: TortureServer,
    rpc: Rpc,
    ledger: Ledger,
    channel: str,
    outcome: Outcome,
) -> None:
    """Send a batch and hang up; then send it again: it is stored once."""
    for sequence in range(HASTY):
        contents = contents_of(rng, "hasty", sequence, rng.randint(1, 5), rng.randint(0, 2000))
        ledger.send(channel, contents)
        request = batch_request(channel, contents, producer_id=77, sequence=sequence)
        raw = request.SerializeToString()
        hang_up(rng, server.address, raw)
        try:
            answer = pb.PublishBatchResponse.FromString(rpc.raw("PublishBatch", raw))
        except grpc.RpcError as error:
            outcome.problem(f"a repeat is answered {error.code().name} {error.details()}")
            return
        ledger.acknowledge(channel, answer.base_offset, contents)


def hang_up(rng: random.Random, address: str, request: bytes) -> None:
    """A PublishBatch whose client is gone at some moment after it was sent."""
    with open_call(address, "PublishBatch", request) as sock:
        sock.settimeout(rng.choice((0.0001, 0.001, 0.01)))
        with contextlib.suppress(OSError):
            sock.recv(1)
        if rng.random() < 0.5:
            # A reset, not an orderly end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def open_call(address: str, method: str, request: bytes) -> socket.socket:
    """A connection with one call under way, of which nothing was read."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.sendall(
        PREFACE
        + frame(SETTINGS)
        + frame(HEADERS, END_HEADERS, 1, headers(f"/mq.MQService/{method}"))
        + frame(DATA, END_STREAM, 1, message(request))
    )
    return sock


# ---- Silent -------------------------------------------------------------------


def go_silent(
    server: TortureServer, channel: str, link: Link | None, stack: contextlib.ExitStack
) -> None:
    """Have connections that each wait in a pull, and never say anything again.

    Without a link that can be cut: the machine is there, the program is not.
    """
    request = pb.PullRequest(channel=channel, offset=1, max_wait_ms=3_600_000)
    if link is not None:
        link.enter(server.address, request.SerializeToString())
        return
    for _ in range(SILENT):
        raw = request.SerializeToString()
        stack.enter_context(open_call(server.address, "Pull", raw))


CLIENT = """
import sys, time
from tests.torture.faults.connections import SILENT, open_call
calls = [open_call(sys.argv[1], "Pull", bytes.fromhex(sys.argv[2])) for _ in range(SILENT)]
print("ready", flush=True)
time.sleep(3600)
"""


class Link:
    """A network of two, which can be cut: a namespace of its own holds the client."""

    def __init__(self, place: Place, host: subprocess.Popen[bytes]) -> None:
        self._place = place
        self._host = host
        number = os.getpid() % 250
        self._ours, self._theirs = f"mqt{os.getpid()}", f"mqc{os.getpid()}"
        self.address, self._client = f"10.213.{number}.1", f"10.213.{number}.2"

    @classmethod
    def make(cls, place: Place) -> Link | None:
        """Lay it; None where that is not possible."""
        tools = all(map(shutil.which, ("ip", "unshare", "nsenter")))
        if not tools or os.geteuid() != 0:
            return None
        # What keeps the namespace alive; it goes with this process's pipe.
        host = subprocess.Popen(("unshare", "--net", "cat"), stdin=subprocess.PIPE)
        place.stack.callback(host.wait)
        place.stack.callback(host.kill)
        link = cls(place, host)
        try:
            link._lay()
        except ServerError:
            return None
        return link

    def _inside(self, *command: str) -> tuple[str, ...]:
        return ("nsenter", "-t", str(self._host.pid), "-n", *command)

    def _lay(self) -> None:
        theirs_space = Path(f"/proc/{self._host.pid}/ns/net")
        until(lambda: not theirs_space.samefile("/proc/self/ns/net"), 5)
        ours, theirs = self._ours, self._theirs
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
        self._place.stack.callback(self._remove)
        run("ip", "link", "set", theirs, "netns", str(self._host.pid))
        run("ip", "addr", "add", f"{self.address}/24", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run(*self._inside("ip", "addr", "add", f"{self._client}/24", "dev", theirs))
        run(*self._inside("ip", "link", "set", theirs, "up"))

    def _remove(self) -> None:
        with contextlib.suppress(ServerError):
            run("ip", "link", "del", self._ours)

    def enter(self, address: str, request: bytes) -> None:
        """Start the client on its side, and wait until it has called."""
        command = (sys.executable, "-c", CLIENT, address, request.hex())
        client = subprocess.Popen(self._inside(*command), cwd=ROOT, stdout=subprocess.PIPE)
        self._place.stack.callback(client.wait)
        self._place.stack.callback(client.kill)
        assert client.stdout is not None
        if client.stdout.readline() != b"ready\n":
            raise ServerError("the client beyond the link did not call")

    def cut(self) -> None:
        """From now on nothing arrives on either side, and nobody is told."""
        run(*self._inside("ip", "link", "set", self._theirs, "down"))


FAULT = Fault("connections", 13, "slow, silent and vanished clients", strike)
