"""Following a channel without the I/O: where to pull next, what to hand out, what to skip."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from mq.client.arguments import Start, check_channel, pull_request, to_limit
from mq.client.backoff import Backoff
from mq.client.batch import Batch, read_batch
from mq.client.flows import Invoke
from mq.client.methods import PULL
from mq.client.pulled import parse_pull
from mq.errors import DataLoss, InvalidArgument, MQError
from mq.pb import mq_pb2 as pb
from mq.units import MIB

OnDamage = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How a subscription pulls, and what it does when something is amiss.

    Raises:
        InvalidArgument: Options that can't be used.
    """

    max_bytes: int = MIB
    max_wait_ms: int = 30_000
    on_damage: OnDamage = "raise"
    reconnect_timeout_s: float | None = None
    prefetch: bool = True
    call_timeout_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        to_limit(self.max_bytes, "max_bytes")
        to_limit(self.max_wait_ms, "max_wait_ms")
        if self.on_damage not in {"raise", "skip"}:
            raise InvalidArgument(f'on_damage is "raise" or "skip": {self.on_damage!r}')


class Follower:
    """The position of one subscription, and the frames that were pulled ahead of it."""

    def __init__(self, channel: str, start: Start, options: FollowOptions) -> None:
        self.channel = check_channel(channel)
        self.options = options
        self.skipped = 0
        """Offsets that were skipped because they are damaged."""
        self._frames: deque[pb.RecordBatch] = deque()
        self._failures = 0
        self._failing_since_s = 0.0
        self.seek(start)

    def seek(self, start: Start) -> None:
        """Go on from another start; what was pulled ahead is dropped, calls are to be cancelled."""
        self._request = pull_request(self.channel, start)
        self._request.max_bytes = self.options.max_bytes
        self._frames.clear()
        self.position: int | None = start if isinstance(start, int) else None
        """The next offset to hand out; None until the broker has told what the start stands for."""
        self._located = False

    @property
    def located(self) -> bool:
        """Whether the broker has answered, so that the position is an offset."""
        return self._located

    # ---- Calls ------------------------------------------------------------

    def next_call(self) -> Invoke:
        """The next pull. The first one doesn't wait: it finds out where the start is."""
        wait_ms = self.options.max_wait_ms if self._located else 0
        self._request.max_wait_ms = wait_ms
        timeout_s = wait_ms / 1000 + self.options.call_timeout_s
        return Invoke(PULL, self._request.SerializeToString(), timeout_s)

    def answered(self, response: bytes) -> None:
        """Take in the answer to the last pull.

        Raises:
            Internal: It is none.
        """
        answer = parse_pull(response)
        self._failures = 0
        if not self._located:
            self._located = True
            self.position = answer.start_offset
        self._frames.extend(answer.batches)
        self._request.offset = answer.next_offset

    def failed(self, error: MQError, now: float) -> float:
        """Decide what the last pull's failure means.

        Args:
            error: How it ended.
            now: Seconds.

        Returns:
            Seconds to wait before the next pull.

        Raises:
            MQError: It is for the consumer to decide; a further pull starts where
                this one did.
        """
        if isinstance(error, DataLoss) and self._skip(error):
            return 0.0
        if not error.retriable:
            raise error
        self._failures += 1
        if self._failures == 1:
            self._failing_since_s = now
        limit_s = self.options.reconnect_timeout_s
        if limit_s is not None and now - self._failing_since_s >= limit_s:
            self._failures = 0
            raise error
        return self.options.backoff.delay_s(self._failures)

    def _skip(self, error: DataLoss) -> bool:
        """Whether damage that the broker reports was skipped, rather than to be raised."""
        if self.options.on_damage != "skip":
            return False
        begin = max(error.first_offset, self._pull_offset())
        if error.next_offset <= begin:
            return False
        self.skipped += error.next_offset - begin
        self._request.offset = error.next_offset
        return True

    def _pull_offset(self) -> int:
        """The offset that the next pull starts at, as far as it is known."""
        return self._request.offset if self._request.WhichOneof("start") == "offset" else 0

    # ---- Batches ----------------------------------------------------------

    def pop(self) -> Batch | None:
        """The next batch, checked; None where a further pull is needed.

        Raises:
            DataLoss: It is damaged. It stays the next one until `seek`.
        """
        while self._frames:
            assert self.position is not None, "frames come with an answer, which has a position"
            try:
                batch = read_batch(self.channel, self._frames[0], self.position)
            except DataLoss as error:
                if self.options.on_damage != "skip":
                    raise
                self.skipped += error.next_offset - error.first_offset
                self.position = error.next_offset
                batch = None
            self._frames.popleft()
            if batch is not None:
                self.position = batch.next_offset
                return batch
        return None
