"""What a harness is, and how bytes become decisions."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Names a directory that someone else removes: an engine may end the process at once.
SCRATCH_VARIABLE = "FUZZ_SCRATCH"
_MEMORY = Path("/dev/shm")


def scratch() -> Path:
    """A new directory, in memory where there is such."""
    where = os.environ.get(SCRATCH_VARIABLE) or (_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    return Path(tempfile.mkdtemp(prefix="mq-fuzz-", dir=where))


@dataclass(frozen=True)
class Harness:
    """Something that has to hold whatever the bytes.

    Attributes:
        name: Of the command.
        run: Given any bytes; raises if it does not hold.
        seeds: Inputs that get far, to begin with.
        end: Lets go of what the runs have made.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    end: Callable[[], None] = lambda: None

    @property
    def invariant(self) -> str:
        """The first line of its module."""
        return (sys.modules[self.run.__module__].__doc__ or "").splitlines()[0]


class Choices:
    """Takes decisions from bytes; all zeros once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """The next bytes."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def below(self, limit: int) -> int:
        """A number from 0 up to, and not including, the limit."""
        size = max(1, (limit - 1).bit_length() + 7 >> 3)
        return int.from_bytes(self.take(size), "little") % limit

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)
