"""Requests that are no requests, limits passed by one byte, compressed bombs, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import grpc

from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Rpc, batch_request
from tests.server.raw_http2 import DATA, HEADERS, RST_STREAM, SETTINGS, RawConnection, frame
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import Load, connect
from tests.torture.oracle import settle
from tests.torture.place import Place, TortureServer

METHODS = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["MQService"].methods)
REQUESTS = 400
GARBAGE = 40
BOMB_BYTES = 256 << 20
MAX_RECV_BYTES = 1 << 20
# What all of this may cost at most, the bomb included.
GROWTH_BYTES = 160 << 20
CALL_LIMIT_S = 3.0
# What a request that is no request may be answered with.
FINE = frozenset(
    {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
        # A wait that was asked for.
        "DEADLINE_EXCEEDED",
    }
)


def strike(rng: random.Random, place: Place) -> Outcome:
    """All of it, beside publishers who do as they should."""
    options = ("--segment-bytes", "256KiB", "--max-recv-bytes", str(MAX_RECV_BYTES))
    server = place.server(*options, *front(rng)).start()
    channels = create_channels(server, 2)
    ledger, outcome = Ledger(), Outcome()
    with Load(server.address, ledger, channels, rng) as load:
        load.more(20)
        before = server.resident_bytes()
        with contextlib.closing(connect(server.address)) as rpc:
            send_nonsense(rng, rpc, outcome)
            check_limit(rng, rpc, ledger, outcome)
        drop_bomb(server, outcome)
        asyncio.run(send_garbage(rng, server.address))
        outcome.expect(server.running, "the server has died")
        growth = server.resident_bytes() - before
        outcome.expect(growth < GROWTH_BYTES, f"it has taken {growth >> 20} MiB more")
        load.more(20)
    return settle(server, ledger, outcome, rounds=REQUESTS + GARBAGE + 1)


# ---- Requests -----------------------------------------------------------------


def send_nonsense(rng: random.Random, rpc: Rpc, outcome: Outcome) -> None:
    """Random bytes, and requests with some bytes changed, to every method."""
    for _ in range(REQUESTS):
        method = rng.choice(METHODS)
        request = nonsense(rng)
        code = code_of(rpc, method, request)
        outcome.expect(code in FINE, f"{method} answers {request[:60]!r} with {code}")


def nonsense(rng: random.Random) -> bytes:
    """Bytes that may nearly be a request."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.choice((0, 1, 3, 20, 300)))
    # A channel that does not exist: what does, is the ledger's.
    good = rng.choice(
        (
            batch_request("nonsense", [b"a", b"b"], producer_id=1, sequence=1),
            pb.PullRequest(channel="nonsense", offset=3),
            pb.FetchRequest(channel="nonsense", group="g", consumer="c"),
            pb.AckRequest(channel="nonsense", ranges=[pb.OffsetRange(next_offset=1)]),
            pb.PublishRequest(channel="nonsense", content=b"content"),
        )
    )
    data = bytearray(good.SerializeToString())
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(data))
        kind = rng.randrange(3)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 4))
        else:
            del data[at : at + rng.randint(1, 4)]
        data = data or bytearray(b"\x0a")
    return bytes(data)


def code_of(rpc: Rpc, method: str, request: bytes) -> str:
    """How a call ends, of a unary method or of a stream."""
    try:
        if method == "Subscribe":
            for _ in rpc.stream(method, request, 0.2):
                break
        else:
            rpc.raw(method, request, CALL_LIMIT_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def check_limit(rng: random.Random, rpc: Rpc, ledger: Ledger, outcome: Outcome) -> None:
    """The largest request is taken, and one of a byte more is not."""
    (channel, *_) = ledger.channels
    overhead = len(
        pb.PublishRequest(channel=channel, content=bytes(MAX_RECV_BYTES)).SerializeToString()
    )
    size = 2 * MAX_RECV_BYTES - overhead
    for more, wanted in ((0, "OK"), (1, "RESOURCE_EXHAUSTED")):
        content = rng.randbytes(size + more)
        request = pb.PublishRequest(channel=channel, content=content).SerializeToString()
        assert len(request) == MAX_RECV_BYTES + more
        ledger.send(channel, [content])
        try:
            answer = pb.PublishResponse.FromString(rpc.raw("Publish", request))
        except grpc.RpcError as error:
            code = error.code().name
            ledger.refuse(channel, [content])
        else:
            code = "OK"
            ledger.acknowledge(channel, answer.offset, [content])
        outcome.expect(code == wanted, f"{len(request)} bytes, limit {MAX_RECV_BYTES}: {code}")


def drop_bomb(server: TortureServer, outcome: Outcome) -> None:
    """A quarter of a gigabyte of zeros, sent as a quarter of a megabyte."""
    options = [("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(
        server.address, options=options, compression=grpc.Compression.Gzip
    )
    request = pb.PublishRequest(channel="bomb", content=bytes(BOMB_BYTES)).SerializeToString()
    with channel:
        call: Any = channel.unary_unary("/mq.MQService/Publish")
        try:
            call(request, timeout=30)
        except grpc.RpcError as error:
            code = error.code().name
        else:
            code = "OK"
    outcome.expect(code in ("UNIMPLEMENTED", "RESOURCE_EXHAUSTED"), f"a bomb is answered {code}")


# ---- Connections --------------------------------------------------------------


async def send_garbage(rng: random.Random, address: str) -> None:
    """What no proper client would say."""
    for _ in range(GARBAGE):
        connection = await RawConnection.open(address, greet=rng.random() < 0.8)
        for _ in range(rng.randint(1, 20)):
            if connection.writer.is_closing():
                break
            kind = rng.choice((DATA, HEADERS, RST_STREAM, SETTINGS, rng.randrange(256)))
            payload = rng.randbytes(rng.choice((0, 4, 8, 100, 5000)))
            connection.send(
                frame(kind, rng.randrange(256), rng.randrange(10), payload)
                if rng.random() < 0.8
                else payload
            )
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(connection.writer.drain(), 1)
        await connection.close()


FAULT = Fault("malformed", 15, "malformed requests, size limits, a gzip bomb", strike)
