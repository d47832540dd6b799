"""One channel: publishes in, pulls out, its log open only while it is used.

Everything runs on the event loop but the log's own work: a commit has the log
to itself in a committer thread, cold reads run in reader threads.

The parts, each of which knows only the ones before it:

    life        the log, opened and closed, and what is known of it
    pulls       who reads, or waits for something to read
    queue       who publishes, and the commits
    upkeep      retention
    compacting  compaction, where the channel wants it
    reads       what the broker itself asks the log
"""

from __future__ import annotations

from pathlib import Path

from mq.broker.compacting import Compacting
from mq.broker.life import Life, Opener, State
from mq.broker.model import ChannelMeta
from mq.broker.publishing import CommitQueue
from mq.broker.pulling import PullDesk
from mq.broker.reading import Reads
from mq.broker.shared import Shared
from mq.broker.upkeep import Holders, Upkeep
from mq.log.log import Log

__all__ = ["Channel", "State"]


class Channel:
    """A channel of a running broker.

    Args:
        shared: What all channels have in common.
        logs: Opens and closes their logs.
        holders: The consumer groups.
        meta: What the channel is.
        hidden_at: Of a channel for the broker's own use: its directory. Nobody else sees it.
    """

    def __init__(
        self,
        shared: Shared,
        logs: Opener,
        holders: Holders,
        meta: ChannelMeta,
        hidden_at: Path | None = None,
    ) -> None:
        self.life = Life(shared, logs, meta, hidden_at)
        self.pulls = PullDesk(shared, logs, self.life)
        self.queue = CommitQueue(shared, logs, self.life, self.pulls)
        self.upkeep = Upkeep(shared, self.life, self.queue, holders)
        self.compacting = Compacting(shared, self.life, self.queue)
        self.reads = Reads(shared, logs, self.life, self.pulls)
        # What every call of a client comes to goes straight to the part that does it.
        self.publish = self.queue.publish
        self.publish_batch = self.queue.publish_batch
        self.pull = self.pulls.pull

    @property
    def meta(self) -> ChannelMeta:
        """The channel's name, id and settings."""
        return self.life.meta

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.life.meta.name

    @property
    def state(self) -> State:
        """Whether the log is open."""
        self.life.recover_failed()
        return self.life.state

    @property
    def log(self) -> Log | None:
        """The log while it is open."""
        return self.life.log

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read."""
        return self.life.log_start_offset

    @property
    def durable_offset(self) -> int:
        """One past the last record that may be read."""
        return self.life.durable_offset

    def keep_up(self, now_ns: int) -> None:
        """Do what may be due at a time, Unix nanoseconds, where nothing else happens."""
        self.upkeep.look(now_ns)
        self.compacting.look()

    async def retire(self) -> Log | None:
        """Refuse everything from now on: the channel is deleted.

        Returns:
            The log if it is open, once nothing uses it any more; to be let go of.
        """
        life = self.life
        life.delete()
        refusal = life.refusal()
        assert refusal is not None, "a deleted channel refuses everything"
        self.queue.fail_all(refusal)
        self.pulls.end_waiting(refusal)
        await self.compacting.stop()
        await self.queue.idle()
        await life.still()
        log, life.log = life.log, None
        return log
