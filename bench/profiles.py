"""How much a run measures: everything in under 15 minutes, or a quick look in under two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MB = 1_000_000
GB = 1_000 * MB


@dataclass(frozen=True, slots=True)
class Profile:
    """Rounds, durations and sizes of every section. Times are in seconds."""

    name: str
    rounds: int
    seconds: float
    # The relaxed comparison says what durability costs; it needs fewer rounds.
    relaxed_rounds: int
    relaxed_seconds: float
    to_read: int
    batch_sizes: Sequence[int]
    rates_per_s: Sequence[int]
    end_to_end_seconds: float
    recovery_bytes: Sequence[int]
    kills: int
    stored_messages: Sequence[int]
    channels: Sequence[int]
    subscribers: Sequence[int]
    message_bytes: Sequence[int]
    idle_channels: int
    idle_seconds: float
    many_channels: int
    cold_bytes: int
    cold_rounds: int
    cold_seconds: float
    dirty_files: Sequence[int]
    group_rounds: int
    group_to_read: int
    group_in_flight: int


ALL = Profile(
    name="all",
    rounds=5,
    seconds=0.8,
    relaxed_rounds=3,
    relaxed_seconds=0.5,
    to_read=400_000,
    batch_sizes=(1, 10, 100, 500, 1_000, 5_000),
    rates_per_s=(100, 1_000, 2_000, 5_000),
    end_to_end_seconds=6.0,
    recovery_bytes=(10 * MB, 10 * GB),
    kills=3,
    stored_messages=(10**3, 10**4, 10**5, 10**6, 10**7),
    channels=(1, 10, 100, 1_000),
    subscribers=(1, 10, 100),
    message_bytes=(10, 100, 1 << 10, 10 << 10, 100 << 10, 1 << 20),
    idle_channels=1_000,
    idle_seconds=10.0,
    many_channels=10_000,
    cold_bytes=3 * GB,
    cold_rounds=3,
    cold_seconds=2.5,
    dirty_files=(1, 8, 64, 1_000),
    group_rounds=3,
    group_to_read=1_500_000,
    group_in_flight=1_000_000,
)

QUICK = Profile(
    name="quick",
    rounds=1,
    seconds=0.4,
    relaxed_rounds=0,
    relaxed_seconds=0.4,
    to_read=100_000,
    batch_sizes=(1, 100, 1_000),
    rates_per_s=(1_000,),
    end_to_end_seconds=2.0,
    recovery_bytes=(10 * MB, 200 * MB),
    kills=1,
    stored_messages=(10**3, 10**5),
    channels=(1, 100),
    subscribers=(1, 10),
    message_bytes=(100, 10 << 10),
    idle_channels=100,
    idle_seconds=2.0,
    many_channels=500,
    cold_bytes=300 * MB,
    cold_rounds=1,
    cold_seconds=1.5,
    dirty_files=(8, 64),
    group_rounds=1,
    group_to_read=200_000,
    group_in_flight=50_000,
)
