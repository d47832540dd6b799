"""Pull: a slice of the log, now or as soon as there is one."""

from __future__ import annotations

import struct
from collections.abc import Callable

from mq.broker.broker import Broker
from mq.broker.channel import Channel
from mq.broker.life import Life
from mq.broker.store import ReadResult
from mq.broker.waiters import Pull
from mq.errors import InvalidArgument, MQError
from mq.pb import mq_pb2 as pb
from mq.server.call import Call
from mq.server.service.requests import guarded, parse

_MAX_BYTES_DEFAULT = 1 << 20
# However much is asked for: one response is copied and sent as a whole.
_MAX_BYTES_LIMIT = 32 << 20
# A wait has an end; clients pull again.
_MAX_WAIT_S = 300.0
# A long poll ends before its client would give up on it: by a tenth of the time
# it has, within these limits, for a busy broker and the way back.
_DEADLINE_SLACK_MIN_S = 0.05
_DEADLINE_SLACK_MAX_S = 1.0

# PullResponse behind its batches: start, next, log start and durable offset.
_TRAILER = struct.Struct("<BQBQBQBQ")


def encode_response(life: Life, result: ReadResult) -> bytes:
    """A serialized ``PullResponse``: the frames as they lie on disk, then the offsets."""
    return result.join(
        _TRAILER.pack(
            0x11,
            result.start_offset,
            0x19,
            result.next_offset,
            0x21,
            life.log_start_offset,
            0x29,
            life.durable_offset,
        )
    )


def wait_seconds(broker: Broker, call: Call, max_wait_ms: int) -> float:
    """How long a long poll may wait: it ends before its client gives up."""
    wait_s = min(max_wait_ms / 1000, _MAX_WAIT_S)
    deadline = call.deadline if max_wait_ms else None
    if deadline is not None:
        left_s = deadline - broker.loop.time()
        slack_s = min(max(left_s / 10, _DEADLINE_SLACK_MIN_S), _DEADLINE_SLACK_MAX_S)
        wait_s = min(wait_s, left_s - slack_s)
    return max(wait_s, 0.0)


class PullHandlers:
    """The handler that reads."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def pull(self, call: Call) -> None:
        """Answer with batches from a start."""
        request = parse(pb.PullRequest, call.request)
        channel = self._broker.channels.get(request.channel)
        wait_s = wait_seconds(self._broker, call, request.max_wait_ms)

        def answer(outcome: bytes | MQError) -> None:
            if isinstance(outcome, MQError):
                call.fail(outcome)
            else:
                call.reply(outcome)

        def go(offset: int) -> None:
            if call.cancelled:
                # Meanwhile, while the start was looked for: nobody would end its wait.
                return
            pull = Pull(
                offset,
                min(request.max_bytes or _MAX_BYTES_DEFAULT, _MAX_BYTES_LIMIT),
                request.max_records,
                wait_s,
                lambda result: encode_response(channel.life, result),
                answer,
            )
            call.on_cancel = lambda: channel.pulls.abandon(pull)
            channel.pull(pull)

        self._resolve(channel, request, call, go)

    def _resolve(
        self, channel: Channel, request: pb.PullRequest, call: Call, go: Callable[[int], None]
    ) -> None:
        """Find the offset that the request's start stands for, and go on from there."""
        start = request.WhichOneof("start")
        if start == "offset":
            go(request.offset)
        elif start == "time_ns":

            def found(outcome: int | MQError) -> None:
                if isinstance(outcome, MQError):
                    raise outcome
                go(outcome)

            channel.reads.seek_time(max(request.time_ns, 0), guarded(call, found))
        elif start is None or request.position == pb.OFFSET_BEGINNING:
            channel.life.when_open(guarded(call, lambda: go(channel.log_start_offset)))
        elif request.position == pb.OFFSET_LATEST:
            channel.life.when_open(guarded(call, lambda: go(channel.durable_offset)))
        else:
            raise InvalidArgument(
                "position is unknown; use OFFSET_BEGINNING or OFFSET_LATEST, an offset or a time"
            )
