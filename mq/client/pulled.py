"""The answer to one pull."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from google.protobuf.message import DecodeError

from mq.client.batch import Batch, Message, read_batch
from mq.errors import DataLoss, Internal
from mq.pb import mq_pb2 as pb


@dataclass(frozen=True, slots=True)
class PullResult:
    """Batches from a start on; iterating gives their messages. Empty where nothing is there."""

    channel: str
    batches: list[Batch]
    next_offset: int
    """Where to pull next."""
    log_start_offset: int
    """The first offset that is there."""
    durable_offset: int
    """One past the last offset that readers may see."""

    def __iter__(self) -> Iterator[Message]:
        return chain.from_iterable(batch.messages() for batch in self.batches)

    def __len__(self) -> int:
        """How many messages there are."""
        return sum(batch.record_count for batch in self.batches)


def parse_pull(response: bytes) -> pb.PullResponse:
    """Parse a serialized `PullResponse`.

    Raises:
        Internal: It is none.
    """
    try:
        return pb.PullResponse.FromString(response)
    except DecodeError as error:
        raise Internal(f"the answer to a pull is no PullResponse: {error}") from None


def read_pull(channel: str, response: bytes, max_records: int) -> PullResult:
    """Check the batches of a serialized `PullResponse` and cut them to what was asked.

    Damage ends the result before it, so that what is good is had first; the next
    pull, which begins with it, raises.

    Args:
        channel: Where it comes from.
        response: As received.
        max_records: 0 is no limit.

    Raises:
        DataLoss: The first records wanted are damaged.
        Internal: Not the answer to a pull.
    """
    answer = parse_pull(response)
    batches: list[Batch] = []
    position = answer.start_offset
    remaining = max_records or None
    complete = True
    for frame in answer.batches:
        try:
            batch = read_batch(channel, frame, position, remaining)
        except DataLoss:
            if not batches:
                raise
            complete = False
            break
        if batch is None:
            continue
        batches.append(batch)
        position = batch.next_offset
        if remaining is not None:
            remaining -= batch.record_count
            if remaining <= 0:
                complete = False
                break
    return PullResult(
        channel,
        batches,
        answer.next_offset if complete else position,
        answer.log_start_offset,
        answer.durable_offset,
    )
