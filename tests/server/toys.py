"""Toy handlers and what a test needs to serve them on either front."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from grpc import aio

from mq.errors import DataLoss, OffsetOutOfRange
from mq.server.call import Call, Method
from mq.server.fronts.base import Front, Limits
from mq.server.fronts.choose import Chosen, make_front

T = TypeVar("T")

LIMIT_S = 20.0
FLOOD_BYTES = 64 * 1024
FLOOD_COUNT = 1024


class Toys:
    """Handlers of every kind, and what they have seen."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.cancelled: asyncio.Queue[Call] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.stalled = asyncio.Event()
        self.flooded = 0

    def methods(self) -> list[Method]:
        """The method table."""
        unary = ("echo", "hold", "bug", "refuse", "twice")
        streams = ("count", "flood", "linger", "damaged", "buggy", "explicit")
        return [Method(f"/toy.Toy/{name}", False, getattr(self, name)) for name in unary] + [
            Method(f"/toy.Toy/{name}", True, getattr(self, name)) for name in streams
        ]

    def echo(self, call: Call) -> None:
        """Answers at once."""
        call.reply(call.request)

    def hold(self, call: Call) -> None:
        """Never answers by itself; the test takes the call from `calls`."""
        call.on_cancel = lambda: self.cancelled.put_nowait(call)
        self.calls.put_nowait(call)

    def bug(self, call: Call) -> None:
        """Has one."""
        raise ValueError("the secret of " + call.request.decode())

    def refuse(self, call: Call) -> None:
        """Fails as the project's handlers do."""
        raise OffsetOutOfRange("17 is past the end; pull from 5 to 9 \u2713", 5, 9)

    def twice(self, call: Call) -> None:
        """Answers more than once; only the first counts."""
        call.reply(b"first")
        call.reply(b"second")
        call.fail(DataLoss("third", 0, 1))

    async def count(self, call: Call) -> None:
        """Streams as many numbers as asked for."""
        for number in range(int(call.request)):
            if not await call.send(b"%d" % number):
                return

    async def flood(self, call: Call) -> None:
        """Streams more than a client that does not read can take."""
        try:
            for number in range(FLOOD_COUNT):
                sending = asyncio.ensure_future(
                    call.send(b"%08d" % number + bytes(FLOOD_BYTES - 8))
                )
                done, _ = await asyncio.wait([sending], timeout=1.0)
                if not done:
                    self.stalled.set()
                if not await sending:
                    break
                self.flooded += 1
        finally:
            self.ended.put_nowait("flood")

    async def linger(self, call: Call) -> None:
        """Sends one message, then waits until it is cancelled."""
        call.on_cancel = lambda: self.cancelled.put_nowait(call)
        await call.send(b"here")
        self.calls.put_nowait(call)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.put_nowait("linger")

    async def damaged(self, call: Call) -> None:
        """Fails in the middle."""
        await call.send(b"good")
        raise DataLoss("records 3 to 6 are damaged", 3, 7)

    async def buggy(self, call: Call) -> None:
        """Has a bug in the middle."""
        await call.send(b"good")
        raise KeyError("secret")

    async def explicit(self, call: Call) -> None:
        """Ends its stream itself, then goes on."""
        await call.send(b"only")
        call.end()
        call.end()
        self.ended.put_nowait("sent" if await call.send(b"more") else "over")


@dataclass
class Counts:
    """A `CallObserver` that remembers."""

    started_ids: list[int] = field(default_factory=list)
    finished_codes: list[tuple[int, int]] = field(default_factory=list)

    def started(self, method_id: int) -> None:
        """Remember it."""
        self.started_ids.append(method_id)

    def finished(self, method_id: int, code: int) -> None:
        """Remember it."""
        self.finished_codes.append((method_id, code))

    def codes(self) -> list[int]:
        """The codes of all calls that ended."""
        return [code for _, code in self.finished_codes]


@dataclass
class Served:
    """A running front, a client of it, and the toys it serves."""

    front: Front
    channel: aio.Channel
    toys: Toys
    counts: Counts

    def unary(self, name: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
        """A raw unary method of the toy service."""
        return unary(self.channel, f"/toy.Toy/{name}")

    def stream(self, name: str) -> aio.UnaryStreamMultiCallable[bytes, bytes]:
        """A raw streaming method of the toy service."""
        return self.channel.unary_stream(f"/toy.Toy/{name}")


LIMITS = Limits(max_recv_bytes=100_000, max_concurrent_calls=5000)
CLIENT_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A channel of its own: otherwise one in the process is shared by address.
    ("grpc.use_local_subchannel_pool", 1),
]


Unary = aio.UnaryUnaryMultiCallable[bytes, bytes]


def unary(channel: aio.Channel, path: str) -> Unary:
    """A raw unary method."""
    method: Unary = channel.unary_unary(path)
    return method


def connect(address: str) -> aio.Channel:
    """A raw client's channel."""
    return aio.insecure_channel(address, options=CLIENT_OPTIONS)


@contextlib.asynccontextmanager
async def serving(
    name: Chosen,
    listen: Sequence[str] = ("127.0.0.1:0",),
    limits: Limits = LIMITS,
    methods: Sequence[Method] = (),
    extra: Sequence[grpc.GenericRpcHandler] = (),
) -> AsyncIterator[Served]:
    """Run a front with the toys (and further methods), and a client of its first address."""
    toys, counts = Toys(), Counts()
    front = make_front(name, [*toys.methods(), *methods], listen, limits, counts, extra)
    await front.start()
    try:
        async with connect(front.bound[0]) as channel:
            yield Served(front, channel, toys, counts)
    finally:
        await front.stop(0)


async def soon(queue: asyncio.Queue[T]) -> T:
    """The next item, within the limit."""
    async with asyncio.timeout(LIMIT_S):
        return await queue.get()


async def failure(call: aio.UnaryUnaryCall[bytes, bytes]) -> aio.AioRpcError:
    """The error that a call ends with."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError(f"the call succeeded: {answer!r}")


def trailers(error: aio.AioRpcError) -> dict[str, str | bytes]:
    """The trailing metadata."""
    return dict(error.trailing_metadata())
