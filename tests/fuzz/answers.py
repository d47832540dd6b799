"""Whatever a broker answers to a pull, a client has sound batches of it or one of mq's errors."""

from __future__ import annotations

import contextlib

from crc32c import crc32c

from mq.client.pulled import read_pull
from mq.errors import MQError
from mq.pb import mq_pb2 as pb
from tests.fuzz.frames import frames
from tests.fuzz.harness import Choices, Harness


def run(data: bytes) -> None:
    """Read the bytes as an answer, and go through its messages."""
    choices = Choices(data)
    max_records = choices.below(8)
    response = choices.rest()
    with contextlib.suppress(MQError):
        result = read_pull("channel", response, max_records)
        messages = list(result)
        assert len(messages) == len(result)
        assert not max_records or len(messages) <= max_records
        offsets = [message.offset for message in messages]
        assert offsets == sorted(set(offsets))
        known = {
            content
            for each in pb.PullResponse.FromString(response).batches
            if crc32c(each.records) == each.records_crc
            for content in pb.Records.FromString(each.records).contents
        }
        assert {message.content for message in messages} <= known


def seeds() -> list[bytes]:
    """Answers with frames, and the fields behind them."""
    trailer = pb.PullResponse(next_offset=6, durable_offset=6).SerializeToString()
    bodies = (b"", frames((1,), 5), frames((3, 1, 2), 40))
    return [bytes((limit,)) + body + trailer for limit in (0, 2) for body in bodies]


HARNESS = Harness("answers", run, seeds)
