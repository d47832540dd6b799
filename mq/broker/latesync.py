"""Syncs that nobody waits for are put off a little, so that several commits share one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from mq.broker.life import Life, State
from mq.broker.pending import Pending
from mq.broker.shared import Shared

# How long a sync may be put off where nobody waits for it.
_SYNC_LATER_S: Final = 0.005

# Does work that needs a channel's log to itself, and calls with its outcome.
RunAlone = Callable[[Callable[[], object], Callable[[object], None]], None]


class LateSync:
    """What of one channel is written to be synced later, and when that is due."""

    def __init__(self, shared: Shared, life: Life, run_alone: RunAlone) -> None:
        self._shared = shared
        self._life = life
        self._run_alone = run_alone
        self._unsynced_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def may_put_off(self, entries: Sequence[Pending], size_bytes: int) -> bool:
        """Whether a commit of these may leave its sync to a later one, which will come."""
        self._unsynced_bytes += size_bytes
        full = self._unsynced_bytes > self._shared.config.unsynced_bytes_max
        if full or any(entry.late for entry in entries):
            self._unsynced_bytes = 0
            return False
        if self._timer is None:
            self._timer = self._shared.loop.call_later(_SYNC_LATER_S, self._sync_now)
        return True

    def _sync_now(self) -> None:
        """Sync what earlier commits have written, if none did since."""
        self._timer = None
        # Whether anything is seen to be unsynced says nothing: the commit that put
        # its sync off may still be under way, and this goes after it.
        if self._life.state is State.OPEN:
            self._run_alone(self._sync, self._done)

    def _sync(self) -> None:
        """In a committer thread."""
        assert self._life.log is not None, "the log stays open while work waits for it"
        self._life.log.sync()

    def _done(self, outcome: object) -> None:
        self._unsynced_bytes = 0
