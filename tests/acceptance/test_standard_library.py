"""Real input: every line of Python's standard library, there and back, killed and all."""

from __future__ import annotations

import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mq import Client, SyncPendingReceipt
from tests.acceptance.conftest import LIMIT_S, Mq
from tests.helpers.server import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S)]

CHANNEL = "stdlib"
KILLS = 3
# What may be under way when the server is killed.
BUFFER_BYTES = 2 << 20


def sources() -> list[Path]:
    """The library's own modules, without what was installed beside them."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]


def lines_of(paths: list[Path]) -> list[bytes]:
    """Their lines, empty ones too; what follows a last newline is one."""
    lines: list[bytes] = []
    for path in paths:
        *ended, rest = path.read_bytes().split(b"\n")
        lines += ended
        if rest:
            lines.append(rest)
    return lines


def joined(lines: list[bytes]) -> bytes:
    """As ``mq sub --raw`` prints them."""
    return b"".join([line + b"\n" for line in lines])


def test_the_standard_library(start: Callable[..., ServerProcess], mq: Mq) -> None:
    """Published and read byte for byte; a second load survives kill -9, each line once."""
    server = start()
    paths = sources()
    lines = lines_of(paths)
    assert len(lines) > 100_000

    files = [argument for path in paths for argument in ("--file", path)]
    mq("pub", CHANNEL, "--create", "--quiet", *files, server=server)
    assert mq("sub", CHANNEL, "--from", "beginning", "--raw", server=server) == joined(lines)

    receipts = load_while_killed(server, lines)
    # The ledger: each line was acknowledged once, where it is expected to be.
    base = len(lines)
    assert [receipt.result(0).offset for receipt in receipts] == [*range(base, 2 * base)]
    stored = mq("sub", CHANNEL, "--from", "beginning", "--raw", server=server)
    assert stored == joined(lines) + joined(lines)
    assert mq("sub", CHANNEL, "--from", str(base), "--raw", server=server) == joined(lines)

    assert server.stop() == 0
    mq("verify", server.data_dir)


def load_while_killed(server: ServerProcess, lines: list[bytes]) -> list[SyncPendingReceipt]:
    """Send every line by one producer while the server is killed and started again and again."""
    kill = threading.Semaphore(0)
    killed = threading.Semaphore(0)

    def killer() -> None:
        for _ in range(KILLS):
            assert kill.acquire(timeout=LIMIT_S)
            server.restart(kill=True)
            killed.release()

    thread = threading.Thread(target=killer)
    thread.start()
    kill_at = {len(lines) * (n + 1) // (KILLS + 1) for n in range(KILLS)}
    with (
        Client(server.address) as client,
        client.producer(CHANNEL, buffer_bytes=BUFFER_BYTES) as producer,
    ):
        receipts = []
        for number, line in enumerate(lines):
            receipts.append(producer.send(line))
            if number in kill_at:
                assert not all(receipt.done for receipt in receipts[-100:]), "nothing under way"
                kill.release()
        producer.flush()
    for _ in range(KILLS):
        assert killed.acquire(timeout=LIMIT_S)
    thread.join()
    return receipts
