"""The open logs of all channels: few at a time, whatever the number of channels."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mq.broker.life import Life, State
from mq.broker.shared import Shared
from mq.broker.threads import stopping_error
from mq.errors import ChannelFailed, MQError, ResourceExhausted
from mq.log.cache import SegmentCache
from mq.log.files import Files
from mq.log.log import Log


class OpenLogs:
    """Opens logs, and closes the ones used longest ago while more are open than may be.

    Args:
        shared: The broker's.
        files: The operating system, or a test's stand-in.
        channel_path: The directory of a channel, by its id.
    """

    def __init__(self, shared: Shared, files: Files, channel_path: Callable[[bytes], Path]) -> None:
        self._shared = shared
        self._files = files
        self._channel_path = channel_path
        self._cache = SegmentCache(shared.config.open_segments_max)
        # Used longest ago first.
        self._open: OrderedDict[Life, None] = OrderedDict()

    def open(self, life: Life) -> None:
        """Open a log in a thread, and tell `Life.opened`."""
        if self._shared.stopped:
            life.opened(stopping_error())
        else:
            self._shared.threads.run(partial(self._opened, life), partial(self._told, life))

    def _opened(self, life: Life) -> Log:
        """In a thread: the log, recovered."""
        path = life.hidden_at or self._channel_path(life.meta.id)
        if path.is_symlink():
            raise ChannelFailed(f"{path} is a symbolic link")
        return Log(
            path,
            life.meta.id,
            segment_bytes=life.settings.segment_bytes,
            files=self._files,
            cache=self._cache,
            clock=self._shared.clock_ns,
        )

    def _told(self, life: Life, outcome: Log | MQError) -> None:
        name, events = life.meta.name, self._shared.events
        if isinstance(outcome, Log):
            for notice in outcome.notices:
                events.warning("recovered", channel=name, notice=notice)
        elif isinstance(outcome, ResourceExhausted):
            events.warning("channel_not_opened", channel=name, reason=str(outcome))
        else:
            events.error("channel_failed", channel=name, reason=str(outcome))
        life.opened(outcome)
        if life.state is State.OPEN:
            self.touch(life)
        self._close_idle()

    def touch(self, life: Life) -> None:
        """Note that a log is in use."""
        self._open[life] = None
        self._open.move_to_end(life)

    def forget(self, life: Life) -> None:
        """A channel is being deleted; whoever does that lets go of its log."""
        self._open.pop(life, None)

    def _close_idle(self) -> None:
        excess = len(self._open) - self._shared.config.open_channels_max
        for life in list(self._open) if excess > 0 and not self._shared.stopped else ():
            log = life.begin_close()
            if log is not None:
                del self._open[life]
                self._shared.threads.run(partial(self._close, log), partial(_closed, life))
                excess -= 1
                if excess == 0:
                    break

    def _close(self, log: Log) -> None:
        """In a thread."""
        try:
            log.close()
        except (MQError, OSError) as error:
            self._shared.events.error(
                "close_failed", directory=str(log.directory), reason=str(error)
            )

    async def close_all(self, lives: Iterable[Life]) -> None:
        """Close every log, once nothing is committed any more."""
        closing = []
        for life in lives:
            await life.still()
            log = life.begin_close()
            if log is not None:
                self._open.pop(life, None)
                work = self._shared.threads.store(partial(self._close, log), "")
                closing.append((life, asyncio.ensure_future(work)))
        for life, closed in closing:
            await closed
            life.closed()

    @property
    def lives(self) -> list[Life]:
        """The channels whose logs are open."""
        return list(self._open)

    @property
    def open_segments(self) -> int:
        """How many segments' files are open."""
        return len(self._cache) + sum(life.log is not None for life in self._open)


def _closed(life: Life, _: MQError | None) -> None:
    life.closed()
