"""Which batches each producer has had appended: what makes a repeat harmless.

A pure table, rebuilt from a checkpoint and the frames after it. It remembers
the last ``PRODUCERS_MAX`` producers by their latest append, and of each the
last ``WINDOW`` batches, so that its size is bounded and its content depends on
the log alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mq.errors import InvalidArgument, SequenceGap, SequenceTooOld

PRODUCERS_MAX = 1024
WINDOW = 16


class Receipt(NamedTuple):
    """What was answered for a producer's batch."""

    sequence: int
    base_offset: int
    record_count: int
    append_time_ns: int
    records_crc: int


Entry = tuple[Receipt, ...]


class Producers:
    """The receipts of recent producers, the latest to append last."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}

    def check(self, producer_id: int, sequence: int, records_crc: int) -> Receipt | None:
        """Decide about a batch before it is appended.

        Returns:
            The earlier receipt if the batch is a repeat, None if it is new.

        Raises:
            SequenceGap: A batch of the same producer is missing before it.
            SequenceTooOld: A repeat from before what is remembered.
            InvalidArgument: The sequence was used for other records.
        """
        entry = self._entries.get(producer_id)
        if entry is None:
            return None
        last = entry[-1].sequence
        if sequence == last + 1:
            return None
        if sequence > last:
            raise SequenceGap(
                f"producer {producer_id} sent sequence {sequence} before {last + 1}; "
                "send its batches in order",
                expected_sequence=last + 1,
            )
        for receipt in entry:
            if receipt.sequence == sequence:
                if receipt.records_crc != records_crc:
                    raise InvalidArgument(
                        f"producer {producer_id} used sequence {sequence} for other records "
                        f"at offset {receipt.base_offset}; number each batch once"
                    )
                return receipt
        raise SequenceTooOld(
            f"producer {producer_id} repeats sequence {sequence}, but only its last {WINDOW} "
            f"batches (up to {last}) are remembered; read the channel to see if it is there"
        )

    def record(self, producer_id: int, receipt: Receipt) -> None:
        """Remember an appended batch."""
        entry = self._entries.pop(producer_id, ())
        self._entries[producer_id] = (*entry[-(WINDOW - 1) :], receipt)
        if len(self._entries) > PRODUCERS_MAX:
            del self._entries[next(iter(self._entries))]

    def snapshot(self) -> dict[int, Entry]:
        """A copy of the table; entries are immutable and shared."""
        return dict(self._entries)

    def restore(self, snapshot: dict[int, Entry]) -> None:
        """Go back to a snapshot."""
        self._entries = dict(snapshot)

    def to_json(self) -> list[list[object]]:
        """The table as JSON values, for a checkpoint."""
        return [[pid, [list(receipt) for receipt in e]] for pid, e in self._entries.items()]

    def load_json(self, rows: Iterable[tuple[int, Iterable[Iterable[int]]]]) -> None:
        """Replace the table by what ``to_json`` gave."""
        self._entries = {pid: tuple(Receipt(*r) for r in receipts) for pid, receipts in rows}
