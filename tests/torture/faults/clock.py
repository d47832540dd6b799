"""The clock jumps by a day, forward and back, while a broker runs and while it doesn't."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
from pathlib import Path

from tests.conformance.rpc import Rpc
from tests.helpers.server import ROOT
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front, shape
from tests.torture.ledger import Ledger
from tests.torture.load import Load, connect
from tests.torture.oracle import settle
from tests.torture.place import Place

DAY_NS = 86_400_000_000_000
JUMPS = 8
# Longer than all jumps together: whatever the clock does, nothing is that old.
RETENTION_MS = 2 * (JUMPS + 1) * DAY_NS // 1_000_000

# Runs in the broker's process before anything else does.
SITECUSTOMIZE = """
import mmap, os, struct, time
with open(os.environ["TORTURE_CLOCK"], "rb") as file:
    ahead = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
real_ns = time.time_ns
time.time_ns = lambda: real_ns() + struct.unpack("<q", ahead[:8])[0]
time.time = lambda: time.time_ns() / 1e9
"""


class Clock:
    """The clock of a broker's process, which can be moved while it runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._path = directory / "ahead"
        self._ahead_ns = 0
        self._path.write_bytes(struct.pack("<q", 0))
        path = os.pathsep.join((str(ROOT), str(directory)))
        self.env = {"PYTHONPATH": path, "TORTURE_CLOCK": str(self._path)}

    def jump(self, by_ns: int) -> None:
        """Forward, or back."""
        self._ahead_ns += by_ns
        with self._path.open("r+b") as file:
            file.write(struct.pack("<q", self._ahead_ns))


def strike(rng: random.Random, place: Place) -> Outcome:
    """Publish under a clock that jumps, then check order, offsets and what was kept."""
    clock = Clock(place.path / "clock")
    server = place.server("--segment-bytes", "64KiB", *front(rng), env=clock.env).start()
    channels = create_channels(server, 2, retention_ms=RETENTION_MS, segment_ms=3_600_000)
    ledger, outcome = Ledger(), Outcome()
    began_ns = time.time_ns()
    with Load(server.address, ledger, channels, rng, shape=shape(rng)) as load:
        for _ in range(JUMPS):
            load.more(rng.randint(1, 100))
            clock.jump(rng.choice((-1, 1)) * DAY_NS)
            if rng.random() < 0.4:
                server.restart(kill=rng.random() < 0.5)
        load.more(1)
    with contextlib.closing(connect(server.address)) as rpc:
        for channel in channels:
            check(rpc, channel, began_ns, outcome)
    return settle(server, ledger, outcome, rounds=JUMPS)


def check(rpc: Rpc, channel: str, began_ns: int, outcome: Outcome) -> None:
    """Append times never go back, retention has removed nothing, and times can be found."""
    info = rpc.describe(channel)
    outcome.expect(info.log_start_offset == 0, "retention has removed what is not old")
    times: dict[int, int] = {}
    offset = 0
    while offset < info.durable_offset:
        answer = rpc.pull(channel, offset=offset, max_bytes=4 << 20).answer
        times.update({batch.base_offset: batch.append_time_ns for batch in answer.batches})
        offset = answer.next_offset
    told = [times[base] for base in sorted(times)]
    outcome.expect(told == sorted(told), f"{channel}: append times go back")
    outcome.expect(told[0] >= began_ns - 2 * JUMPS * DAY_NS, f"{channel}: a time out of range")
    for base in (0, max(times), sorted(times)[len(times) // 2]):
        found = rpc.pull(channel, time_ns=times[base], max_records=1).answer.start_offset
        first = min(other for other, at in times.items() if at >= times[base])
        outcome.expect(found == first, f"{channel}: a time of offset {first} is found at {found}")


FAULT = Fault("clock", 12, "the clock a day forward and back", strike)
