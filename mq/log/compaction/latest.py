"""Which offset is the latest of each key. Bounded: 24 bytes a key, and no key itself.

A key is known by a hash of 16 bytes that is seeded anew for each map: two keys
that share one would have to be chosen by who knows the seed, and by chance
there are none among 10^15.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

_HASH_BYTES: Final = 16
# How many records are gathered before they are sorted into the rest.
_GATHERED_MAX: Final = 1 << 16


class LatestOffsets:
    """The latest offset of each key, of records that are added in order of offset."""

    def __init__(self, gathered_max: int = _GATHERED_MAX) -> None:
        self._seed = os.urandom(_HASH_BYTES)
        self._gathered_max = gathered_max
        # Sorted, each once.
        self._hashes = np.zeros(0, f"S{_HASH_BYTES}")
        self._offsets = np.zeros(0, np.uint64)
        self._new_hashes: list[bytes] = []
        self._new_offsets: list[int] = []

    def __len__(self) -> int:
        """How many keys there are at most: some that were added of late may count twice."""
        return len(self._hashes) + len(self._new_hashes)

    def add(self, key: bytes, offset: int) -> None:
        """A record with this key is at an offset, above all that were added before."""
        self._new_hashes.append(self._hash(key))
        self._new_offsets.append(offset)
        if len(self._new_hashes) >= self._gathered_max:
            self.settle()

    def settle(self) -> None:
        """Sort in what was gathered; to be done before `of`, and to count exactly."""
        if not self._new_hashes:
            return
        added = np.frombuffer(b"".join(self._new_hashes), self._hashes.dtype)
        hashes = np.concatenate((self._hashes, added))
        offsets = np.concatenate((self._offsets, np.array(self._new_offsets, np.uint64)))
        self._new_hashes, self._new_offsets = [], []
        # Stable: of one key, the last is the latest.
        order = hashes.argsort(kind="stable")
        hashes = hashes[order]
        last = np.ones(len(hashes), bool)
        last[:-1] = hashes[1:] != hashes[:-1]
        self._hashes, self._offsets = hashes[last], offsets[order][last]

    def of(self, keys: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """The latest offset of each key; -1 where none is known. Shape ``(len(keys),)``."""
        assert not self._new_hashes, "what was gathered is sorted in"
        wanted = np.frombuffer(b"".join(map(self._hash, keys)), self._hashes.dtype)
        if not len(self._hashes):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(self._hashes.searchsorted(wanted), len(self._hashes) - 1)
        offsets = self._offsets[at].astype(np.int64)
        return np.where(self._hashes[at] == wanted, offsets, -1)

    def _hash(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=_HASH_BYTES, key=self._seed).digest()
