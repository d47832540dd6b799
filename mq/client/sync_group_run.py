"""Handlers at work on a group's messages, in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mq.client.group_keys import KeyLines, check_concurrency, reason_of
from mq.client.group_settlement import Verb

if TYPE_CHECKING:
    from mq.client.sync_group import GroupConsumer, GroupMessage


class Runner:
    """One run of a handler.

    Args:
        consumer: Where the messages come from.
        handler: What is done with each.
        concurrency: How many at the same time.
        waiting_max: How many may wait for another of their key.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        handler: Callable[[GroupMessage], None],
        concurrency: int,
        waiting_max: int,
    ) -> None:
        self._consumer = consumer
        self._handler = handler
        self._concurrency = check_concurrency(concurrency)
        self._waiting_max = waiting_max
        self._lines: KeyLines[GroupMessage] = KeyLines(ordered=consumer.key_ordered)
        self._freed = threading.Condition()
        self._running = 0
        self._giving_up = False
        self._exit: BaseException | None = None

    def run(self) -> None:
        """Work until there is no more."""
        name = f"mq-handler-{self._consumer.group}"
        with ThreadPoolExecutor(self._concurrency, name) as threads:
            try:
                self._take_messages(threads)
            except BaseException:
                self._give_up()
                raise
        if self._exit is not None:
            raise self._exit
        self._consumer.flush()

    def _take_messages(self, threads: ThreadPoolExecutor) -> None:
        while self._wait_for_room():
            message = next(self._consumer, None)
            if message is None:
                return
            with self._freed:
                begin = self._lines.enter(message)
                self._running += begin
            if begin:
                threads.submit(self._work, message)

    def _wait_for_room(self) -> bool:
        """Wait until a message can be taken; False if no more is to be."""
        with self._freed:
            self._freed.wait_for(lambda: not self._is_full() or self._exit is not None)
            return self._exit is None

    def _is_full(self) -> bool:
        return self._running >= self._concurrency or self._lines.waiting >= self._waiting_max

    def _give_up(self) -> None:
        """Let handlers return, but begin no other."""
        with self._freed:
            self._giving_up = True
            waiting = self._lines.leave_all()
        for message in waiting:
            message.release()

    def _work(self, message: GroupMessage) -> None:
        """Handle a message, and those that waited for it."""
        following: GroupMessage | None = message
        while following is not None:
            following = self._leave(following, self._handle(following))
        with self._freed:
            self._running -= 1
            self._freed.notify()

    def _handle(self, message: GroupMessage) -> bool:
        """Whether what follows the message may be worked on."""
        if self._giving_up:
            message.release()
            return False
        try:
            self._handler(message)
        except BaseException as error:  # noqa: BLE001 - a thread must not end in silence
            if not message.settled:
                message.nack_nowait(reason=reason_of(error))
            if not isinstance(error, Exception):
                self._exit = self._exit or error
                self._give_up()
        else:
            if not message.settled:
                message.ack_nowait()
        return message.said is Verb.ACK

    def _leave(self, message: GroupMessage, processed: bool) -> GroupMessage | None:
        with self._freed:
            following, back = self._lines.leave(message, processed=processed)
        for each in back:
            each.release()
        return following
