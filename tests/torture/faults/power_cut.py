"""The power goes: ext4 on a loop device is shut down under load, unmounted and mounted again."""

from __future__ import annotations

import random
import time

from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front, shape
from tests.torture.ledger import Ledger
from tests.torture.load import Load
from tests.torture.oracle import settle
from tests.torture.place import Place, needs_mounts

CUTS = 4
DISK_BYTES = 512 << 20
# Everything is written back first, or the journal only, or nothing at all.
FLAGS = (0, 1, 2, 2)


def strike(rng: random.Random, place: Place) -> Outcome:
    """Cut the power several times, then check."""
    disk = place.disk(DISK_BYTES)
    segment_bytes = rng.choice(("64KiB", "1MiB", "64MiB"))
    server = place.server(
        "--segment-bytes", segment_bytes, *front(rng), data_dir=disk.path / "data"
    )
    server.start()
    channels = create_channels(server, rng.randint(1, 3))
    ledger = Ledger()
    with Load(server.address, ledger, channels, rng, shape=shape(rng), publishers=3) as load:
        for _ in range(CUTS):
            load.more(rng.randint(1, 300))
            time.sleep(rng.uniform(0, 0.3))
            disk.shut_down(rng.choice(FLAGS))
            # It lives on for a moment, without a disk; and may only refuse.
            time.sleep(rng.choice((0.0, 0.0, 0.2)))
            server.kill()
            disk.unmount()
            disk.mount()
            server.start()
        load.more(1)
    return settle(server, ledger, Outcome(), rounds=CUTS)


FAULT = Fault("power-cut", 3, "ext4 on a loop device shut down", strike, needs_mounts(loop=True))
