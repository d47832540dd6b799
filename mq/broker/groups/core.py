"""What every part of a group works on, and how its plans are settled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from mq.broker.groups.codec import decode_entry
from mq.broker.groups.commits import Commits
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.ledger import Ledger
from mq.broker.groups.overlay import Overlay
from mq.broker.groups.plan import Plan
from mq.broker.groups.seat import Seat
from mq.broker.groups.snapshot import read_snapshot, write_snapshot
from mq.broker.groups.stats import GroupStats, collect

# How many ranges one call moves on account of time; the rest is due again at once.
WORK_MAX = 1024


class GroupCore:
    """The two halves of a group, and what can be asked of them."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self._ledger = ledger or Ledger()
        self._overlay = Overlay(self._ledger)
        self._commits = Commits(self._ledger)
        self._seat = Seat(self._ledger)
        self._log_start = 0
        self._advancing = False

    # ---- Durability ----------------------------------------------------------

    @classmethod
    def recover(cls, snapshot: bytes | None, entries: Iterable[bytes]) -> Self:
        """The group that a snapshot and the journal since describe; nothing is leased.

        Args:
            snapshot: The latest, None if there is none.
            entries: In their order, from the oldest that was unconfirmed when
                the snapshot was taken, or from any before it.

        Raises:
            DataDirError: They are of a newer format, or not such bytes at all.
        """
        ledger = Ledger() if snapshot is None else read_snapshot(snapshot)
        for data in entries:
            entry = decode_entry(data)
            if entry.number > ledger.number:
                ledger.apply(entry)
        return cls(ledger)

    def to_snapshot(self) -> bytes:
        """All confirmed plans, as bytes. Those in flight are not in it: see `recover`."""
        return write_snapshot(self._ledger)

    def confirm(self, plan: Plan, now_ms: int) -> None:
        """The plan's entry is durable: it takes effect."""
        self._commits.settle(plan, True, now_ms)

    def abandon(self, plan: Plan, now_ms: int) -> None:
        """The plan's entry is surely not in the journal: nothing happened.

        Where the journal can't tell, drop the group and recover it instead.
        """
        self._commits.settle(plan, False, now_ms)

    @property
    def unsettled_number(self) -> int | None:
        """The number of the oldest journal entry in flight, None if there is none."""
        return self._commits.oldest_number

    # ---- What there is -------------------------------------------------------

    @property
    def config(self) -> GroupConfig:
        """The settings."""
        return self._ledger.config

    @property
    def floor(self) -> int:
        """All messages below are done."""
        return self._ledger.floor

    @property
    def committed(self) -> int:
        """Where a reader that uses `commit` goes on: the floor."""
        return self._ledger.floor

    @property
    def retain_offset(self) -> int:
        """The group has no more use for records below: done, dead letters published."""
        first = min((letter.first for letter in self._ledger.letters), default=self.floor)
        return min(first, self.floor)

    @property
    def epoch(self) -> int:
        """The last epoch of an exclusive group."""
        return self._ledger.epoch

    @property
    def active(self) -> str:
        """The active consumer of an exclusive group; empty: none."""
        return self._ledger.active

    def deliverable(self, now_ms: int) -> bool:
        """Whether a fetch would find something: worth waking one that waits."""
        pool = self._overlay.pool
        pool.promote(now_ms, WORK_MAX)
        pool.doom_expired(now_ms, WORK_MAX)
        return pool.has_some(self._log_start, now_ms)

    def stats(self, end_offset: int, now_ms: int) -> GroupStats:
        """How the group is doing, in a channel with this end."""
        self._overlay.pool.promote(now_ms, WORK_MAX)
        self._overlay.pool.doom_expired(now_ms, WORK_MAX)
        return collect(self._ledger, self._overlay, end_offset)

    # ---- Reading the channel -------------------------------------------------

    @property
    def read_offset(self) -> int:
        """From where on the group knows nothing of the channel's records."""
        return max(self._overlay.pool.end, self._ledger.floor)

    @property
    def read_room(self) -> int | None:
        """How many more records the group takes note of now; None: any number."""
        if self.config.mode is not Mode.KEY_ORDERED:
            return None
        known = self.read_offset - self.floor - self._ledger.done_above_floor
        return max(0, self.config.key_window - known)

    @property
    def advancing(self) -> bool:
        """Whether a plan of `advance` is in flight; there can be one."""
        return self._advancing

    def _rebuild(self, now_ms: int) -> None:
        self._overlay = Overlay(self._ledger, self._overlay.leases)
