"""What became of the messages given to a producer: counted without keeping them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mq.errors import MQError

if TYPE_CHECKING:
    from mq import Receipt


class Handle(Protocol):
    """A message on its way."""

    @property
    def done(self) -> bool:
        """Whether the message's fate is known."""

    def result(self, timeout_s: float | None = None) -> Receipt:
        """Its receipt, once there is one."""


class Delivery:
    """Messages acknowledged and refused: how many, which offsets, and why the first was refused."""

    def __init__(self) -> None:
        self.count = 0
        self.refused = 0
        self.error: MQError | None = None
        self.first_offset: int | None = None
        self.last_offset: int | None = None
        self._in_flight: deque[Sequence[Handle]] = deque()

    def add(self, handles: Sequence[Handle]) -> None:
        """Messages that were sent, in order."""
        if handles:
            self._in_flight.append(handles)

    def refuse(self, error: MQError) -> None:
        """A message that was not taken."""
        self.refused += 1
        self.error = self.error or error

    def settle(self, *, wait: bool = False) -> None:
        """Count those that have been answered; with ``wait``, all."""
        while self._in_flight and (wait or self._in_flight[0][-1].done):
            for handle in self._in_flight.popleft():
                try:
                    offset = handle.result().offset
                except MQError as error:
                    self.refuse(error)
                    continue
                self.count += 1
                self.last_offset = offset
                if self.first_offset is None:
                    self.first_offset = offset

    def summary(self) -> str:
        """As a person reads it."""
        text = f"published {_messages(self.count)}"
        if self.first_offset != self.last_offset:
            text += f" (offsets {self.first_offset}-{self.last_offset})"
        elif self.first_offset is not None:
            text += f" (offset {self.first_offset})"
        return f"{text}; {_messages(self.refused)} refused" if self.refused else text


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"
