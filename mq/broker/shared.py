"""What all channels of one broker have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mq.broker.commit import Committer
from mq.broker.disk import DiskWatch
from mq.broker.events import Events
from mq.broker.model import BrokerConfig, Stats
from mq.broker.rates import Rate
from mq.broker.threads import Threads


class Shared:
    """One event loop, its clocks, its threads, and the counters. No behaviour of its own.

    Attributes:
        stopping: New work is refused, except that the broker's own hidden
            channels still take what ends the work at hand.
        stopped: Nothing is taken on any more.
        observe_fsync: Called with the seconds that each sync took.
        tell_refusing: Called with the number of channels that take no publishes until
            a restart, when it changes.
        rate: What is published to all channels together.
        compacting: Held while a channel is compacted.
    """

    def __init__(
        self,
        config: BrokerConfig,
        stats: Stats,
        events: Events,
        loop: asyncio.AbstractEventLoop,
        clock_ns: Callable[[], int],
        threads: Threads,
        committer: Committer,
        disk: DiskWatch,
    ) -> None:
        self.config = config
        self.stats = stats
        self.events = events
        self.loop = loop
        self.clock_ns = clock_ns
        self.threads = threads
        self.committer = committer
        self.disk = disk
        self.stopping = False
        self.stopped = False
        self.observe_fsync: Callable[[float], object] = lambda _: None
        self.tell_refusing: Callable[[int], object] = lambda _: None
        self.rate = Rate()
        self.compacting = asyncio.Lock()
        self._anchor_s, self._anchor_ms = loop.time(), clock_ns() // 1_000_000

    def now_ms(self) -> int:
        """Unix milliseconds that never go back while the broker runs."""
        return self._anchor_ms + int((self.loop.time() - self._anchor_s) * 1000)
