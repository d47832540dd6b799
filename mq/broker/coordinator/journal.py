"""The journal of a channel's consumer groups: an `mq.log` log of its own.

It is a hidden channel of the broker, so that its entries share commits, limits
and recovery with everything else. Each record is one byte of kind, four bytes
of group id, and a body:

    C  created   the group's name; an id is not used for another group
    E  entry     a plan's bytes, to be applied
    S  snapshot  two bytes of length, the group's name, all of its state
    D  deleted   nothing

Replay may begin anywhere at or before the oldest entry that the newest
snapshots lack: entries that a snapshot has already are skipped by their number.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mq.broker.channel import Channel
from mq.broker.coordinator.records import contents_of
from mq.broker.groups.group import Group
from mq.broker.model import Durability
from mq.broker.pending import Done
from mq.errors import DataDirError, RecordsLost

_HEAD: Final = struct.Struct("<cI")
_NAME: Final = struct.Struct("<H")
_READ_BYTES: Final = 4 << 20

CREATED: Final = b"C"
ENTRY: Final = b"E"
SNAPSHOT: Final = b"S"
DELETED: Final = b"D"


@dataclass(slots=True)
class Recovered:
    """What a journal says of one group."""

    name: str = ""
    snapshot: bytes | None = None
    entries: list[bytes] = field(default_factory=list)

    def group(self) -> Group:
        """The group itself."""
        return Group.recover(self.snapshot, self.entries)


class Journal:
    """Appends to and replays one channel's journal. On the event loop."""

    def __init__(self, log: Channel) -> None:
        self.log = log
        # Since the last snapshot.
        self.appended_bytes = 0
        # What replay found marked as lost.
        self.lost: list[RecordsLost] = []

    def append(self, kind: bytes, group_id: int, body: bytes, done: Done) -> None:
        """Append a record with the next commit; ``done`` is called once it is durable.

        Records are durable in the order of these calls.

        Raises:
            MQError: It was refused, and is not in the journal.
        """
        self.log.publish(_HEAD.pack(kind, group_id) + body, Durability.SYNCED, done)
        self.appended_bytes += len(body)

    def append_snapshot(self, group_id: int, name: str, state: bytes, done: Done) -> None:
        """Append a snapshot; see `append`."""
        encoded = name.encode()
        self.append(SNAPSHOT, group_id, _NAME.pack(len(encoded)) + encoded + state, done)

    async def trim(self, offset: int) -> None:
        """Remove whole segments before an offset."""
        await self.log.upkeep.purge(offset, dry_run=False)

    async def replay(self) -> dict[int, Recovered]:
        """The groups that there are, by id.

        What a repair has marked as lost is passed over: what groups did there is
        forgotten, so that some messages are delivered again.

        Raises:
            MQError: A part can't be read.
        """
        await self.log.life.ready()
        found: dict[int, Recovered] = {}
        offset = self.log.log_start_offset
        while offset < self.log.durable_offset:
            try:
                data, offset = await self.log.reads.frames(offset, _READ_BYTES)
            except RecordsLost as lost:
                self.lost.append(lost)
                offset = lost.next_offset
                continue
            for _, content in contents_of(data):
                _apply(found, content)
        # Without a name: entries of a group that was deleted, or never came to be.
        return {group_id: each for group_id, each in found.items() if each.name}


class Record(NamedTuple):
    """A record of a journal; ``body`` is what follows the name, where there is one."""

    kind: bytes
    group_id: int
    name: str
    body: bytes


def parse_record(content: bytes) -> Record:
    """A record's parts."""
    kind, group_id = _HEAD.unpack_from(content)
    body, name = content[_HEAD.size :], b""
    if kind == CREATED:
        body, name = b"", body
    elif kind == SNAPSHOT:
        (length,) = _NAME.unpack_from(body)
        end = _NAME.size + length
        body, name = body[end:], body[_NAME.size : end]
    return Record(kind, group_id, name.decode(), body)


def _apply(found: dict[int, Recovered], content: bytes) -> None:
    kind, group_id, name, body = parse_record(content)
    if kind == CREATED:
        found[group_id] = Recovered(name)
    elif kind == SNAPSHOT:
        group = found.setdefault(group_id, Recovered())
        group.name, group.snapshot = name, body
    elif kind == ENTRY:
        # It may come before the snapshot that lacks it: it was in flight when that was taken.
        found.setdefault(group_id, Recovered()).entries.append(body)
    elif kind == DELETED:
        found.pop(group_id, None)
    else:
        raise DataDirError(
            f"the journal of the groups has a record of kind {kind!r}; use the version of mq "
            "that wrote it, or a later one"
        )
