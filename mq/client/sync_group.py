"""The synchronous shell of a group's consumer: a lock, gRPC's own threads, and a timer.

Calls are begun by whoever makes them possible: the caller's thread as a rule,
gRPC's when an answer makes room for the next. The timer's thread sees to what
time alone brings: lingering acknowledgements, leases to prolong, repetitions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

from mq.client import group_flows
from mq.client.arguments import Start
from mq.client.flows import CallPolicy
from mq.client.group_core import GroupCall, GroupCore
from mq.client.group_message import DeliveredBatch, DeliveredMessage
from mq.client.group_options import GroupOptions, GroupStats
from mq.client.group_settlement import Settlement, Verb
from mq.client.group_supply import Portion
from mq.client.group_types import GroupConfig, GroupInfo
from mq.client.sync_group_run import Runner
from mq.client.sync_transport import PendingCall, SyncTransport
from mq.errors import Cancelled, FailedPrecondition, Internal, MQError

_clock = time.monotonic


class GroupMessage(DeliveredMessage):
    """A message under a lease: `ack` it, or `nack` it. Made by `GroupConsumer`."""

    __slots__ = ()
    _owner: GroupConsumer

    def ack(self) -> None:
        """Acknowledge, and wait until that is durable. Again it waits for the same.

        Raises:
            LeaseLost: It was no longer this consumer's; others may process it too.
            MQError: The broker refused the call.
        """
        self._owner.outcome(self._say(Verb.ACK), *self._offsets)

    def nack(self, delay_ms: int | None = None, reason: str = "") -> None:
        """Hand it back as failed, to be delivered again or to become a dead letter.

        Args:
            delay_ms: How long it waits; None backs off by the number of failures.
            reason: Kept in the dead letter, if it comes to that.

        Raises:
            LeaseLost: It was no longer this consumer's.
            MQError: The broker refused the call.
        """
        self._owner.outcome(self._say(Verb.NACK, delay_ms, reason), *self._offsets)


class GroupBatch(DeliveredBatch):
    """Messages under a lease, settled together. Made by `GroupConsumer.batches`."""

    _owner: GroupConsumer

    def ack(self) -> None:
        """Acknowledge all of it, and wait until that is durable.

        Raises:
            LeaseLost: A part of it was no longer this consumer's: it says which.
            MQError: The broker refused the call.
        """
        self._owner.outcome(self._say(Verb.ACK), *self._offsets)

    def nack(self, delay_ms: int | None = None, reason: str = "") -> None:
        """Hand all of it back as failed, to be delivered again or to become dead letters.

        Args:
            delay_ms: How long it waits; None backs off by the number of failures.
            reason: Kept in the dead letters, if it comes to that.

        Raises:
            LeaseLost: A part of it was no longer this consumer's.
            MQError: The broker refused the call.
        """
        self._owner.outcome(self._say(Verb.NACK, delay_ms, reason), *self._offsets)


class GroupConsumer:
    """One consumer of a group; made by `Client.group`, used as a context manager.

    Iterate over its messages, or over `batches`, in one thread, or let it `run`
    a handler in several. Messages may be settled in any thread, and any thread
    may `stop` it. What is not settled when it closes is handed back at once,
    and not counted.
    """

    def __init__(
        self,
        transport: SyncTransport,
        policy: CallPolicy,
        group: str,
        channel: str,
        start: Start,
        config: GroupConfig,
        options: GroupOptions,
    ) -> None:
        self._core = GroupCore(channel, group, options)
        self._transport = transport
        self._policy = policy
        self._start = start
        self._config = config
        # Guards the core; never held while a call is begun, or waited for.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._changes = 0
        self._tick = threading.Condition(self._lock)
        self._sleeping_until_s = 0.0
        self._timer: threading.Thread | None = None
        self._calls: dict[GroupCall, PendingCall] = {}
        self._entered = False
        self._closed = False

    # ---- What it is -------------------------------------------------------

    @property
    def channel(self) -> str:
        """The channel that is consumed."""
        return self._core.channel

    @property
    def group(self) -> str:
        """The group's name."""
        return self._core.group

    @property
    def consumer(self) -> str:
        """This consumer's name in the group."""
        return self._core.options.consumer

    @property
    def key_ordered(self) -> bool:
        """Whether messages of one key go to one consumer at a time, in order."""
        return self._core.key_ordered

    @property
    def active(self) -> bool:
        """Whether it may be handed messages; False while it stands by in an exclusive group."""
        return self._core.active

    @property
    def epoch(self) -> int:
        """Of an exclusive group: rises with each change of the active consumer; 0: stands by."""
        return self._core.epoch

    @property
    def stats(self) -> GroupStats:
        """What it has done so far."""
        with self._lock:
            return self._core.stats

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def info(self) -> GroupInfo:
        """How the group is doing: lag, what is in flight, its consumers.

        Raises:
            MQError: It was refused.
        """
        return self._transport.run(
            group_flows.describe_group(self._policy, self.group, self.channel)
        )

    # ---- Iterating --------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GroupMessage:
        portion = self._next(whole=False)
        if portion is None:
            raise StopIteration
        return GroupMessage(self, portion.parcel, portion.low)

    def batches(self) -> Iterator[GroupBatch]:
        """Batches instead of messages, each settled as a whole: the fastest way.

        Raises:
            DataLoss: The next messages are damaged, and `on_damage` is ``"raise"``.
            MQError: The broker refuses; one that is away is waited for.
        """
        while (portion := self._next(whole=True)) is not None:
            yield GroupBatch(self, portion)

    def _next(self, *, whole: bool) -> Portion | None:
        """What is handed out next; None once stopped, or idle for as long as was said."""
        self._check_entered()
        while True:
            with self._lock:
                seen = self._changes
                portion = self._core.pop(_clock(), whole=whole)
                ended = portion is None and (self._core.stopped or self._core.take_idle())
                pump = portion is None or self._core.stirred
            if pump:
                self._pump()
            if portion is not None or ended:
                return portion
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._changes != seen)  # type: ignore[misc]

    def _check_entered(self) -> None:
        if not self._entered:
            raise FailedPrecondition(
                "a group's consumer is used as a context manager: `with client.group(...)`"
            )

    def _tell_change(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    # ---- Working ----------------------------------------------------------

    def run(self, handler: Callable[[GroupMessage], None], *, concurrency: int = 1) -> None:
        """Give each message to a handler, several at the same time, in threads.

        When the handler returns, the message is acknowledged; when it raises, it
        is handed back as failed, with the error as the reason. A handler may
        settle its message itself. In a group that is ordered by key there is one
        message of a key at a time, in order. Returns after `stop`, once the
        handlers have; so does it when it is interrupted, and hands back uncounted
        what no handler had begun.

        Args:
            handler: Called with each message.
            concurrency: How many messages are worked on at the same time, at most.

        Raises:
            InvalidArgument: The concurrency is none.
            MQError: As iterating does, after the handlers have returned.
        """
        Runner(self, handler, concurrency, self._core.options.max_records).run()

    def flush(self) -> None:
        """Wait until all that was acknowledged or handed back is durable.

        A lease that was lost is no error here: `stats` counts them.

        Raises:
            MQError: The first call that failed as a whole, and that nobody was told of.
        """
        self._drain(None)
        self._raise_failure()

    def _drain(self, deadline_s: float | None) -> None:
        with self._lock:
            pending = self._core.hurry()
        self._pump()
        for settlement in pending:
            self._wait_until_done(settlement, deadline_s)

    def _raise_failure(self) -> None:
        with self._lock:
            error = self._core.take_failure()
        if error is not None:
            raise error

    def say(self, portion: Portion, verb: Verb, delay_ms: int | None, reason: str) -> Settlement:
        """Settle what was handed out; for its messages and batches.

        Raises:
            FailedPrecondition: The consumer is closed.
        """
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the consumer is closed, and has handed everything back")
            now = _clock()
            settlement = self._core.settle(portion, verb, now, delay_ms, reason)
        if settlement.created_s == now:  # it was opened for this
            self._pump()
        return settlement

    def outcome(self, settlement: Settlement, first: int, following: int) -> None:
        """Wait for what became of messages; for them.

        Raises:
            LeaseLost: Some were no longer this consumer's.
            MQError: The call failed.
        """
        if not settlement.done:
            with self._lock:
                self._core.hurry_if_alone()
            self._pump()
            self._wait_until_done(settlement, None)
        settlement.check(first, following)

    @staticmethod
    def _wait_until_done(settlement: Settlement, deadline_s: float | None) -> None:
        done = threading.Event()
        settlement.when_done(done.set)
        # Its outcome is set before its waiters are called: one of the two is seen.
        if not settlement.done:
            done.wait(None if deadline_s is None else max(0.0, deadline_s - _clock()))

    # ---- Calls ------------------------------------------------------------

    def _pump(self) -> None:
        """Start all calls that may go now, and see to it that the next one isn't missed."""
        while (call := self._next_call()) is not None:
            self._begin(call)
        with self._lock:
            self._set_timer()

    def _next_call(self) -> GroupCall | None:
        with self._lock:
            return None if self._closed else self._core.next_call(_clock())

    def _begin(self, call: GroupCall) -> None:
        try:
            pending = self._transport.begin(call.invoke)
        except MQError as error:
            with self._lock:
                self._core.failed(call, error, _clock())
            self._tell_change()
            return
        with self._lock:
            self._calls[call] = pending
            unwanted = self._closed or not self._core.expects(call)
        if unwanted:
            pending.cancel()
        # A call that is over already calls back at once, on this thread: hold no lock.
        pending.add_done_callback(partial(self._on_done, call))

    def _on_done(self, call: GroupCall, pending: PendingCall) -> None:
        """A call is over. On gRPC's thread, as a rule."""
        response, error = b"", None
        try:
            response = self._transport.finish(pending)
        except MQError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - nothing is left without an outcome
            error = Internal(f"the call failed in the client: {caught!r}")
        with self._lock:
            self._calls.pop(call, None)
            if error is None:
                self._core.answered(call, response, _clock())
            else:
                self._core.failed(call, error, _clock())
        self._pump()
        self._tell_change()

    # ---- The timer --------------------------------------------------------

    def _set_timer(self) -> None:
        """Have the timer's thread wake up early enough. Needs the lock."""
        wake_at_s = self._core.wake_at_s
        if wake_at_s is None or self._closed:
            return
        if self._timer is None:
            name = f"mq-group-{self.channel}-{self.group}"
            self._timer = threading.Thread(target=self._run_timer, name=name, daemon=True)
            self._timer.start()
        elif wake_at_s < self._sleeping_until_s:
            self._tick.notify()

    def _run_timer(self) -> None:
        while self._sleep():
            self._pump()

    def _sleep(self) -> bool:
        """Wait until there is something to do; False once the consumer has ended."""
        with self._lock:
            while not self._closed:
                wake_at_s = self._core.wake_at_s
                remaining = None if wake_at_s is None else wake_at_s - _clock()
                if remaining is not None and remaining <= 0:
                    return True
                self._sleeping_until_s = float("inf") if wake_at_s is None else wake_at_s
                self._tick.wait(remaining)
                self._sleeping_until_s = 0.0
            return False

    # ---- Ending -----------------------------------------------------------

    def stop(self) -> None:
        """Hand out no more: iterations end, and `run` returns once its handlers have.

        What was handed out can still be settled, until the consumer is closed.
        """
        with self._lock:
            if not self._entered or self._core.stopped:
                return
            fetch = self._core.stop(_clock())
            pending = None if fetch is None else self._calls.get(fetch)
        if pending is not None:
            pending.cancel()
        self._pump()
        self._tell_change()

    def close(self, timeout_s: float | None = None) -> None:
        """Flush, hand back what is not settled, and end. Closing again does nothing.

        Args:
            timeout_s: How long that may take; None is the client's timeout. Leases
                that could not be handed back run out by themselves.

        Raises:
            MQError: As `flush` does.
        """
        if self._closed or not self._entered:
            self._closed = True
            return
        self.stop()
        limit_s = self._policy.timeout_s if timeout_s is None else timeout_s
        try:
            self._drain(_clock() + limit_s)
            self._transport.invoke(self._core.goodbye())
        except MQError:
            pass
        finally:
            self.abort()
        self._raise_failure()

    def abort(self) -> None:
        """End without flushing or handing back: what is held lapses by itself."""
        with self._lock:
            self._closed = True
            self._core.abandon(Cancelled("the consumer was closed before this was acknowledged"))
            calls = list(self._calls.values())
            timer, self._timer = self._timer, None
            self._tick.notify_all()
        for pending in calls:
            pending.cancel()
        self._tell_change()
        if timer is not None and timer is not threading.current_thread():
            timer.join()

    def __enter__(self) -> Self:
        """Find the group, or make it.

        Raises:
            FailedPrecondition: It exists in another mode, or this is closed.
            MQError: The broker refused.
        """
        if self._entered or self._closed:
            raise FailedPrecondition("a group's consumer is entered once: make a new one")
        flow = group_flows.join_group(
            self._policy, self.group, self.channel, self._start, self._config
        )
        self._core.started(self._transport.run(flow))
        self._entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close, also where the block was interrupted: others get the messages at once."""
        try:
            self.close()
        except MQError as error:
            if exc is None:
                raise
            exc.add_note(f"and the consumer could not settle everything: {error}")
