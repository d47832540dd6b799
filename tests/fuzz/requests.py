"""Any bytes to any method are answered once: with a response, or an error that is no bug."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from typing import Any

from mq.broker.broker import Broker
from mq.broker.model import BrokerConfig
from mq.errors import MQError
from mq.pb import mq_pb2 as pb
from mq.server.call import Metadata, Method
from mq.server.service.table import methods
from tests.fuzz.harness import Harness, scratch
from tests.log.batches import FAST_FILES, encode_records

# Of the table, in its order: an input's first byte chooses.
NAMES = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["MQService"].methods)
CHANNEL = "c"
# How long a client waits here; then it is gone.
_PATIENCE_S = 0.02
_LIMIT_S = 20.0
# A broker that has been told to make channels and groups again and again is replaced.
_RUNS_MAX = 1000


class FakeCall:
    """A call without a front."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self.request = request
        self.peer = "fuzz:"
        self.metadata: Metadata = ()
        self.deadline: float | None = deadline
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.answers = 0
        self.error: MQError | None = None
        self.over = asyncio.Event()

    def reply(self, response: bytes) -> None:
        """See `Call`."""
        assert isinstance(response, bytes)
        self._end()

    def fail(self, error: MQError) -> None:
        """See `Call`."""
        self.error = error
        self._end()

    def end(self) -> None:
        """See `Call`."""
        self._end()

    def _end(self) -> None:
        if not self.over.is_set():
            self.answers += 1
        self.over.set()

    async def send(self, message: bytes) -> bool:
        """See `Call`."""
        await asyncio.sleep(0)
        return not self.over.is_set()

    def give_up(self) -> None:
        """The client is gone."""
        self.cancelled = True
        callback, self.on_cancel = self.on_cancel, None
        if callback is not None:
            callback()


class Quiet:
    """Takes what the broker tells; an error of a thread is a bug."""

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    warning = info

    def error(self, event: str, **fields: Any) -> None:
        """Noted."""
        assert event != "thread_failed", fields


class Bench:
    """A broker in memory, and a loop to run it."""

    def __init__(self) -> None:
        self.runs = 0
        self._directory = scratch()
        self._loop = asyncio.new_event_loop()
        config = BrokerConfig(self._directory / "data", free_bytes_min=0)
        self._broker = Broker(config, Quiet(), files=FAST_FILES)
        self._table = self._loop.run_until_complete(self._start())

    async def _start(self) -> dict[str, Method]:
        await self._broker.start()
        table = methods(self._broker, 500, asyncio.Event())
        return {method.path.rpartition("/")[2]: method for method in table}

    def call(self, name: str, request: bytes) -> None:
        """Make a call on a channel that is there, and see how it ends."""
        self.runs += 1
        self._loop.run_until_complete(self._call(name, request))

    async def _call(self, name: str, request: bytes) -> None:
        create = pb.CreateChannelRequest(channel=CHANNEL).SerializeToString()
        for method, content in (("CreateChannel", create), (name, request)):
            await self._one(self._table[method], content)

    async def _one(self, method: Method, request: bytes) -> None:
        call = FakeCall(request, self._loop.time() + _PATIENCE_S)
        task = None
        with contextlib.suppress(MQError):
            work = method.handler(call)
            if work is not None:
                task = self._loop.create_task(work)
                task.add_done_callback(lambda _: call.over.set())
            try:
                await asyncio.wait_for(call.over.wait(), _PATIENCE_S * 2 if task else _LIMIT_S)
            except TimeoutError:
                assert task is not None, f"{method.path} is not answered: {request!r}"
                call.give_up()
                task.cancel()
        if task is not None:
            with contextlib.suppress(asyncio.CancelledError, MQError):
                await task
        assert call.answers <= 1
        assert call.error is None or call.error.code != "INTERNAL", call.error

    def close(self) -> None:
        """Stop the broker and remove its files."""
        self._loop.run_until_complete(self._broker.stop(1))
        self._loop.close()
        shutil.rmtree(self._directory)


_bench: list[Bench] = []


def run(data: bytes) -> None:
    """Give the rest to the method that the first byte names."""
    if not data:
        return
    if not _bench:
        _bench.append(Bench())
    bench = _bench[0]
    bench.call(NAMES[data[0] % len(NAMES)], data[1:])
    if bench.runs >= _RUNS_MAX:
        end()


def end() -> None:
    """Stop the broker."""
    while _bench:
        _bench.pop().close()


def seeds() -> list[bytes]:
    """A proper request to each method, and some that are nearly proper."""
    records = encode_records([b"a", b"b"])
    position = pb.StartPosition(position=pb.OFFSET_BEGINNING)
    ranges = [pb.OffsetRange(first_offset=0, next_offset=2)]
    group: dict[str, Any] = {"channel": CHANNEL, "group": "g"}
    consumer = group | {"consumer": "x"}
    given: dict[str, Any] = {
        "CreateChannel": pb.CreateChannelRequest(
            channel="d", config=pb.ChannelConfig(compact=True)
        ),
        "Publish": pb.PublishRequest(channel=CHANNEL, content=b"content"),
        "Subscribe": pb.SubscribeRequest(channel=CHANNEL, offset=pb.OFFSET_BEGINNING),
        "PublishBatch": pb.PublishBatchRequest(
            channel=CHANNEL,
            records=records,
            producer_id=7,
            sequence=1,
            durability=pb.DURABILITY_SYNCED,
        ),
        "Pull": pb.PullRequest(channel=CHANNEL, offset=0, max_records=2, max_wait_ms=1),
        "ListChannels": pb.ListChannelsRequest(prefix="c", page_size=2),
        "DescribeChannel": pb.DescribeChannelRequest(channel=CHANNEL),
        "ConfigureChannel": pb.ConfigureChannelRequest(
            channel=CHANNEL, config=pb.ChannelConfig(retention_ms=1000, max_message_bytes=5000)
        ),
        "DeleteChannel": pb.DeleteChannelRequest(channel=CHANNEL),
        "PurgeChannel": pb.PurgeChannelRequest(channel=CHANNEL, before_offset=1),
        "Fetch": pb.FetchRequest(
            **consumer,
            max_records=2,
            start=position,
            config=pb.GroupConfig(mode=pb.GROUP_MODE_SHARED, lease_ms=50),
        ),
        "Ack": pb.AckRequest(**consumer, ranges=ranges),
        "Nack": pb.NackRequest(**consumer, ranges=ranges, delay_ms=1, reason="why"),
        "Extend": pb.ExtendRequest(**consumer, ranges=ranges, lease_ms=10),
        "Release": pb.ReleaseRequest(**consumer),
        "CreateGroup": pb.CreateGroupRequest(
            **group, start=position, config=pb.GroupConfig(mode=pb.GROUP_MODE_EXCLUSIVE)
        ),
        "ListGroups": pb.ListGroupsRequest(channel=CHANNEL),
        "DescribeGroup": pb.DescribeGroupRequest(**group),
        "SeekGroup": pb.SeekGroupRequest(**group, start=pb.StartPosition(time_ns=1)),
        "DeleteGroup": pb.DeleteGroupRequest(**group),
        "RedriveGroup": pb.RedriveGroupRequest(**group, max_records=3),
        "CommitOffset": pb.CommitOffsetRequest(**group, offset=1),
        "CommittedOffset": pb.CommittedOffsetRequest(**group),
    }
    assert given.keys() == set(NAMES), "a method without a seed"
    return [bytes((NAMES.index(name),)) + r.SerializeToString() for name, r in given.items()]


HARNESS = Harness("requests", run, seeds, end)
