"""A broker in memory behind the client's interface, and a way to run ``mq`` against it."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import pytest
from click.testing import CliRunner

from mq.cli import cli, exits
from mq.cli.connection import Connection
from mq.client.types import ChannelConfig, ChannelInfo, Receipt
from mq.errors import ChannelNotFound, DataLoss, MessageTooLarge, MQError, OffsetOutOfRange
from tests.helpers.server import ServerProcess

START_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000


class FakeMessage(NamedTuple):
    """A stored record."""

    offset: int
    content: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    append_time_ns: int


@dataclass
class _Batch:
    """Consecutive records."""

    records: list[FakeMessage]

    @property
    def contents(self) -> list[bytes]:
        return [record.content for record in self.records]

    @property
    def base_offset(self) -> int:
        return self.records[0].offset

    @property
    def record_count(self) -> int:
        return len(self.records)

    def messages(self) -> Iterator[FakeMessage]:
        return iter(self.records)


class _PullResult(NamedTuple):
    batches: list[_Batch]
    next_offset: int
    log_start_offset: int
    durable_offset: int


@dataclass
class FakeChannel:
    """A log: one record a second, ``batch_records`` to a batch."""

    config: ChannelConfig = field(default_factory=ChannelConfig)
    records: list[FakeMessage] = field(default_factory=list)
    damaged: tuple[int, int] | None = None
    batch_records: int = 3


class _Handle:
    """Answered when the producer is flushed, or has gathered enough."""

    def __init__(self) -> None:
        self.outcome: Receipt | MQError | None = None

    @property
    def done(self) -> bool:
        return self.outcome is not None

    def result(self, timeout_s: float | None = None) -> Receipt:
        assert self.outcome is not None, "asked for a result that nobody will bring"
        if isinstance(self.outcome, MQError):
            raise self.outcome
        return self.outcome


class FakeBroker:
    """Channels by name, and what was asked of it."""

    def __init__(self) -> None:
        self.channels: dict[str, FakeChannel] = {}
        self.connections: list[Connection] = []
        self.unreachable: MQError | None = None
        self.on_send: Callable[[int], None] = lambda _sent: None
        self.on_wait: Callable[[], object] = lambda: None
        self.flush_every = 7
        self.schedules: list[dict[str, int]] = []

    def add(self, name: str, contents: Sequence[bytes] = (), **config: Any) -> FakeChannel:
        """A channel with these messages."""
        channel = self.channels[name] = FakeChannel(ChannelConfig(**config))
        for content in contents:
            self.append(name, content)
        return channel

    def append(
        self,
        name: str,
        content: bytes,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Receipt:
        """Store one message."""
        channel = self.find(name)
        limit = channel.config.max_message_bytes
        if limit is not None and len(content) > limit:
            raise MessageTooLarge(f"{len(content)} bytes are over the limit of {limit}")
        offset = len(channel.records)
        time_ns = START_NS + offset * SECOND_NS
        channel.records.append(FakeMessage(offset, content, key, headers, time_ns))
        return Receipt(offset, time_ns, "synced", duplicate=False)

    def find(self, name: str) -> FakeChannel:
        """A channel that is there."""
        if name not in self.channels:
            raise ChannelNotFound(f"there is no channel {name!r}")
        return self.channels[name]

    def contents(self, name: str) -> list[bytes]:
        """What a channel holds."""
        return [record.content for record in self.find(name).records]


class _Producer:
    def __init__(self, broker: FakeBroker, channel: str) -> None:
        self.broker = broker
        self.channel = channel
        self.waiting: list[tuple[_Handle, tuple[Any, ...]]] = []
        self.sent = 0

    def send(self, content: bytes, key: bytes | None = None, headers: Any = ()) -> _Handle:
        handle = _Handle()
        self.waiting.append((handle, (content, key, tuple(headers))))
        self.sent += 1
        if len(self.waiting) >= self.broker.flush_every:
            self.flush()
        self.broker.on_send(self.sent)
        return handle

    def flush(self) -> None:
        for handle, record in self.waiting:
            try:
                handle.outcome = self.broker.append(self.channel, *record)
            except MQError as error:
                handle.outcome = error
        self.waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()


class _Subscription:
    def __init__(self, client: _Client, channel: str, start: Any, on_damage: str) -> None:
        self.client = client
        self.channel = channel
        self.start = start
        self.on_damage = on_damage
        self.skipped = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def batches(self) -> Iterator[_Batch]:
        position = self.start
        while True:
            try:
                result = self.client.pull(self.channel, position)
            except DataLoss as error:
                if self.on_damage == "raise":
                    raise
                self.skipped += error.next_offset - error.first_offset
                position = error.next_offset
                continue
            yield from result.batches
            position = result.next_offset
            if not result.batches:
                self.client.broker.on_wait()


class _Client:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker

    def __enter__(self) -> Self:
        if self.broker.unreachable is not None:
            raise self.broker.unreachable
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def create_channel(self, name: str, **config: Any) -> None:
        if name not in self.broker.channels:
            self.broker.add(name, **config)

    def describe_channel(self, name: str) -> ChannelInfo:
        channel = self.broker.find(name)
        return ChannelInfo(
            name=name,
            id="0f" * 16,
            config=channel.config,
            log_start_offset=0,
            durable_offset=len(channel.records),
            stored_bytes=sum(len(record.content) for record in channel.records),
            allocated_bytes=65536,
            segment_count=1,
            created_ns=START_NS,
            last_append_time_ns=channel.records[-1].append_time_ns if channel.records else 0,
            state="ok",
            state_reason="",
            publish_records_per_second=1.5,
            publish_bytes_per_second=100.0,
            waiting_pulls=0,
            damaged=(channel.damaged,) if channel.damaged else (),
        )

    def list_channels(self, prefix: str = "") -> Iterator[ChannelInfo]:
        names = sorted(self.broker.channels)
        return (self.describe_channel(name) for name in names if name.startswith(prefix))

    def configure_channel(self, name: str, **config: Any) -> ChannelInfo:
        channel = self.broker.find(name)
        channel.config = dataclasses.replace(channel.config, **config)
        return self.describe_channel(name)

    def delete_channel(self, name: str) -> None:
        self.broker.find(name)
        del self.broker.channels[name]

    def producer(self, channel: str, **schedule: int) -> _Producer:
        self.broker.schedules.append(schedule)
        return _Producer(self.broker, channel)

    def pull(
        self, channel: str, start: Any, *, max_bytes: int = 0, max_wait_ms: int = 0
    ) -> _PullResult:
        log = self.broker.find(channel)
        end = len(log.records)
        first = self._first(log, start)
        if first > end:
            raise OffsetOutOfRange(f"offset {first} is past the end, {end}", 0, end)
        if log.damaged and log.damaged[0] <= first < log.damaged[1]:
            raise DataLoss("offsets are damaged", *log.damaged)
        limit = log.damaged[0] if log.damaged and first < log.damaged[0] else end
        records = log.records[first : min(limit, first + log.batch_records)]
        batches = [_Batch(records)] if records else []
        return _PullResult(batches, first + len(records), 0, end)

    def subscribe(self, channel: str, start: Any, *, on_damage: str) -> _Subscription:
        return _Subscription(self, channel, start, on_damage)

    def _first(self, log: FakeChannel, start: Any) -> int:
        if isinstance(start, datetime):
            return sum(
                datetime.fromtimestamp(record.append_time_ns / SECOND_NS, UTC) < start
                for record in log.records
            )
        if start == "latest":
            return len(log.records)
        return 0 if start == "beginning" else int(start)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    """What every client command of the test talks to."""
    made = FakeBroker()

    def connect(connection: Connection) -> _Client:
        made.connections.append(connection)
        return _Client(made)

    monkeypatch.setattr(Connection, "open", connect)
    monkeypatch.delenv("MQ_SERVER", raising=False)
    monkeypatch.delenv("MQ_TIMEOUT", raising=False)
    return made


class Ran(NamedTuple):
    """How a command line ended, and what it wrote."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()


class Run(Protocol):
    """Runs ``mq`` in this process."""

    def __call__(self, *args: str, stdin: bytes = b"") -> Ran:
        """Run a command line; errors become messages and codes as they do in a shell."""


@pytest.fixture
def mq() -> Run:
    """A function that runs ``mq`` with arguments; see `Run`."""

    def run(*args: str, stdin: bytes = b"") -> Ran:
        with CliRunner().isolation(io.BytesIO(stdin)) as (out, err, _):
            code = exits.run(cli, args)
        return Ran(code, out.getvalue(), err.getvalue().decode())

    return run


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One real broker for a module; each test has a channel of its own."""
    with ServerProcess(tmp_path_factory.mktemp("live") / "data") as process:
        yield process


@pytest.fixture
def channel(
    live: ServerProcess, mq: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A new channel, on the real broker, which commands talk to by default."""
    name = re.sub(r"\W+", ".", request.node.name).strip(".")
    monkeypatch.setenv("MQ_SERVER", live.address)
    monkeypatch.delenv("MQ_TIMEOUT", raising=False)
    assert mq("channels", "create", name) == (0, b"", "")
    return name
