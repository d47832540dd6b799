"""SIGKILL at the N-th write, sync, rename or removal of a thread, N rising."""

from __future__ import annotations

import random

from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import Load, Shape
from tests.torture.oracle import settle
from tests.torture.place import Place, needs

CALLS = ("pwritev2,pwritev,pwrite64", "fdatasync,syncfs", "fsync", "rename", "unlink")
RUNS = 5
# Where none is struck within this, that many of these calls were not made.
STRIKE_LIMIT_S = 5.0
# strace counts for each thread, and the broker's work is spread over many.
N_MAX = 60


def strike(rng: random.Random, place: Place) -> Outcome:
    """Have the kernel kill the broker at a call, several times on one directory."""
    call = CALLS[place.number % len(CALLS)]
    begin = 1 + (place.number // len(CALLS) * RUNS) % N_MAX
    # Small segments, few of them kept: so that all of the calls are made.
    server = place.server("--segment-bytes", "64KiB", *front(rng))
    server.start()
    channels = create_channels(server, 2, retention_bytes=rng.choice((256 << 10, 64 << 20)))
    ledger, kills = Ledger(), 0
    shape = Shape(batch_records_max=20, content_bytes_max=4000)
    with Load(server.address, ledger, channels, rng, shape=shape) as load:
        load.more(50)
        server.stop()
        for when in range(begin, begin + RUNS):
            server.traced("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
            if server.started() and not server.wait_dead(STRIKE_LIMIT_S):
                server.kill()
            else:
                kills += 1
        server.traced()
        server.start()
        load.more(1)
    return settle(server, ledger, Outcome(), rounds=kills)


FAULT = Fault("syscalls", 2, "SIGKILL at the N-th system call", strike, needs("strace"))
