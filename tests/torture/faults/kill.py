"""kill -9 of the broker under load, at any moment, also while it recovers from the last one."""

from __future__ import annotations

import random
import time

from mq.pb import mq_pb2 as pb
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front, shape
from tests.torture.ledger import Ledger
from tests.torture.load import Load
from tests.torture.oracle import settle
from tests.torture.place import Place, TortureServer

KILLS = 6
SEGMENT_BYTES = ("64KiB", "256KiB", "64MiB")


def strike(rng: random.Random, place: Place) -> Outcome:
    """Kill the broker several times, then check."""
    server = place.server("--segment-bytes", rng.choice(SEGMENT_BYTES), *front(rng))
    server.start()
    channels = create_channels(server, rng.randint(1, 3))
    ledger, kills = Ledger(), 0
    # What is only written survives this too: the page cache is the kernel's.
    durabilities = (pb.DURABILITY_SYNCED, pb.DURABILITY_SYNCED, pb.DURABILITY_WRITTEN)
    load = Load(server.address, ledger, channels, rng, shape=shape(rng, durabilities), publishers=3)
    with load:
        for _ in range(KILLS):
            load.more(rng.randint(1, 200))
            time.sleep(rng.uniform(0, 0.3))
            server.kill()
            kills += 1 + kill_recovering(rng, server)
            server.start()
        load.more(1)
    return settle(server, ledger, Outcome(), rounds=kills)


def kill_recovering(rng: random.Random, server: TortureServer) -> int:
    """Now and then, kill it while it starts; how often it was."""
    kills = 0
    while rng.random() < 0.3:
        server.spawn()
        time.sleep(rng.uniform(0.2, 1.5))
        server.kill()
        kills += 1
    return kills


FAULT = Fault("kill", 1, "kill -9 under load", strike)
