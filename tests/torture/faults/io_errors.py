"""The device fails: an over-committed loop device, and errors injected by strace."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import grpc

from mq.pb import mq_pb2 as pb
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front
from tests.torture.ledger import Ledger
from tests.torture.load import Load, Shape, connect, until
from tests.torture.oracle import check_reads, read_back, settle
from tests.torture.place import Disk, Place, TortureServer, needs, needs_mounts, run

IMAGE_BYTES = 64 << 20
REAL_BYTES = 24 << 20
LIMIT_S = 60.0
WRITES = "pwritev2,pwritev,pwrite64"


def strike(rng: random.Random, place: Place) -> Outcome:
    """In turn: a device with fewer blocks than it has told, and one call that fails."""
    return (overcommitted, injected)[place.number % 2](rng, place)


# ---- A device that lies -------------------------------------------------------


def overcommitted(rng: random.Random, place: Place) -> Outcome:
    """Writes succeed, and their write-back fails."""
    room = place.tmpfs(REAL_BYTES)
    disk = place.disk(IMAGE_BYTES, room / "image", page_requests=True)
    options = ("--segment-bytes", rng.choice(("256KiB", "4MiB")), "--min-free-bytes", "0")
    server = place.server(*options, *front(rng), data_dir=disk.path / "data").start()
    channels = create_channels(server, 2)
    ledger, outcome = Ledger(), Outcome()
    shape = Shape(batch_records_max=20, content_bytes_max=20_000)
    with Load(server.address, ledger, channels, rng, shape=shape) as load:
        load.more(20)
        failed = until(lambda: any(fails(server, name) for name in channels), LIMIT_S)
        outcome.expect(failed, "the device is over-committed, and no channel has failed")
        if rng.random() < 0.5:
            server.kill()
    if server.running:
        server.stop()
    # The device is well again; the machine was not restarted.
    run("mount", "-o", f"remount,size={2 * IMAGE_BYTES}", str(room))
    if not server.started():
        # The file system had given up, and is read-only.
        remount(disk)
        server.start()
    before = everything(server, channels)
    server.stop()
    remount(disk)
    server.start()
    for name, after in everything(server, channels).items():
        gone = len(before[name]) - len(after)
        outcome.expect(
            before[name] == after, f"{name}: a remount has taken {gone} records that had been read"
        )
    with Load(server.address, ledger, channels, rng) as load:
        load.more(20)
    return settle(server, ledger, outcome, rounds=1)


def remount(disk: Disk) -> None:
    """Have nothing in memory any more of what the device should hold."""
    disk.unmount()
    disk.mount()


def everything(server: TortureServer, channels: list[str]) -> dict[str, list[tuple[int, bytes]]]:
    """All records of all channels."""
    with contextlib.closing(connect(server.address)) as rpc:
        return {name: read_back(rpc, name)[1] for name in channels}


# ---- A call that fails --------------------------------------------------------


def injected(rng: random.Random, place: Place) -> Outcome:
    """Fail the N-th write or sync of one channel's segment, or of the whole broker."""
    server = place.server("--segment-bytes", "64MiB", *front(rng)).start()
    channels = create_channels(server, 2)
    ledger, outcome = Ledger(), Outcome()
    shape = Shape(batch_records_max=3, content_bytes_max=100)
    with Load(server.address, ledger, channels, rng, shape=shape) as load:
        load.more(50)
        server.stop()
        only = newest_segment(server, channels[0]) if rng.random() < 0.7 else None
        injection = Injection(rng, only)
        server.traced(*injection.options())
        if server.started() and only:
            check_neighbour(server, ledger, outcome, channels, must_fail=injection.certain)
        elif server.running:
            until(lambda: any(fails(server, name) for name in channels), 3.0)
        if server.running and rng.random() < 0.5:
            server.stop()
        server.kill()
        server.traced()
        server.start()
        load.more(20)
    return settle(server, ledger, outcome, rounds=1)


class Injection:
    """A call that strace fails, once or for good, on one file or everywhere."""

    def __init__(self, rng: random.Random, path: Path | None) -> None:
        """Choose; an error that is no device's is met once."""
        calls = [WRITES, "fdatasync"]
        if path is None:
            calls += ["fdatasync,syncfs", "fsync", "rename", "unlink"]
        self._path = path
        self._call = rng.choice(calls)
        self._error = rng.choice(("EIO", "EIO", "ENOSPC", "EINTR"))
        self._when = rng.randint(1, 4)
        self._for_good = self._error == "EIO" and rng.random() < 0.5
        # Whoever publishes writes; another call may do for a sync.
        self.certain = self._error == "EIO" and self._call == WRITES

    def options(self) -> list[str]:
        """Those of strace."""
        only = ["-P", str(self._path)] if self._path else []
        when = f"{self._when}{'+' if self._for_good else ''}"
        inject = f"inject={self._call}:error={self._error}:when={when}"
        return [*only, "-e", f"trace={self._call}", "-e", inject]


def check_neighbour(
    server: TortureServer, ledger: Ledger, outcome: Outcome, channels: list[str], *, must_fail: bool
) -> None:
    """The channel whose device fails stops; the other goes on, and what is open is read."""
    failed = until(lambda: fails(server, channels[0]), 10.0 if must_fail else 1.0)
    outcome.expect(failed or not must_fail, "writes fail, and the channel goes on")
    count = len(ledger.told(channels[1]))
    goes_on = until(lambda: len(ledger.told(channels[1])) > count, 20.0)
    outcome.expect(goes_on, "one channel has failed, and the other stopped")
    readable = [name for name in channels if state(server, name) != pb.CHANNEL_STATE_FAILED]
    check_reads(server, ledger, outcome, "beside a failed channel", readable)


def state(server: TortureServer, channel: str) -> int:
    """What the broker says of a channel; 0: nothing."""
    if server.running:
        with contextlib.closing(connect(server.address)) as rpc, contextlib.suppress(grpc.RpcError):
            return int(rpc.describe(channel).state)
    return 0


def fails(server: TortureServer, channel: str) -> bool:
    """Whether the broker says that the channel takes no publishes."""
    return state(server, channel) in (pb.CHANNEL_STATE_READ_ONLY, pb.CHANNEL_STATE_FAILED)


def newest_segment(server: TortureServer, channel: str) -> Path:
    """The file that a channel appends to."""
    for record in server.data_dir.glob("channels/*/channel.json"):
        if json.loads(record.read_text())["name"] == channel:
            return max(record.parent.glob("*.seg"))
    raise AssertionError(f"no channel {channel}")


FAULT = Fault(
    "io-errors",
    9,
    "a device that fails its writes",
    strike,
    lambda: needs("strace")() or needs_mounts(loop=True)(),
)
