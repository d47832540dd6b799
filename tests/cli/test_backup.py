"""Backups of a real broker: under load, with groups and retention, restored and served."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import mq as client
from tests.cli.conftest import Run
from tests.conftest import StartServer
from tests.helpers.server import ServerProcess

KIB = 1024
SIZE = 500


def content(number: int) -> bytes:
    """What the message of a number holds."""
    return b"%d:" % number + b"x" * SIZE


class Load(threading.Thread):
    """Publishes numbered messages until it is told to stop."""

    def __init__(self, address: str, channel: str) -> None:
        super().__init__()
        self.acknowledged = 0
        self.ending = threading.Event()
        self.grown = threading.Condition()
        self._address = address
        self._channel = channel

    def run(self) -> None:
        """Batches of twenty."""
        with client.Client(self._address, timeout_s=20) as broker:
            for first in count(0, 20):
                if self.ending.is_set():
                    return
                broker.publish_many(self._channel, map(content, range(first, first + 20)))
                with self.grown:
                    self.acknowledged = first + 20
                    self.grown.notify_all()

    def wait_for(self, number: int) -> int:
        """Wait until so many are acknowledged; how many are."""
        with self.grown:
            assert self.grown.wait_for(lambda: self.acknowledged >= number, 40)
            return self.acknowledged


@contextmanager
def load(broker: ServerProcess, channel: str) -> Iterator[Load]:
    """A channel under load."""
    thread = Load(broker.address, channel)
    thread.start()
    try:
        yield thread
    finally:
        thread.ending.set()
        thread.join(40)


def stored(broker: client.Client, channel: str) -> tuple[int, list[bytes]]:
    """Where a channel begins, and all that is in it."""
    info = broker.describe_channel(channel)
    found: list[bytes] = []
    offset = info.log_start_offset
    while offset < info.durable_offset:
        pulled = broker.pull(channel, offset)
        found += [m.content for batch in pulled.batches for m in batch.messages()]
        offset = pulled.next_offset
    return info.log_start_offset, found


def test_a_broker_under_load(server: StartServer, mq: Run, tmp_path: Path) -> None:
    """What was acknowledged before is there, what groups had done stays done, and it serves."""
    broker = server()
    data, backup = broker.data_dir, tmp_path / "backup"
    with client.Client(broker.address, timeout_s=20) as calls:
        calls.create_channel("kept", segment_bytes=64 * KIB)
        calls.create_channel("short", segment_bytes=64 * KIB, retention_bytes=256 * KIB)
        calls.create_channel("quiet")
    done: set[int] = set()
    rounds = []
    before, acked = (0, 0), set[int]()
    with (
        load(broker, "kept") as kept,
        load(broker, "short") as short,
        client.Client(broker.address, timeout_s=20) as calls,
    ):
        for number in range(1, 3):
            kept.wait_for(number * 400)
            with calls.group("workers", "kept") as group:
                for message in group:
                    message.ack()
                    done.add(message.offset)
                    if len(done) >= number * 20:
                        break
            before, acked = (kept.acknowledged, short.wait_for(1000 * number)), set(done)
            ran = mq("backup", str(data), str(backup), "--json", "--jobs", "1")
            assert (ran.code, ran.err) == (0, "")
            rounds.append(json.loads(ran.out))
    assert rounds[-1]["kept_bytes"] > 0
    assert (rounds[-1]["channels"], rounds[-1]["journals"]) == (3, 1)
    broker.kill()

    to = tmp_path / "restored" / "data"
    to.parent.mkdir()
    assert mq("restore", str(backup), str(to)).code == 0
    assert mq("verify", str(to)).code == 0
    again = server(data_dir=to)
    with client.Client(again.address, timeout_s=20) as calls:
        for channel, durable in zip(("kept", "short"), before, strict=True):
            start, found = stored(calls, channel)
            assert start + len(found) >= durable
            assert found == [content(n) for n in range(start, start + len(found))]
            assert (start > 0) == (channel == "short")
        end = len(stored(calls, "kept")[1])
        assert stored(calls, "quiet") == (0, [])
        delivered = set()
        with calls.group("workers", "kept") as group:
            for message in group:
                delivered.add(message.offset)
                message.ack_nowait()
                if message.offset == end - 1:
                    break
        assert not delivered & acked
        assert delivered >= set(range(end)) - done
        assert calls.publish("kept", b"next").offset == end
    assert again.stop() == 0
    assert mq("verify", str(to)).code == 0


def test_a_stopped_broker(server: StartServer, mq: Run, tmp_path: Path) -> None:
    """The same without a broker, and told for people; copies where they are asked for."""
    broker = server()
    with client.Client(broker.address, timeout_s=20) as calls:
        calls.create_channel("c")
        calls.publish_many("c", [content(n) for n in range(200)])
    broker.stop()
    ran = mq("backup", str(broker.data_dir), str(tmp_path / "b"), "--copy")
    assert ran.code == 0
    assert "1 channels" in ran.text
    assert " 0 bytes linked" in ran.text
    assert mq("backup", str(broker.data_dir), str(tmp_path / "b"), "--quiet") == (0, b"", "")
    ran = mq("restore", str(tmp_path / "b"), str(tmp_path / "r"))
    assert ran.code == 0
    assert "files" in ran.text
    assert mq("verify", str(tmp_path / "r"), "--quiet") == (0, b"", "")
    for path in (tmp_path / "b", tmp_path / "r"):
        for each in (path, *path.rglob("*")):
            assert each.stat().st_mode & 0o777 == (0o700 if each.is_dir() else 0o600), each


@pytest.mark.parametrize(
    ("line", "says"),
    (
        (("backup", "nothing", "b"), "nothing"),
        (("backup", ".", "b"), "not an mq data directory"),
        (("restore", "nothing", "r"), "nothing"),
        (("restore", ".", "r"), "no complete backup"),
        (("backup", "only-one"), "DEST"),
        (("restore", "only-one"), "DIR"),
    ),
)
def test_wrong_names(
    mq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], says: str
) -> None:
    """Code 2, with the name that is wrong, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    ran = mq(*line)
    assert (ran.code, ran.out) == (2, b"")
    assert says in ran.err
    assert list(tmp_path.iterdir()) == []
