"""A group's settings."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, fields

from mq.errors import InvalidArgument

# Times are Unix milliseconds below this (the year 4199), and spans below half of it.
TIME_MS_MAX = 1 << 46
SPAN_MS_MAX = 1 << 45
# Failures beyond this are no longer told apart.
FAILURES_MAX = (1 << 15) - 1
REASON_CHARS_MAX = 512
NAME_CHARS_MAX = 255


class Mode(enum.IntEnum):
    """How consumers share a channel. Values are stored: never change one."""

    SHARED = 1
    KEY_ORDERED = 2
    EXCLUSIVE = 3


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """What can be configured. The shell's own settings are kept, not used, here.

    Attributes:
        mode: How consumers share. Can't be changed while messages are leased.
        max_deliveries: A message that failed so often is dead; 0: never.
        backoff_min_ms: How long a nacked message waits the first time.
        backoff_max_ms: The longest it waits, doubling each time.
        session_ms: How long the active consumer of an exclusive group may be
            silent, and how long an idle consumer is remembered.
        key_window: Of how many messages a key-ordered group knows the keys.
        expired_to_dead: Whether an expired message is dead-lettered, not dropped.
        lease_ms: For the shell: the lease of a fetch that names none.
        dead_letter_channel: For the shell: empty for the usual name.
    """

    mode: Mode = Mode.SHARED
    max_deliveries: int = 0
    backoff_min_ms: int = 1_000
    backoff_max_ms: int = 60_000
    session_ms: int = 30_000
    key_window: int = 100_000
    expired_to_dead: bool = False
    lease_ms: int = 30_000
    dead_letter_channel: str = ""

    def check(self) -> GroupConfig:
        """Return self if every value can be used.

        Raises:
            InvalidArgument: Names the setting, its value and what is accepted.
        """
        limits = {
            "max_deliveries": (0, FAILURES_MAX),
            "backoff_min_ms": (0, SPAN_MS_MAX),
            "backoff_max_ms": (self.backoff_min_ms, SPAN_MS_MAX),
            "session_ms": (1, SPAN_MS_MAX),
            "key_window": (1, 10_000_000),
            "lease_ms": (1, SPAN_MS_MAX),
        }
        for name, (lowest, highest) in limits.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise InvalidArgument(f"{name} is {value}; use {lowest} to {highest}")
        return self

    def backoff_ms(self, failures: int) -> int:
        """How long a message waits after its n-th failure (1 is the first)."""
        doubled = self.backoff_min_ms << min(failures - 1, 64)
        return min(doubled, self.backoff_max_ms)

    def to_bytes(self) -> bytes:
        """JSON, so that fields can come and go."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> GroupConfig:
        """What `to_bytes` gave; unknown fields are ignored, absent ones are the default."""
        known = {field.name for field in fields(cls)}
        values = {name: v for name, v in json.loads(data).items() if name in known}
        if "mode" in values:
            values["mode"] = Mode(values["mode"])
        return cls(**values)


def check_limit(name: str, value: int, lowest: int = 1) -> None:
    """Refuse a span or a count that is out of all proportion.

    Raises:
        InvalidArgument: Names it, its value and what is accepted.
    """
    if not lowest <= value <= SPAN_MS_MAX:
        raise InvalidArgument(f"{name} is {value}; use {lowest} to {SPAN_MS_MAX}")


def check_name(consumer: str) -> str:
    """Return a consumer's name if it can be used.

    Raises:
        InvalidArgument: It is empty or too long.
    """
    if not 0 < len(consumer) <= NAME_CHARS_MAX:
        raise InvalidArgument(
            f"a consumer's name has {len(consumer)} characters; use 1 to {NAME_CHARS_MAX}"
        )
    return consumer
