"""A batch on its way to the broker, and the light handles that its messages get.

All handles of a batch share its outcome. A batch that the broker refuses for
what it holds is split, so that one bad message fails alone; the outcome is then
that of the two halves.
"""

from __future__ import annotations

from collections.abc import Callable

import crc32c

from mq.client.records import encode_records, parse_records
from mq.client.schedule import NO_SCHEDULE, Schedule
from mq.client.types import BatchReceipt, Receipt
from mq.errors import MQError


class OutgoingBatch:
    """Messages that travel together, from the first `append` to the broker's answer."""

    __slots__ = (
        "_halves",
        "_parent",
        "_waiters",
        "contents",
        "crc",
        "created_s",
        "error",
        "error_seen",
        "headers",
        "held_bytes",
        "keys",
        "receipt",
        "record_count",
        "records",
        "schedule",
    )

    def __init__(
        self,
        created_s: float,
        held_bytes: int,
        parent: OutgoingBatch | None = None,
        schedule: Schedule = NO_SCHEDULE,
    ) -> None:
        self.created_s = created_s
        self.held_bytes = held_bytes
        self.contents: list[bytes] = []
        # Shorter than contents until sealed: entries are added where one is given.
        self.keys: list[bytes] = []
        self.headers: list[bytes] = []
        self.schedule = schedule
        self.records = b""
        self.crc = 0
        self.record_count = 0
        self.receipt: BatchReceipt | None = None
        self.error: MQError | None = None
        self.error_seen = False
        self._parent = parent
        self._halves: tuple[OutgoingBatch, OutgoingBatch] | None = None
        self._waiters: list[Callable[[], None]] = []

    # ---- Filling ----------------------------------------------------------

    def add_columns(self, index: int, key: bytes, headers: bytes) -> None:
        """Give the record at this index, the last one, a key and serialized headers."""
        if key:
            _set(self.keys, index, key)
        if headers:
            _set(self.headers, index, headers)

    def seal(self) -> None:
        """Encode the records; nothing can be added any more."""
        count = len(self.contents)
        for column in (self.keys, self.headers):
            if column:
                column.extend([b""] * (count - len(column)))
        self.records = encode_records(self.contents, self.keys, self.headers)
        if self.schedule is not NO_SCHEDULE:
            self.records += self.schedule.encode(count)
        self.crc = crc32c.crc32c(self.records)
        self.record_count = count
        self.contents, self.keys, self.headers = [], [], []

    def split(self) -> tuple[OutgoingBatch, OutgoingBatch]:
        """Replace a sealed batch of several records by two; its outcome is theirs."""
        columns = parse_records(self.records)
        contents, keys = columns.contents[:], columns.keys[:]
        headers = [each.SerializeToString() for each in columns.headers]
        middle = self.record_count // 2
        self._halves = (
            self._part(contents[:middle], keys[:middle], headers[:middle]),
            self._part(contents[middle:], keys[middle:], headers[middle:]),
        )
        self.records = b""
        return self._halves

    def _part(
        self, contents: list[bytes], keys: list[bytes], headers: list[bytes]
    ) -> OutgoingBatch:
        part = OutgoingBatch(self.created_s, 0, parent=self, schedule=self.schedule)
        part.contents, part.keys, part.headers = contents, keys, headers
        part.seal()
        return part

    # ---- The outcome ------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every record's fate is known."""
        if self._halves is not None:
            return self._halves[0].done and self._halves[1].done
        return self.receipt is not None or self.error is not None

    def succeed(self, receipt: BatchReceipt) -> None:
        """The broker has stored it."""
        self.receipt = receipt
        self.records = b""
        self._finish()

    def fail(self, error: MQError) -> None:
        """It will not be sent any more."""
        self.error = error
        self.records = b""
        self._finish()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Have a batch that is not done call this once it is."""
        self._waiters.append(callback)

    def record_receipt(self, index: int) -> Receipt:
        """The receipt of one record of a batch that is done.

        Raises:
            MQError: The record was not acknowledged.
        """
        if self._halves is not None:
            first, second = self._halves
            if index < first.record_count:
                return first.record_receipt(index)
            return second.record_receipt(index - first.record_count)
        if self.receipt is None:
            assert self.error is not None, "asked for a receipt before the batch was done"
            self.error_seen = True
            raise self.error.with_traceback(None)
        return self.receipt.record(index)

    def failures(self) -> list[OutgoingBatch]:
        """The parts of a batch that is done that were not acknowledged."""
        if self._halves is not None:
            return [*self._halves[0].failures(), *self._halves[1].failures()]
        return [self] if self.error is not None else []

    def _finish(self) -> None:
        if not self.done:
            return
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()
        if self._parent is not None:
            self._parent._finish()  # noqa: SLF001 - of the same class


def _set(column: list[bytes], index: int, value: bytes) -> None:
    column += [b""] * (index - len(column))
    column.append(value)


class Handle:
    """One message's place in a batch. Made for every message, so it holds no more than that."""

    __slots__ = ("_batch", "_index")

    _batch: OutgoingBatch
    _index: int

    @property
    def done(self) -> bool:
        """Whether the message's fate is known."""
        return self._batch.done
