"""What every section of the bench is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.profiles import Profile


@dataclass(frozen=True, slots=True)
class Context:
    """Where data goes, how much to measure, whom to tell, and which front of mq to run."""

    root: Path
    profile: Profile
    progress: Callable[[str], None]
    front: str = "auto"
