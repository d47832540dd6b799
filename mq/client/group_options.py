"""How a consumer of a group is set up, and what it counts."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import NamedTuple

from mq.client.arguments import to_limit
from mq.client.backoff import Backoff
from mq.client.follower import OnDamage
from mq.errors import InvalidArgument
from mq.units import MIB

_HOST_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """How a consumer fetches, settles, and what it does when something is amiss.

    Raises:
        InvalidArgument: Options that can't be used.
    """

    consumer: str
    lease_ms: int | None = None
    max_records: int = 500
    max_bytes: int = MIB
    max_wait_ms: int = 30_000
    ack_linger_s: float = 0.005
    prefetch: bool = True
    idle_s: float | None = None
    work_limit_s: float | None = 3600.0
    on_damage: OnDamage = "raise"
    reconnect_timeout_s: float | None = None
    call_timeout_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        if not self.consumer:
            raise InvalidArgument("a consumer needs a name: leave it out to be given one")
        for name in ("lease_ms", "max_records", "max_bytes"):
            value = getattr(self, name)
            if value is not None and to_limit(value, name) < 1:
                raise InvalidArgument(f"{name} is 1 or more: {value}")
        to_limit(self.max_wait_ms, "max_wait_ms")
        for name in ("ack_linger_s", "idle_s", "work_limit_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidArgument(f"{name[:-1]}ms is 0 or more: {value * 1000:g}")
        if self.on_damage not in {"raise", "skip"}:
            raise InvalidArgument(f'on_damage is "raise" or "skip": {self.on_damage!r}')


class GroupStats(NamedTuple):
    """What one consumer has done since it began. Numbers are messages.

    Attributes:
        delivered: Handed to the caller.
        redelivered: Of these, not delivered for the first time.
        acked: Acknowledged, for sure.
        nacked: Handed back as failed, for sure.
        lost: Handed to the caller, and lost before they were settled: others may have them.
        skipped: Damaged, and acknowledged unread.
        fenced: How often another consumer of an exclusive group took over.
        buffered: Fetched, and not handed out yet.
        outstanding: Handed out, and not settled yet.
    """

    delivered: int
    redelivered: int
    acked: int
    nacked: int
    lost: int
    skipped: int
    fenced: int
    buffered: int
    outstanding: int


def unique_consumer_name() -> str:
    """A name that no other consumer has, and that tells an operator where it runs."""
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip(".-")
    return f"{host[:_HOST_CHARS_MAX] or 'host'}-{os.getpid()}-{secrets.token_hex(4)}"
