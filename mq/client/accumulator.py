"""Messages gathered into batches, within a bound on what is held. No clock, no I/O.

`append` is what every message goes through, so all that can be decided once a
batch is not decided there: room in the buffer is reserved for a whole batch when
it is opened, and a linger is a time noted at that moment.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from mq.client.outgoing import Handle, OutgoingBatch
from mq.client.records import RECORD_OVERHEAD_BYTES
from mq.client.schedule import NO_SCHEDULE, Schedule
from mq.errors import InvalidArgument, MessageTooLarge
from mq.units import KIB, MIB

H = TypeVar("H", bound=Handle)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full, when it is due, and how much may be held.

    Raises:
        InvalidArgument: Limits that contradict each other.
    """

    linger_s: float = 0.005
    batch_bytes: int = 256 * KIB
    batch_records: int = 10_000
    buffer_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        if self.linger_s < 0:
            raise InvalidArgument(f"linger_ms is 0 or more: {self.linger_s * 1000:g}")
        if self.batch_bytes < 1 or self.batch_records < 1:
            raise InvalidArgument("batch_bytes and batch_records are 1 or more")
        if self.buffer_bytes < self.batch_bytes:
            raise InvalidArgument(
                f"buffer_bytes ({self.buffer_bytes}) has to hold a batch of batch_bytes "
                f"({self.batch_bytes})"
            )


class Accumulator(Generic[H]):
    """One open batch that fills, and the full ones that wait to be sent, in order."""

    def __init__(
        self, limits: BatchLimits, handle_type: type[H], schedule: Schedule = NO_SCHEDULE
    ) -> None:
        self._limits = limits
        self._schedule = schedule
        self._handle_type = handle_type
        self._held: dict[OutgoingBatch, None] = {}  # opened and not released, oldest first
        self._full: deque[OutgoingBatch] = deque()
        self._open: OutgoingBatch | None = None
        # Of the open batch: its list of contents, and the bytes it has left.
        # No room is also how `append` learns that no batch is open.
        self._contents: list[bytes] = []
        self._room = -1
        self._records_max = limits.batch_records
        self._held_bytes = 0
        self._urgent = False

    # ---- Adding -----------------------------------------------------------

    def append(self, content: bytes) -> H | None:
        """Add a message without key and headers to the open batch; None if it has no room."""
        room = self._room - len(content) - RECORD_OVERHEAD_BYTES
        contents = self._contents
        index = len(contents)
        if room < 0 or index == self._records_max:
            return None
        self._room = room
        contents.append(content)
        handle = self._handle_type()
        handle._batch = self._open  # type: ignore[assignment]  # noqa: SLF001
        handle._index = index  # noqa: SLF001
        return handle

    def append_record(self, content: bytes, key: bytes, headers: bytes, now: float) -> H | None:
        """Add a message, opening a new batch where needed; None while the buffer is full.

        Args:
            content: The message.
            key: Empty for none.
            headers: Serialized `Headers`, empty for none.
            now: Seconds, on the clock of `take`.

        Raises:
            MessageTooLarge: The buffer can never hold it.
        """
        beside = len(key) + len(headers)
        needed = len(content) + beside + RECORD_OVERHEAD_BYTES
        if needed > self._limits.buffer_bytes:
            raise MessageTooLarge(
                f"a message of {needed} bytes is more than the producer's buffer_bytes "
                f"({self._limits.buffer_bytes}): raise it"
            )
        if self._open is not None and (
            needed > self._room or len(self._contents) == self._records_max
        ):
            self._close()
        if self._open is None and not self._reserve(needed, now):
            return None
        assert self._open is not None
        self._room -= beside
        handle = self.append(content)
        assert handle is not None, "room was made for it"
        if beside:
            self._open.add_columns(handle._index, key, headers)  # noqa: SLF001
        return handle

    def _reserve(self, needed: int, now: float) -> bool:
        size = max(needed, self._limits.batch_bytes)
        if self._held_bytes and self._held_bytes + size > self._limits.buffer_bytes:
            return False
        self._held_bytes += size
        self._open = OutgoingBatch(now, size, schedule=self._schedule)
        self._held[self._open] = None
        self._contents = self._open.contents
        self._room = size
        return True

    def _close(self) -> None:
        batch = self._open
        assert batch is not None
        self._held_bytes -= self._room
        batch.held_bytes -= self._room
        batch.seal()
        self._full.append(batch)
        self._open = None
        self._room = -1
        self._contents = []
        self._urgent = False

    # ---- Taking -----------------------------------------------------------

    def take(self, now: float) -> OutgoingBatch | None:
        """The next batch that is full or due, in order; whoever takes it releases it."""
        if not self._full and self._open is not None and self._is_due(now):
            self._close()
        return self._full.popleft() if self._full else None

    def _is_due(self, now: float) -> bool:
        due = self.due_at_s
        return due is not None and now >= due

    @property
    def due_at_s(self) -> float | None:
        """When `take` has something to give; None while it is empty."""
        if self._full:
            return self._full[0].created_s
        if self._open is None:
            return None
        return self._open.created_s + (0.0 if self._urgent else self._limits.linger_s)

    @property
    def oldest_created_s(self) -> float | None:
        """When the oldest batch here was opened."""
        oldest = self._full[0] if self._full else self._open
        return None if oldest is None else oldest.created_s

    def hurry(self) -> None:
        """Make what the open batch holds due at once; later messages linger again."""
        self._urgent = self._open is not None

    def release(self, batch: OutgoingBatch) -> None:
        """Give back the buffer's room that a finished batch took."""
        self._held_bytes -= batch.held_bytes
        del self._held[batch]

    def held(self) -> list[OutgoingBatch]:
        """All batches that were opened and not released yet, oldest first."""
        return list(self._held)

    @property
    def held_bytes(self) -> int:
        """Bytes of the buffer in use, an open batch counted as full."""
        return self._held_bytes
