"""Publishes that wait for the next commit of their channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from crc32c import crc32c

from mq.broker.model import Durability
from mq.errors import MQError
from mq.log.format import pad_varint
from mq.log.log import Append, Appended

Outcome = Appended | MQError
# What is called, on the event loop, with a publish's outcome and the durability reached.
Done = Callable[[Outcome, Durability], None]

# Single publishes are gathered into frames of at most this many bytes.
_COALESCED_BYTES_MAX = 1 << 20


class Pending(Protocol):
    """One frame to be: a batch, or single messages that came one after another."""

    size: int

    @property
    def early(self) -> bool:
        """Whether some publisher waits for no more than the write."""

    @property
    def late(self) -> bool:
        """Whether some publisher waits for the sync."""

    def to_append(self) -> Append:
        """The batch to append. Called by the committing thread."""

    def answer(self, outcome: Outcome, reached: Durability) -> None:
        """Tell the publishers who wait for no more than ``reached``, or all of a failure."""


class Batch:
    """A batch that a publisher sent as one."""

    __slots__ = ("_append", "_done", "_durability", "size")

    def __init__(self, append: Append, durability: Durability, done: Done) -> None:
        self._append = append
        self._durability = durability
        self._done: Done | None = done
        self.size = len(append.records)

    @property
    def early(self) -> bool:
        """See `Pending`."""
        return self._durability is Durability.WRITTEN

    @property
    def late(self) -> bool:
        """See `Pending`."""
        return self._durability is not Durability.WRITTEN

    def to_append(self) -> Append:
        """See `Pending`."""
        return self._append

    def answer(self, outcome: Outcome, reached: Durability) -> None:
        """See `Pending`."""
        done = self._done
        early = reached is Durability.WRITTEN and self._durability is not Durability.WRITTEN
        if done is None or (early and not isinstance(outcome, MQError)):
            return
        self._done = None
        done(outcome, reached)


class Singles:
    """Single messages that arrived one after another: one frame for all of them."""

    __slots__ = ("_count", "_parts", "_synced", "_written", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0
        # Who waits for what, with the position of the message in the frame.
        self._synced: list[tuple[int, Done]] = []
        self._written: list[tuple[int, Done]] = []
        self.size = 0

    def add(self, content: bytes, durability: Durability, done: Done) -> bool:
        """Take one more message; False if this frame is full."""
        if self._count and self.size + len(content) > _COALESCED_BYTES_MAX:
            return False
        prefix = content_prefix(len(content))
        self._parts += (prefix, content)
        waiting = self._written if durability is Durability.WRITTEN else self._synced
        waiting.append((self._count, done))
        self._count += 1
        self.size += len(prefix) + len(content)
        return True

    @property
    def early(self) -> bool:
        """See `Pending`."""
        return bool(self._written)

    @property
    def late(self) -> bool:
        """See `Pending`."""
        return bool(self._synced)

    def to_append(self) -> Append:
        """See `Pending`."""
        records = b"".join(self._parts)
        return Append(records, self._count, crc32c(records))

    def answer(self, outcome: Outcome, reached: Durability) -> None:
        """See `Pending`."""
        if isinstance(outcome, MQError):
            waiting, self._written, self._synced = [*self._written, *self._synced], [], []
            for _, done in waiting:
                done(outcome, reached)
            return
        waiting, self._written = self._written, []
        if reached is Durability.SYNCED:
            waiting = [*waiting, *self._synced] if waiting else self._synced
            self._synced = []
        base, _, time_ns, _ = outcome
        for position, done in waiting:
            done(Appended(base + position, 1, time_ns), reached)


def content_prefix(size: int) -> bytes:
    """Tag and length of one element of ``Records.contents`` of ``size`` bytes."""
    if size < 0x80:
        return bytes((0x0A, size))
    if size < 0x4000:
        return bytes((0x0A, size & 0x7F | 0x80, size >> 7))
    return b"\x0a" + pad_varint(size)
