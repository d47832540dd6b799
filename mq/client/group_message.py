"""What a consumer of a group is handed: messages and batches, to be settled once each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from mq.client.arguments import HeaderPairs
from mq.client.batch import Message
from mq.client.group_parcel import LOST, Parcel
from mq.client.group_settlement import Settlement, Verb
from mq.client.group_supply import Portion
from mq.errors import FailedPrecondition

_SAID = {
    Verb.ACK: "acknowledged",
    Verb.NACK: "handed back as failed",
    Verb.RELEASE: "handed back",
}


class Owner(Protocol):
    """The consumer that handed something out."""

    def say(self, portion: Portion, verb: Verb, delay_ms: int | None, reason: str) -> Settlement:
        """Settle messages; what is returned tells how it went."""


class Settleable:
    """A message, or several: either acknowledged or handed back, and that once."""

    __slots__ = ()

    _owner: Owner
    _parcel: Parcel
    _settlement: Settlement | None

    @property
    def _portion(self) -> Portion:
        raise NotImplementedError

    @property
    def delivery_count(self) -> int:
        """Which delivery this is: 1 for the first. Only failures count."""
        return self._parcel.delivery_count

    @property
    def settled(self) -> bool:
        """Whether something was said about it."""
        return self._settlement is not None

    @property
    def said(self) -> Verb | None:
        """What was said about it."""
        return self._settlement.verb if self._settlement is not None else None

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost, so that others may have it too."""
        parcel, low, high = self._portion
        return parcel.states.count(LOST, low, high) > 0

    def ack_nowait(self) -> None:
        """Acknowledge without waiting: it is sent with others, and `flush` waits for it."""
        self._say(Verb.ACK)

    def nack_nowait(self, delay_ms: int | None = None, reason: str = "") -> None:
        """Hand back as failed, without waiting; see `nack`."""
        self._say(Verb.NACK, delay_ms, reason)

    def release(self) -> None:
        """Hand back as if it had not been delivered, without waiting."""
        self._say(Verb.RELEASE)

    def _say(self, verb: Verb, delay_ms: int | None = None, reason: str = "") -> Settlement:
        settlement = self._settlement
        if settlement is None:
            settlement = self._owner.say(self._portion, verb, delay_ms, reason)
            self._settlement = settlement  # type: ignore[misc]  # the subclass has the slot
        elif settlement.verb is not verb:
            raise FailedPrecondition(
                f"offset {self._portion.parcel.bounds[self._portion.low]} was "
                f"{_SAID[settlement.verb]} already: settle a message once"
            )
        return settlement

    @property
    def _offsets(self) -> tuple[int, int]:
        parcel, low, high = self._portion
        return parcel.bounds[low], parcel.bounds[high]


class DeliveredMessage(Settleable, Message):
    """One message under a lease. Its content, key, headers and times are those of a `Message`."""

    __slots__ = ("_owner", "_parcel", "_position", "_settlement")

    def __init__(self, owner: Owner, parcel: Parcel, position: int) -> None:
        index = parcel.start + position
        batch = parcel.batch
        self._batch = batch
        self.offset = batch.offsets[index]
        self.content = batch.contents[index]
        self._owner = owner
        self._parcel = parcel
        self._position = position
        self._settlement = None

    @property
    def _portion(self) -> Portion:
        return Portion(self._parcel, self._position, self._position + 1)

    @property
    def _index(self) -> int:
        return self._parcel.start + self._position

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(channel={self.channel!r}, offset={self.offset}, "
            f"delivery_count={self.delivery_count}, content={self.content!r})"
        )


class DeliveredBatch(Settleable):
    """Consecutive messages of one append under a lease, settled together."""

    def __init__(self, owner: Owner, portion: Portion) -> None:
        parcel, low, high = portion
        self._owner = owner
        self._parcel = parcel
        self._low = low
        self._high = high
        self._settlement = None
        self._cut = slice(parcel.start + low, parcel.start + high)
        self.channel = parcel.batch.channel
        self.offsets: Sequence[int] = parcel.batch.offsets[self._cut]
        """The records' offsets: a range, unless compaction has taken some away."""
        self.append_time_ns = parcel.batch.append_time_ns
        """When the broker stored it, Unix nanoseconds."""

    @property
    def _portion(self) -> Portion:
        return Portion(self._parcel, self._low, self._high)

    @property
    def base_offset(self) -> int:
        """The first record's offset."""
        return self.offsets[0]

    @property
    def next_offset(self) -> int:
        """One past the last record's offset."""
        return self.offsets[-1] + 1

    @property
    def record_count(self) -> int:
        """How many records there are, at least one."""
        return len(self.offsets)

    @property
    def append_time(self) -> datetime:
        """When the broker stored it, in UTC."""
        return self._parcel.batch.append_time

    @property
    def contents(self) -> list[bytes]:
        """All contents, in order."""
        contents = self._parcel.batch.contents
        return contents if len(contents) == len(self.offsets) else contents[self._cut]

    @property
    def keys(self) -> list[bytes]:
        """One key a record, empty where it has none; an empty list where none has any."""
        return self._parcel.batch.keys[self._cut]

    @property
    def headers(self) -> list[HeaderPairs]:
        """One tuple of pairs a record; an empty list where none has any."""
        return self._parcel.batch.headers[self._cut]

    def messages(self) -> Iterator[Message]:
        """The records one by one, to be read; they are settled together, by the batch."""
        return map(Message, [self._parcel.batch] * len(self.offsets), self.offsets, self.contents)

    def __iter__(self) -> Iterator[Message]:
        return self.messages()

    def __len__(self) -> int:
        return len(self.offsets)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(channel={self.channel!r}, base_offset={self.base_offset}, "
            f"record_count={self.record_count}, delivery_count={self.delivery_count})"
        )
