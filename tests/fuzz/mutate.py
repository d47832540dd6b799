"""Random inputs for those who have no fuzzing engine: seeds, cut up and changed."""

from __future__ import annotations

import random
from collections.abc import Sequence

# Values at which lengths and counts change what they mean.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_LENGTH_MAX = 1 << 16


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with some changes, now and then bytes without any sense."""
    if not seeds or rng.random() < 0.1:
        return rng.randbytes(rng.choice((0, 1, 8, 100, 1000)))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 1, 2, 5, 20))):
        _change(rng, data, seeds)
    return bytes(data[:_LENGTH_MAX])


def _change(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    length = rng.choice((1, 1, 2, 4, 8, 82, 500))
    kind = rng.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.choice(_EDGES)
    elif kind == 2:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 3:
        data[at:at] = rng.randbytes(length)
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        # A part of it twice, or somewhere else.
        start = rng.randrange(len(data) + 1)
        data[at:at] = data[start : start + length]
    else:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + length]
