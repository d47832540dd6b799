"""Retention by size while publishers and readers work: bounded, and no pull is ever wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mq import Client, OffsetOutOfRange
from tests.conftest import StartServer

SEGMENT = 256 << 10
LIMIT = 4 * SEGMENT
PUBLISHERS, READERS = 2, 2
BATCHES, RECORDS, SIZE = 80, 50, 1_000
WAIT_S = 50.0


def test_disk_use_is_bounded_and_pulls_are_right(server: StartServer) -> None:
    """At most the limit and one segment, with the prepared one; exact bytes, or the right start."""
    broker = server()
    written: dict[int, bytes] = {}
    read: list[tuple[int, bytes]] = []
    behind: list[tuple[int, int, int]] = []
    published = threading.Event()
    with Client(broker.address) as client, ThreadPoolExecutor() as threads:
        client.create_channel("c", segment_bytes=SEGMENT, retention_bytes=LIMIT)

        def publish(number: int) -> None:
            for batch in range(BATCHES):
                contents = [
                    (b"%d %d %d " % (number, batch, n)).ljust(SIZE, b".") for n in range(RECORDS)
                ]
                receipt = client.publish_many("c", contents)
                written.update(enumerate(contents, receipt.base_offset))

        def follow() -> None:
            position = 0
            while not published.is_set():
                try:
                    # A short answer and a slow reader: retention overtakes it.
                    pulled = client.pull("c", position, max_bytes=1, max_wait_ms=20)
                except OffsetOutOfRange as error:
                    behind.append((position, error.log_start_offset, error.next_offset))
                    position = error.log_start_offset
                    continue
                offsets = [message.offset for message in pulled]
                assert offsets == [*range(position, position + len(offsets))]
                read.extend((message.offset, message.content) for message in pulled)
                position = pulled.next_offset

        readers = [threads.submit(follow) for _ in range(READERS)]
        sampled = threads.submit(sample, broker.data_dir, published.is_set)
        try:
            for publisher in [threads.submit(publish, n) for n in range(PUBLISHERS)]:
                publisher.result(WAIT_S)
        finally:
            published.set()
        for reader in readers:
            reader.result(WAIT_S)
        largest = sampled.result(WAIT_S)
        info = client.describe_channel("c")
        assert info.log_start_offset > 0
        assert info.stored_bytes <= LIMIT + SEGMENT
        assert written.keys() == {*range(PUBLISHERS * BATCHES * RECORDS)}
        assert read
        assert all(written[offset] == content for offset, content in read)
        assert all(asked < first <= end for asked, first, end in behind)
        start, kept = info.log_start_offset, []
        while start < info.durable_offset:
            pulled = client.pull("c", start)
            kept += [message.content for message in pulled]
            start = pulled.next_offset
        assert kept == [written[n] for n in range(info.log_start_offset, info.durable_offset)]
        with_spare = LIMIT + 2 * SEGMENT
        # One more may be sealed while the one before it is being removed.
        assert largest <= with_spare + SEGMENT, largest / SEGMENT


def sample(data_dir: Path, ended: Callable[[], bool]) -> int:
    """The most that the channel's segment files took together, the prepared one included."""
    largest = 0
    while not ended():
        sizes = 0
        for path in (data_dir / "channels").rglob("*.seg*"):
            try:
                sizes += path.stat().st_size
            except FileNotFoundError:
                continue
        largest = max(largest, sizes)
    return largest
