"""The disk is full: while appending, rolling, checkpointing and recovering."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import Load, Shape
from tests.torture.oracle import check_reads, settle
from tests.torture.place import Place, TortureServer, needs_mounts

DISK_BYTES = 64 << 20
# Less than this free without the ballast: what is stored fills the disk by itself.
ROOM_BYTES = 16 << 20
PAGE_BYTES = 4096
TIMES = 3
LIMIT_S = 30.0


def strike(rng: random.Random, place: Place) -> Outcome:
    """Fill the disk and free it again, several times, then check."""
    room = place.tmpfs(DISK_BYTES)
    options = (
        *("--segment-bytes", rng.choice(("64KiB", "256KiB", "1MiB"))),
        # Refused in time, or when there really is nothing left.
        *("--min-free-bytes", rng.choice(("0", "0", "4MiB"))),
        *front(rng),
    )
    server = place.server(*options, data_dir=room / "data").start()
    channels = create_channels(server, 2)
    ledger, outcome = Ledger(), Outcome()
    shape = Shape(batch_records_max=20, content_bytes_max=rng.choice((100, 2000)))
    with Load(server.address, ledger, channels, rng, shape=shape) as load:
        for _ in range(TIMES):
            load.more(rng.randint(1, 100))
            if free_bytes(room) < ROOM_BYTES:
                break
            outcome.rounds += 1
            ballast = fill(room, rng)
            refused = ledger.wait_refused(ledger.refused + 1, LIMIT_S)
            outcome.expect(refused, "the disk is full, and nothing is refused")
            check_reads(server, ledger, outcome, "on a full disk")
            while rng.random() < 0.5:
                restart(rng, server)
                outcome.rounds += 1
                check_reads(server, ledger, outcome, "after a start on a full disk")
            ballast.unlink()
            # By itself, and soon.
            load.more(20)
            outcome.expect(server.running, "a full disk has ended the server")
    return settle(server, ledger, outcome, rounds=0)


def free_bytes(room: Path) -> int:
    """What can still be written."""
    stat = os.statvfs(room)
    return stat.f_bavail * stat.f_frsize


def fill(room: Path, rng: random.Random) -> Path:
    """A file that takes all the room there is, or nearly."""
    ballast = room / "ballast"
    left = rng.choice((0, 4096, 70_000, rng.randrange(1 << 20)))
    step = 1 << 20
    with ballast.open("wb") as file:
        while step >= PAGE_BYTES:
            # The broker takes room meanwhile, or gives some back.
            step = min(step, (free_bytes(room) - left) // PAGE_BYTES * PAGE_BYTES)
            try:
                if step > 0:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            except OSError:
                step //= 2
    return ballast


def restart(rng: random.Random, server: TortureServer) -> None:
    """However it ends, it has to start with no room at all."""
    if rng.random() < 0.5:
        server.kill()
    else:
        server.stop()
    server.start()


FAULT = Fault("full-disk", 8, "a small tmpfs, full", strike, needs_mounts())
