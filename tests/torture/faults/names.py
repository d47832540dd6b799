"""Names that mean something to a file system, and symbolic links where the broker's files are."""

from __future__ import annotations

import contextlib
import json
import random
import unicodedata
from pathlib import Path

import grpc

from tests.conformance.rpc import Rpc
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import front
from tests.torture.ledger import Ledger
from tests.torture.load import connect
from tests.torture.oracle import settle
from tests.torture.place import Place, TortureServer

NAMES = (
    *("", ".", "..", "../x", "../../../../tmp/x", "/etc/passwd", "a/b", "a\\b", "a\0b", "\0"),
    *("%2e%2e", "%2e", "~", "$HOME", "a b", "a\nb", "-", "--help", "CON", "nul.txt", "\u202eabc"),
    *("channels", "mq.lock", "format.json", "channel.json", "x.seg", ".new-x", ".deleted-x"),
    *("case", "CASE", "Case", "x" * 255, "x" * 256, "x" * 300, "é" * 100, "é" * 130),
    *(unicodedata.normalize(form, "café") for form in ("NFC", "NFD")),
    *("\uff43\uff41\uff53\uff45", "\ud7ff", "\U0010ffff", "a\u0301", "\u200b", "e\u200d"),
)
RANDOM = 60


def strike(rng: random.Random, place: Place) -> Outcome:
    """Use each name; then put a symbolic link in the place of each kind of file."""
    server = place.server(*front(rng)).start()
    outside = set(place.path.rglob("*")) - set(server.data_dir.rglob("*"))
    ledger, outcome = Ledger(), Outcome()
    names = list(dict.fromkeys((*NAMES, *(random_name(rng) for _ in range(RANDOM)))))
    with contextlib.closing(connect(server.address)) as rpc:
        made = [name for name in names if use(rpc, name, ledger, outcome)]
        listed = {info.name for info in rpc.list_channels().channels}
        outcome.expect(listed == set(made), f"made {made}, listed {sorted(listed)}")
    server.restart(kill=rng.random() < 0.5)
    now = set(place.path.rglob("*")) - set(server.data_dir.rglob("*"))
    outcome.expect(now == outside, f"outside of the data directory there is {now - outside}")
    links = follow_links(rng, place, server, made, outcome)
    return settle(server, ledger, outcome, rounds=len(names) + links)


def random_name(rng: random.Random) -> str:
    """Any characters at all, as UTF-8 can carry them."""
    alphabet = ("abcAB019._-", "/\\.%\0\n\t ", "äöüÄe\u0301\u0308ßﬁ", "日本語😀\u200b")
    return "".join(rng.choice(rng.choice(alphabet)) for _ in range(rng.randint(1, 12)))


def use(rpc: Rpc, name: str, ledger: Ledger, outcome: Outcome) -> bool:
    """Make a channel and publish to it; whether it was not refused."""
    try:
        rpc.create(name)
    except grpc.RpcError as error:
        code = error.code().name
        outcome.expect(code == "INVALID_ARGUMENT", f"the name {name!r} is refused with {code}")
        return False
    content = b"for " + name.encode()
    ledger.send(name, [content])
    ledger.acknowledge(name, rpc.publish(name, content).offset, [content])
    return True


# ---- Symbolic links -----------------------------------------------------------


def follow_links(
    rng: random.Random, place: Place, server: TortureServer, names: list[str], outcome: Outcome
) -> int:
    """Move a file or directory of a channel away and link to it; how often it was done."""
    away = place.path / "away"
    away.mkdir()
    kinds = ("", "channel.json", "checkpoint", "00000000000000000000.seg")
    for kind in kinds:
        server.stop()
        name = rng.choice(names)
        victim = directory_of(server, name) / kind
        if not victim.exists():
            server.start()
            continue
        target = away / "moved"
        victim.rename(target)
        victim.symlink_to(target)
        before = content_of(target)
        server.start()
        with contextlib.closing(connect(server.address)) as rpc:
            taken = readable(rpc, name)
            others = [other for other in names if other != name]
            works = readable(rpc, rng.choice(others))
        # Only the checkpoint can be done without.
        outcome.expect(kind == "checkpoint" or not taken, f"a link in place of {kind or name}")
        outcome.expect(works, f"a link in place of {kind or name} stops other channels")
        outcome.expect(content_of(target) == before, f"what a link led to was changed: {kind}")
        server.stop()
        if victim.is_symlink():
            victim.unlink()
            target.rename(victim)
        else:
            target.unlink()
        server.start()
    return len(kinds)


def directory_of(server: TortureServer, name: str) -> Path:
    """Where a channel's files are."""
    for record in server.data_dir.glob("channels/*/channel.json"):
        if json.loads(record.read_text())["name"] == name:
            return record.parent
    raise AssertionError(f"no channel {name}")


def content_of(path: Path) -> dict[str, bytes]:
    """Everything in a file or directory."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


def readable(rpc: Rpc, name: str) -> bool:
    """Whether a channel's record can be read."""
    try:
        return bool(rpc.contents(name))
    except grpc.RpcError:
        return False


FAULT = Fault("names", 16, "names, and symbolic links", strike)
