"""Pulls of one channel: answered now, or with the commit that makes them answerable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mq.broker.life import Life, Opener, State
from mq.broker.shared import Shared
from mq.broker.waiters import Pull, Waiters
from mq.errors import MQError
from mq.log.log import Log, ReadResult


class PullDesk:
    """Takes pulls and answers each once, on the event loop.

    Attributes:
        waiters: The pulls that wait for data.
        also_wake: Called, too, when something new can be read; None: nobody else cares.
    """

    def __init__(self, shared: Shared, logs: Opener, life: Life) -> None:
        self.waiters = Waiters(shared.stats, shared.config.waiting_pulls_max)
        self.also_wake: Callable[[], None] | None = None
        self._shared = shared
        self._logs = logs
        self._life = life

    def pull(self, pull: Pull) -> None:
        """Answer a pull now, or as soon as there is something to answer it with.

        Raises:
            MQError: It was refused, and is not answered otherwise.
        """
        life = self._life
        life.check_usable()
        if life.state is State.OPEN or self._at_known_end(pull):
            self._serve(pull)
        else:
            life.when_open(partial(self._retry, pull))

    def abandon(self, pull: Pull) -> None:
        """The client of a pull is gone."""
        self.waiters.remove(pull)
        pull.abandon()

    def end_waiting(self, error: MQError | None) -> None:
        """Answer all waiting pulls: with an error, or with nothing."""
        for pull in self.waiters.take_all():
            pull.answer(error or _nothing(pull))

    def wake(self) -> None:
        """Serve the waiting pulls; the ones that want the same share one response."""
        if self.also_wake is not None:
            self.also_wake()
        log = self._life.log
        if not len(self.waiters) or log is None:
            return
        made: dict[tuple[int, int, int], bytes] = {}
        for pull in self.waiters.take_all():
            key = (pull.offset, pull.max_bytes, pull.max_records)
            response = made.get(key)
            if response is not None:
                self._answer(pull, response)
                continue
            try:
                result = log.read(*key, may_block=False)
                if result is None or not result.spans:
                    self._serve(pull)
                    continue
                made[key] = pull.encode(result)
            except MQError as error:
                pull.answer(error)
            else:
                self._answer(pull, made[key])

    def _at_known_end(self, pull: Pull) -> bool:
        """A closed channel need not be opened for a pull that only waits at its end."""
        life = self._life
        return life.end_offset > 0 and pull.offset == life.durable_offset == life.end_offset

    def _retry(self, pull: Pull) -> None:
        """Serve a pull that was put off; the answer is the only way to tell it anything."""
        if pull.over:
            return
        try:
            self.pull(pull)
        except MQError as error:
            pull.answer(error)

    def _serve(self, pull: Pull) -> None:
        life = self._life
        log = life.log
        if pull.offset == life.durable_offset and (log is None or pull.wait_s > 0):
            self._wait_or_answer(pull)
            return
        assert log is not None, "only a pull at the end is served while the log is closed"
        self._logs.touch(life)
        result = log.read(pull.offset, pull.max_bytes, pull.max_records, may_block=False)
        if result is None:
            self._shared.threads.read(
                partial(_read_cold, log, pull), partial(self._read_cold_done, pull)
            )
        elif not result.spans:
            self._wait_or_answer(pull)
        else:
            self._answer(pull, pull.encode(result))

    def _read_cold_done(self, pull: Pull, outcome: bytes | MQError) -> None:
        if isinstance(outcome, MQError):
            pull.answer(outcome)
        else:
            self._answer(pull, outcome)

    def _wait_or_answer(self, pull: Pull) -> None:
        if pull.wait_s > 0:
            self.waiters.add(pull)
            pull.start_timer(self._shared.loop, self._expire)
        else:
            self._answer(pull, _nothing(pull))

    def _expire(self, pull: Pull) -> None:
        self.waiters.remove(pull)
        pull.answer(_nothing(pull))

    def _answer(self, pull: Pull, response: bytes) -> None:
        stats = self._shared.stats
        stats.pulls += 1
        stats.pulled_bytes += len(response)
        pull.answer(response)


def _nothing(pull: Pull) -> bytes:
    return pull.encode(ReadResult(pull.offset, pull.offset, [], []))


def _read_cold(log: Log, pull: Pull) -> bytes:
    """In a reader thread: wait for the device there."""
    result = log.read(pull.offset, pull.max_bytes, pull.max_records)
    assert result is not None, "a read that may block has a result"
    return pull.encode(result)
