"""The ledger: what publishers were told, and what consumers saw. Judges what is stored.

Messages are known by a digest of their content, so every content has to be
unique. Thread-safe.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence

from tests.torture.fault import PROBLEMS_MAX, Outcome


def digest(content: bytes) -> int:
    """What the ledger knows a message by."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


class ChannelLedger:
    """The ledger of one channel; the ledger's lock guards it."""

    def __init__(self) -> None:
        self.sent: set[int] = set()
        self.refused: set[int] = set()
        # By offset.
        self.acknowledged: dict[int, int] = {}
        self.seen: dict[int, int] = {}


class Ledger:
    """What is known of every channel."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._channels: dict[str, ChannelLedger] = {}
        self._acknowledged = 0
        self._refused = 0
        # What publishers and consumers met that should not have happened; the first of it.
        self.problems: list[str] = []

    def of(self, channel: str) -> ChannelLedger:
        """One channel's ledger."""
        with self._changed:
            return self._channels.setdefault(channel, ChannelLedger())

    def told(self, channel: str) -> dict[int, int]:
        """A copy of what was acknowledged so far, by offset."""
        with self._changed:
            return dict(self._channels[channel].acknowledged)

    @property
    def channels(self) -> list[str]:
        """All channels that something was sent to."""
        with self._changed:
            return list(self._channels)

    @property
    def acknowledged(self) -> int:
        """How many messages were acknowledged so far."""
        with self._changed:
            return self._acknowledged

    @property
    def refused(self) -> int:
        """How many messages were refused so far."""
        with self._changed:
            return self._refused

    def send(self, channel: str, contents: Sequence[bytes]) -> None:
        """These are about to be published; whether they will be stored is unknown."""
        with self._changed:
            ledger = self._channels.setdefault(channel, ChannelLedger())
            for content in contents:
                known = digest(content)
                assert known not in ledger.sent, "a content that was sent before"
                ledger.sent.add(known)

    def acknowledge(self, channel: str, base_offset: int, contents: Sequence[bytes]) -> None:
        """The publisher was told that they are stored from this offset on."""
        with self._changed:
            acknowledged = self._channels[channel].acknowledged
            for offset, content in enumerate(contents, base_offset):
                known = digest(content)
                # The first one stays in the book: the other has taken its place.
                if acknowledged.setdefault(offset, known) != known:
                    self._note(f"{channel}: offset {offset} was given out twice")
            self._acknowledged += len(contents)
            self._changed.notify_all()

    def refuse(self, channel: str, contents: Sequence[bytes]) -> None:
        """The publisher was told that nothing was stored."""
        with self._changed:
            self._channels[channel].refused.update(map(digest, contents))
            self._refused += len(contents)
            self._changed.notify_all()

    def see(self, channel: str, offset: int, content: bytes) -> None:
        """A consumer was given this record."""
        known = digest(content)
        with self._changed:
            before = self._channels[channel].seen.setdefault(offset, known)
            if before != known:
                self._note(f"{channel}: offset {offset} was read twice and differed")

    def problem(self, what: str) -> None:
        """Someone met what should not have happened."""
        with self._changed:
            self._note(what)
            self._changed.notify_all()

    def _note(self, what: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(what)

    def wait_acknowledged(self, count: int, limit_s: float) -> bool:
        """Wait until so many messages are acknowledged; False at the limit."""
        with self._changed:
            return self._changed.wait_for(lambda: self._acknowledged >= count, limit_s)

    def wait_refused(self, count: int, limit_s: float) -> bool:
        """Wait until so many messages are refused; False at the limit."""
        with self._changed:
            return self._changed.wait_for(lambda: self._refused >= count, limit_s)

    def judge(self, channel: str, stored: Iterable[tuple[int, bytes]], first: int = 0) -> Outcome:
        """Compare with what a channel holds.

        Args:
            channel: Its name.
            stored: Every record, by offset, in order.
            first: The log's start: what lay before was removed on purpose.
        """
        ledger, outcome = self.of(channel), Outcome()
        found: dict[int, int] = {}
        times: dict[int, int] = {}
        expected = first
        for offset, content in stored:
            if offset != expected:
                outcome.problem(f"{channel}: after offset {expected - 1} comes {offset}")
            expected = offset + 1
            known = found[offset] = digest(content)
            times[known] = times.get(known, 0) + 1
            if known not in ledger.sent:
                outcome.invented += 1
                outcome.problem(
                    f"{channel}: nobody published what is at {offset}: {content[:40]!r}"
                )
            elif known in ledger.refused:
                outcome.invented += 1
                outcome.problem(f"{channel}: what is at offset {offset} was refused")
        outcome.doubled = sum(count - 1 for count in times.values())
        if outcome.doubled:
            outcome.problem(f"{channel}: {outcome.doubled} messages are stored more than once")
        for told, what in ((ledger.acknowledged, "acknowledged"), (ledger.seen, "seen")):
            gone = [o for o, known in told.items() if o >= first and found.get(o) != known]
            if what == "seen":
                gone = [o for o in gone if o not in ledger.acknowledged]
            outcome.lost += len(gone)
            if gone:
                outcome.problem(
                    f"{channel}: {len(gone)} messages that were {what} are gone or changed, "
                    f"the first at offset {min(gone)}; the log ends at {expected}"
                )
        outcome.acknowledged = len(ledger.acknowledged)
        outcome.refused = len(ledger.refused)
        return outcome
