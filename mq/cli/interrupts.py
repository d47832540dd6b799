"""Ctrl-C and SIGTERM as a request to finish, where work in hand must not be dropped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

# What comes sooner after the first signal is the same one, sent on by a wrapper.
_SAME_SIGNAL_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal came while waiting for something that may never come."""


class Interrupts:
    """Whether a signal has come. The second one is not waited with: KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received = 0
        self._waiting = False

    @property
    def exit_code(self) -> int:
        """What a shell says of a program that the signal ended."""
        return 128 + self.received

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For a wait that a signal has to end, with ``Interrupted``."""
        self._waiting = True
        try:
            if self.received:
                raise Interrupted
            yield
        finally:
            self._waiting = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.received:
            raise KeyboardInterrupt
        self.received = number
        if self._waiting:
            raise Interrupted


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Handle both signals until the end of the block, where this is the main thread."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.handle) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopper:
    """Calls a function once a signal has come, in a thread: it may take locks.

    Nothing is raised where the signal found the program. A second signal ends the
    process as if nobody handled it.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.received = 0
        self._received_s = 0.0
        # Unlike an event's, its lock does not mind being met in a signal handler.
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="mq-stop", daemon=True)

    @property
    def exit_code(self) -> int:
        """What a shell says of a program that the signal ended; 0 if none has come."""
        return 128 + self.received if self.received else 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        now = time.monotonic()
        if not self.received:
            self.received, self._received_s = number, now
            self._orders.put(True)
        elif now - self._received_s > _SAME_SIGNAL_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def start(self) -> None:
        """Begin to wait for the signal."""
        self._thread.start()

    def close(self) -> None:
        """End waiting."""
        self._orders.put(False)
        self._thread.join()

    def _run(self) -> None:
        if self._orders.get():
            self._stop()


@contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[Stopper]:
    """Call a function at the first signal until the end of the block, in the main thread."""
    stopper = Stopper(stop)
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    before = {number: signal.signal(number, stopper.handle) for number in _SIGNALS}
    stopper.start()
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stopper.close()
