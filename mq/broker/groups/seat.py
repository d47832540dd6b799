"""The one place of an exclusive group: whose it is, and who may take it."""

from __future__ import annotations

from mq.broker.groups.config import Mode
from mq.broker.groups.leases import Leases
from mq.broker.groups.ledger import Ledger
from mq.errors import Fenced


class Seat:
    """Who is active, by the ledger; when it was last heard of, by the leases."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def matters(self) -> bool:
        """Whether the group is exclusive."""
        return self._ledger.config.mode is Mode.EXCLUSIVE

    def is_taken_by(self, consumer: str, epoch: int) -> bool:
        """Whether this is the active consumer, in its present life; all are where it is shared."""
        ledger = self._ledger
        return not self.matters or (consumer == ledger.active and epoch == ledger.epoch)

    def check(self, consumer: str, epoch: int) -> None:
        """Refuse a consumer that is not the active one.

        Raises:
            Fenced: It was never active, or is no more.
        """
        if not self.is_taken_by(consumer, epoch):
            active = self._ledger.active or "nobody"
            raise Fenced(
                f"{consumer} is not active with epoch {epoch}: {active} is, with epoch "
                f"{self._ledger.epoch}; join the group again and stop work on what was delivered"
            )

    def may_take(self, consumer: str, leases: Leases, now_ms: int) -> bool:
        """Whether a consumer may become active."""
        active = self._ledger.active
        if active in {"", consumer}:
            return True
        holder = leases.consumers.get(active)
        if holder is None:
            # Active before the broker restarted: it has a session's time to call.
            leases.touch(active, now_ms)
            return False
        return not holder.leases and now_ms >= self._lapses_ms(holder.last_seen_ms)

    def next_ms(self, leases: Leases, now_ms: int) -> int | None:
        """When the place becomes free if the active consumer stays silent."""
        holder = leases.consumers.get(self._ledger.active)
        if not self.matters or holder is None or holder.leases:
            return None
        lapses_ms = self._lapses_ms(holder.last_seen_ms)
        return lapses_ms if lapses_ms > now_ms else None

    def _lapses_ms(self, last_seen_ms: int) -> int:
        return last_seen_ms + self._ledger.config.session_ms
