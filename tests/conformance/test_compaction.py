"""A compacted channel, as clients see it: the latest of each key, all in its old place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mq
from mq.log.verify import verify_data_dir
from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import Rpc, messages
from tests.helpers.server import ServerProcess

KEYS, ROUNDS, ALONE = 20, 60, b"without a key"
Record = tuple[int, bytes, bytes]


def publish_rounds(rpc: Rpc, channel: str) -> list[Record]:
    """Publish each key again and again; offset, key and content of all records."""
    records: list[Record] = []
    for number in range(ROUNDS):
        contents = [b"%d of %d " % (number, key) + bytes(300) for key in range(KEYS)]
        keys = [b"key %d" % key for key in range(KEYS)]
        if number == 0:
            contents[7:7], keys[7:7] = [ALONE], [b""]
        columns = pb.Records(
            contents=contents,
            keys=keys,
            headers=[pb.Headers(entries=[pb.Header(key="of", value=key)]) for key in keys],
        )
        answer = rpc.publish_batch(channel, [], records=columns.SerializeToString())
        rows = enumerate(zip(keys, contents, strict=True), answer.base_offset)
        records += [(offset, key, content) for offset, (key, content) in rows]
    return records


def subscribed(rpc: Rpc, channel: str, count: int) -> dict[bytes, str]:
    """The ids of the first messages of a Subscribe stream, by content."""
    stream = rpc.subscribe(channel)
    found = {m.content: m.id for m in messages(stream, count)}
    stream.cancel()
    assert len(found) == count
    return found


def compacted(server: ServerProcess) -> int:
    """Have a broker compact what it finds when it starts; how much is left of it, bytes."""
    assert server.stop() == 0
    server.args = (*server.args, "--sync-on-startup")
    server.start()
    return int(server.wait_for("compacted")["bytes_after"])


def test_the_latest_of_each_key_is_left(
    start: StartFront, connect: Callable[[ServerProcess], Rpc], tmp_path: Path
) -> None:
    """Pulled, subscribed to, leased, verified: with its offset, id, key and headers."""
    data_dir = tmp_path / "data"
    server = start(data_dir=data_dir)
    rpc = connect(server)
    channel = rpc.create("facts", compact=True, segment_bytes=1 << 16)
    assert rpc.describe(channel).config.compact
    records = publish_rounds(rpc, channel)
    ids = subscribed(rpc, channel, len(records))
    stored_bytes = rpc.describe(channel).stored_bytes

    left_bytes = compacted(server)
    assert left_bytes < stored_bytes / 3

    with mq.Client(server.address) as client:
        left: list[Record] = []
        offset = 0
        while offset < len(records):
            pulled = client.pull(channel, offset, max_records=7)
            for message in pulled:
                key = message.key or b""
                assert message.headers == (("of", key),)
                left.append((message.offset, key, message.content))
            offset = pulled.next_offset
        assert [r for r in left if r in records] == left
        assert [r for r in left if not r[1]] == [(7, b"", ALONE)]
        assert {key: o for o, key, _ in left} == {key: o for o, key, _ in records}
        # Followed, and consumed by a group: the same, and then nothing is left to do.
        with client.subscribe(channel, "beginning") as stream:
            followed = [message.offset for _, message in zip(left, stream, strict=False)]
        assert followed == [offset for offset, _, _ in left]
        with client.group("workers", channel, idle_ms=500) as group:
            taken = []
            for each in group:
                taken.append(each.offset)
                each.ack()
        assert taken == followed
        assert client.describe_group("workers", channel).messages_behind == 0

    rpc = connect(server)
    after = subscribed(rpc, channel, len(left))
    assert after == {content: ids[content] for _, _, content in left}
    assert server.stop() == 0
    assert verify_data_dir(data_dir).ok
