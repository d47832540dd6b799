"""Reading one channel inside the broker: frames, times, and how far it is to the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mq.broker.futures import outcome_of
from mq.broker.life import Life, Opener, State
from mq.broker.pulling import PullDesk
from mq.broker.shared import Shared
from mq.broker.waiters import Answer, Pull
from mq.errors import MQError, OffsetOutOfRange
from mq.log.log import ReadResult
from mq.log.reader import Position


class Reads:
    """Questions to one channel's log, answered without stalling the event loop."""

    def __init__(self, shared: Shared, logs: Opener, life: Life, pulls: PullDesk) -> None:
        self._shared = shared
        self._logs = logs
        self._life = life
        self._pulls = pulls

    async def frames(self, offset: int, max_bytes: int, max_records: int = 0) -> tuple[bytes, int]:
        """Frames from the one that holds ``offset``, and the offset after them.

        At least one frame if any is durable there, else no bytes and ``offset``.

        Args:
            offset: The first offset wanted.
            max_bytes: About how many bytes; a first frame is returned whole, even if larger.
            max_records: About how many records; 0: no limit.

        Raises:
            OffsetOutOfRange: Before the log's start or after its end.
            DataLoss: The frame that holds ``offset`` is damaged.
            MQError: They can't be read.
        """
        following = offset

        def encode(result: ReadResult) -> bytes:
            nonlocal following
            following = result.next_offset
            return result.join()

        def begin(answer: Answer) -> None:
            self._pulls.pull(Pull(offset, max_bytes, max_records, 0.0, encode, answer))

        data = await outcome_of(begin)
        return data, following

    async def locate(self, offset: int) -> Position:
        """Where a record is: its append time, and how much lies from there to the end.

        Raises:
            MQError: It can't be told.
        """
        life = self._life
        await life.ready()
        if offset >= life.durable_offset:
            return Position(self._shared.clock_ns(), 0)
        while (log := life.log) is None:
            # It was open, and had to make room for another by the time we got here.
            await life.ready()
        self._logs.touch(life)
        return await outcome_of(partial(self._shared.threads.read, partial(log.locate, offset)))

    def locate_now(self, offset: int) -> Position | None:
        """The same, without waiting for the device; None where that would be needed."""
        life = self._life
        if life.log_start_offset <= offset < life.durable_offset:
            if life.log is not None and life.log.is_open_at(offset):
                return life.log.locate(offset)
            return None
        return Position(self._shared.clock_ns(), 0)

    def seek_time(self, time_ns: int, found: Callable[[int | MQError], None]) -> None:
        """Find the offset of the first record appended at or after a time, Unix nanoseconds.

        ``found`` is called on the event loop, once, and must not raise.

        Raises:
            MQError: It was refused; ``found`` is not called.
            OffsetOutOfRange: The time has not come yet.
        """
        life = self._life
        life.check_usable()
        now_ns = self._shared.clock_ns()
        if time_ns > max(now_ns, life.last_append_time_ns):
            raise OffsetOutOfRange(
                f"that time is {(time_ns - now_ns) / 1e9:.0f} s ahead of the broker's clock; "
                "use latest to wait for what comes",
                life.log_start_offset,
                life.durable_offset,
            )
        self._seek_time(time_ns, found)

    def _seek_time(self, time_ns: int, found: Callable[[int | MQError], None]) -> None:
        life = self._life
        refusal = life.refusal()
        if refusal is not None:
            found(refusal)
        elif life.state is State.OPEN and life.log is not None:
            self._logs.touch(life)
            self._shared.threads.read(partial(life.log.seek_time, time_ns), found)
        else:
            life.when_open(partial(self._seek_time, time_ns, found))

    async def offset_at(self, time_ns: int) -> int:
        """The offset of the first record appended at or after a time, Unix nanoseconds.

        Raises:
            OffsetOutOfRange: The time has not come yet.
            MQError: It can't be told.
        """
        return await outcome_of(partial(self.seek_time, time_ns))
