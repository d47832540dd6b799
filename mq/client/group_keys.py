"""One message of a key at a time: what waits for which, while handlers run."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from mq.errors import InvalidArgument

_REASON_CHARS_MAX = 512


class Keyed(Protocol):
    """A message that may have a key."""

    @property
    def key(self) -> bytes | None:
        """The key, or None."""


K = TypeVar("K", bound=Keyed)


class KeyLines(Generic[K]):
    """A line of messages for each key that is worked on; those without a key need none.

    Args:
        ordered: Whether keys matter at all.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._lines: dict[bytes, deque[K]] = {}
        self.waiting = 0
        """How many messages stand in line."""

    def enter(self, message: K) -> bool:
        """Whether the message may be worked on now; if not, `leave` gives it when it may."""
        key = message.key if self._ordered else None
        if key is None:
            return True
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = deque()
            return True
        line.append(message)
        self.waiting += 1
        return False

    def leave(self, message: K, *, processed: bool) -> tuple[K | None, list[K]]:
        """A message is no longer worked on.

        Args:
            message: One that was let in.
            processed: Whether what follows it may be worked on.

        Returns:
            The next of its key, to be worked on; and those to hand back, in order,
            since they may not be processed before it.
        """
        key = message.key if self._ordered else None
        if key is None:
            return None, []
        line = self._lines[key]
        if processed and line:
            self.waiting -= 1
            return line.popleft(), []
        del self._lines[key]
        self.waiting -= len(line)
        return None, list(line)

    def leave_all(self) -> list[K]:
        """All that stand in line, to be handed back."""
        waiting = [message for line in self._lines.values() for message in line]
        for line in self._lines.values():
            line.clear()
        self.waiting = 0
        return waiting


def check_concurrency(concurrency: int) -> int:
    """How many messages are worked on at the same time.

    Raises:
        InvalidArgument: Less than one.
    """
    if concurrency < 1:
        raise InvalidArgument(f"concurrency is 1 or more: {concurrency}")
    return concurrency


def reason_of(error: BaseException) -> str:
    """What a dead letter says of a handler's error."""
    text = str(error)
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:_REASON_CHARS_MAX]
