"""Ctrl-C and SIGTERM as a request to finish, where work in hand must not be dropped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
