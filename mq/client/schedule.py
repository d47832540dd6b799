"""When groups hand a record out: the columns of a batch for delay and expiry."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

from mq.client.records import varint
from mq.errors import InvalidArgument

Milliseconds = int | Sequence[int | None] | None

_DELIVER_AFTER_TAG = 5 << 3 | 2
_EXPIRES_AFTER_TAG = 6 << 3 | 2
# A thousand years.
_SPAN_MS_LIMIT = 1 << 45


class Schedule(NamedTuple):
    """Milliseconds after the append: one number for all records, or one (or None) a record.

    Attributes:
        deliver_after_ms: No group hands the record out before.
        expires_after_ms: No group hands it out from then on.
    """

    deliver_after_ms: Milliseconds = None
    expires_after_ms: Milliseconds = None

    def check(self, record_count: int) -> Schedule:
        """Return self, if it can be that of so many records.

        Raises:
            InvalidArgument: Columns of another length, or numbers that are no times.
            TypeError: Something is no whole number.
        """
        for name, value in self._asdict().items():
            if isinstance(value, Sequence):
                if len(value) != record_count:
                    raise InvalidArgument(
                        f"{name} has {len(value)} entries for {record_count} contents: "
                        "give one a message (None where there is none), or one number for all"
                    )
                for each in value:
                    _check_span(name, each)
            else:
                _check_span(name, value)
        return self

    def encode(self, record_count: int) -> bytes:
        """The end of a serialized `Records` of so many records; empty where there is none."""
        return _column(_DELIVER_AFTER_TAG, self.deliver_after_ms, record_count) + _column(
            _EXPIRES_AFTER_TAG, self.expires_after_ms, record_count
        )


NO_SCHEDULE = Schedule()


def _check_span(name: str, value: int | None) -> None:
    if value is not None and not 0 <= operator.index(value) < _SPAN_MS_LIMIT:
        raise InvalidArgument(f"{name} is from 0 to {_SPAN_MS_LIMIT - 1}: {value}")


def _column(tag: int, value: Milliseconds, record_count: int) -> bytes:
    if isinstance(value, Sequence):
        packed = b"".join(varint(each or 0) for each in value) if any(value) else b""
    else:
        packed = varint(value) * record_count if value else b""
    return bytes((tag,)) + varint(len(packed)) + packed if packed else b""
