"""Breaking a log's files, and reading what is left of it."""

from __future__ import annotations

import json
from pathlib import Path

from mq.errors import DataLoss
from mq.log.log import Log
from tests.log.batches import decode


def read_past_damage(log: Log, max_bytes: int = 500) -> tuple[dict[int, bytes], set[int]]:
    """What can be read, and the offsets that were said to be lost."""
    offset = log.log_start_offset
    found: dict[int, bytes] = {}
    lost: set[int] = set()
    while offset < log.durable_offset:
        try:
            result = log.read(offset, max_bytes)
        except DataLoss as loss:
            skipped = range(max(offset, loss.first_offset), loss.next_offset)
            lost.update(skipped)
            offset = skipped[-1] + 1
            continue
        assert result is not None
        records = [r for r in decode(result.join()) if r.offset >= offset]
        assert [r.offset for r in records] == list(range(offset, result.next_offset))
        found.update(dict(records))
        offset = result.next_offset
    return found, lost


def put_channel_json(directory: Path, name: str) -> None:
    """Write the ``channel.json`` that a broker would have written."""
    values = {"format": 1, "name": name, "id": directory.name, "created_ns": 1, "config": {}}
    (directory / "channel.json").write_text(json.dumps(values))


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes((byte ^ 1 << bit % 8,)))


def overwrite(path: Path, position: int, data: bytes) -> None:
    """Write into a file."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)
