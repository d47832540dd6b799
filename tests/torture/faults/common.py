"""What several faults do alike."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any

from mq.pb import mq_pb2 as pb
from mq.server.fronts.choose import native_installed
from tests.torture.load import Shape, connect
from tests.torture.place import TortureServer


def front(rng: random.Random) -> tuple[str, str]:
    """The options for one of the fronts."""
    return ("--front", rng.choice(("native", "grpcio")) if native_installed() else "grpcio")


def shape(rng: random.Random, durabilities: Sequence[int] = (pb.DURABILITY_SYNCED,)) -> Shape:
    """Small batches or large ones, of small messages or large ones."""
    return Shape(
        batch_records_max=rng.choice((1, 5, 50)),
        content_bytes_max=rng.choice((20, 400, 6000)),
        durability=rng.choice(durabilities),
    )


def create_channels(server: TortureServer, count: int, **config: Any) -> list[str]:
    """Make some channels on a running server; their names."""
    names = [f"torture-{number}" for number in range(count)]
    with contextlib.closing(connect(server.address)) as rpc:
        for name in names:
            rpc.create(name, **config)
    return names
