"""Where the broker tells what happens."""

from __future__ import annotations

from typing import Any, Protocol


class Events(Protocol):
    """A structured logger's methods fit."""

    def info(self, event: str, **fields: Any) -> object:
        """Something normal."""

    def warning(self, event: str, **fields: Any) -> object:
        """Something an operator should look at."""

    def error(self, event: str, **fields: Any) -> object:
        """Something that stopped working."""
