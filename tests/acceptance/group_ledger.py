"""A group's ledger: consumers and the server killed at random, and every message accounted for.

    python -m tests.acceptance.group_ledger --messages 1000000 --consumers 20 --seed 7

Real messages, the lines of Python's standard library, are published by a
producer that retries, while consumer processes share them in one group. Both
they and the server are killed with SIGKILL at random moments and started again.
Some messages are poison, and are handed back each time. At the end every
message has been processed, every duplicate has its reason, each poison message
is in the dead-letter channel once, and what is redriven comes back.

Exits with 0 if so, with 1 if not. What it takes is in a temporary directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click

from mq import Client, MQError
from tests.acceptance.group_ledger_audit import (
    AFTER_ACK,
    CONSUMER_KILLED,
    LEASE_EXPIRED,
    SERVER_KILLED,
    UNEXPLAINED,
    Audit,
    audit,
)
from tests.acceptance.group_ledger_consumer import POISON
from tests.acceptance.test_standard_library import lines_of, sources
from tests.helpers.server import ROOT, ServerProcess, clean_environment

CHANNEL, GROUP = "ledger", "workers"
DEAD = f"{CHANNEL}.dead"
BUFFER_BYTES = 2 << 20
LIMIT_S = 3_600.0


@dataclass(frozen=True)
class Plan:
    """What to do. Times between kills are drawn from 0 to twice these, seconds."""

    messages: int = 1_000_000
    consumers: int = 20
    poison: int = 300
    seed: int = 1
    consumer_kill_s: float = 2.0
    server_kill_s: float = 8.0
    lease_ms: int = 5_000
    # At least so many kills, even if the work is done earlier.
    consumer_kills_min: int = 20
    server_kills_min: int = 4


@dataclass
class Report:
    """The ledger, to be printed. Numbers of messages where nothing else is said."""

    messages: int
    poison: int
    consumers: int
    seed: int
    processed: int = 0
    lost: int = 0
    corrupt: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    consumer_kills: int = 0
    server_kills: int = 0
    dead_letters: int = 0
    dead_letters_wrong: int = 0
    redriven: int = 0
    redriven_processed: int = 0
    seconds: float = 0.0
    suspects: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether all is accounted for."""
        wrong = self.lost + self.corrupt + self.dead_letters_wrong
        wrong += self.duplicates.get(AFTER_ACK, 0) + self.duplicates.get(UNEXPLAINED, 0)
        redriven = self.redriven == self.redriven_processed == self.poison
        return not wrong and redriven and self.dead_letters == self.poison

    def rows(self) -> Iterator[tuple[str, str]]:
        """The lines of the table."""
        yield "messages published", f"{self.messages:,}"
        yield "of them poison", f"{self.poison:,}"
        yield "consumer processes", f"{self.consumers:,}"
        yield "consumers killed (SIGKILL)", f"{self.consumer_kills:,}"
        yield "server killed (SIGKILL)", f"{self.server_kills:,}"
        yield "processed at least once", f"{self.processed:,}"
        yield "lost", f"{self.lost:,}"
        yield "with other contents", f"{self.corrupt:,}"
        yield "duplicates", f"{sum(self.duplicates.values()):,}"
        for reason in (CONSUMER_KILLED, SERVER_KILLED, LEASE_EXPIRED, AFTER_ACK, UNEXPLAINED):
            yield f"- {reason}", f"{self.duplicates.get(reason, 0):,}"
        yield "dead letters", f"{self.dead_letters:,}"
        yield "- twice, missing or of others", f"{self.dead_letters_wrong:,}"
        yield "redriven", f"{self.redriven:,}"
        yield "- processed then", f"{self.redriven_processed:,}"
        yield "seed", f"{self.seed}"
        yield "seconds", f"{self.seconds:.1f}"


class Consumers:
    """The consumer processes; each start has a name and a ledger of its own."""

    def __init__(self, server: ServerProcess, where: Path, plan: Plan) -> None:
        self._server = server
        self._where = where
        self._lease_ms = plan.lease_ms
        self._starts = 0
        self.killed_ns: dict[str, int] = {}
        self.ledgers: dict[str, Path] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for _ in range(plan.consumers):
            self._start()

    def _start(self) -> None:
        self._starts += 1
        name = f"consumer-{self._starts}"
        ledger = self.ledgers[name] = self._where / f"{name}.ledger"
        module = "tests.acceptance.group_ledger_consumer"
        with (self._where / f"{name}.err").open("wb") as errors:
            self._running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", module),
                    *(self._server.address, CHANNEL, GROUP, name, str(ledger)),
                    str(self._lease_ms),
                ],
                cwd=ROOT,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
            )

    def kill_one(self, choose: random.Random) -> None:
        """``kill -9`` one of them, and start another in its place."""
        name = choose.choice(sorted(self._running))
        process = self._running.pop(name)
        assert process.poll() is None, self._errors(name)
        process.kill()
        process.wait()
        process.communicate()
        # After the kill: what it wrote before, it wrote alive.
        self.killed_ns[name] = time.monotonic_ns()
        self._start()

    def end(self) -> None:
        """Let all of them close in order."""
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()
        for name, process in self._running.items():
            assert process.wait(60) == 0, self._errors(name)

    def destroy(self) -> None:
        """Leave none behind."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def _errors(self, name: str) -> str:
        return f"{name} ended: {(self._where / f'{name}.err').read_text()[-2000:]}"

    def lines(self) -> dict[str, list[str]]:
        """All ledgers, by name."""
        return {n: p.read_text().splitlines() for n, p in self.ledgers.items() if p.exists()}


class Killers:
    """Two threads that kill, one consumers, one the server, at random moments."""

    def __init__(self, plan: Plan, server: ServerProcess, consumers: Consumers) -> None:
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self.server_kills_ns: list[int] = []
        chosen = random.Random(plan.seed)

        def kill_server() -> None:
            self.server_kills_ns.append(time.monotonic_ns())
            server.restart(kill=True)

        self._threads = [
            self._thread(
                random.Random(chosen.random()),
                plan.consumer_kill_s,
                lambda: consumers.kill_one(chosen),
                lambda: len(consumers.killed_ns) >= plan.consumer_kills_min,
            ),
            self._thread(
                random.Random(chosen.random()),
                plan.server_kill_s,
                kill_server,
                lambda: len(self.server_kills_ns) >= plan.server_kills_min,
            ),
        ]

    def _thread(
        self,
        choose: random.Random,
        mean_s: float,
        kill: Callable[[], None],
        enough: Callable[[], bool],
    ) -> threading.Thread:
        def run() -> None:
            try:
                while not (self._stopping.wait(choose.uniform(0, 2 * mean_s)) and enough()):
                    kill()
                    if self._stopping.is_set():
                        time.sleep(choose.uniform(0, mean_s))
            except BaseException as error:  # noqa: BLE001 raised by `stop`
                self._failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Once there were enough kills."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(LIMIT_S)
        if self._failures:
            raise self._failures[0]


def messages_of(plan: Plan) -> list[bytes]:
    """The lines, repeated until there are enough, with poison among them."""
    lines = [line for line in lines_of(sources()) if line and not line.startswith(POISON)]
    found = list(islice(cycle(lines), plan.messages))
    for number, at in enumerate(random.Random(plan.seed).sample(range(plan.messages), plan.poison)):
        found[at] = POISON + b"%d " % number + found[at]
    return found


def publish(client: Client, messages: list[bytes]) -> None:
    """All of them, through kills; each is acknowledged at the offset it should have."""
    with client.producer(CHANNEL, buffer_bytes=BUFFER_BYTES) as producer:
        receipts = [producer.send(message) for message in messages]
        producer.flush()
    for offset, receipt in enumerate(receipts):
        assert receipt.result(0).offset == offset, "a message is not where it should be"


def wait_until_done(client: Client, end_offset: int) -> None:
    """Until the group has nothing more to do below an offset, and owes no dead letter."""
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        with contextlib.suppress(MQError):
            info = client.describe_group(GROUP, CHANNEL)
            if info.acked_through >= end_offset and not info.messages_behind:
                dead = client.describe_channel(DEAD).record_count if info.dead else 0
                if dead >= info.dead:
                    return
        time.sleep(0.1)
    raise AssertionError(f"not done within {LIMIT_S:.0f} s")


def dead_offsets(client: Client) -> Counter[int]:
    """How often each offset is in the dead-letter channel."""
    found: Counter[int] = Counter()
    position = 0
    while True:
        pulled = client.pull(DEAD, position)
        for message in pulled:
            found[int(dict(message.headers)["mq-dead-offset"])] += 1
        if pulled.next_offset >= pulled.durable_offset:
            return found
        position = pulled.next_offset


def run(plan: Plan, where: Path, tell: Callable[[str], None] = lambda _: None) -> Report:
    """Do all of it on a server of its own.

    Raises:
        AssertionError: It did not come to an end, or a message was refused.
    """
    began_s = time.monotonic()
    report = Report(plan.messages, plan.poison, plan.consumers, plan.seed)
    messages = messages_of(plan)
    poison = {at for at, message in enumerate(messages) if message.startswith(POISON)}
    with ServerProcess(where / "data") as server, Client(server.address) as client:
        client.create_channel(CHANNEL)
        consumers = Consumers(server, where, plan)
        try:
            killers = Killers(plan, server, consumers)
            publish(client, messages)
            tell(f"published after {time.monotonic() - began_s:.0f} s")
            wait_until_done(client, plan.messages)
            killers.stop()
            wait_until_done(client, plan.messages)
            tell(f"processed after {time.monotonic() - began_s:.0f} s")
            report.dead_letters_wrong = _check_dead(report, dead_offsets(client), poison)
            (where / "healed").touch()
            report.redriven = client.redrive_group(GROUP, CHANNEL)
            wait_until_done(client, plan.messages + report.redriven)
            again = [m.content for m in client.pull(CHANNEL, plan.messages, max_bytes=64 << 20)]
            consumers.end()
        finally:
            consumers.destroy()
    expected = [zlib.crc32(message) for message in messages + again]
    came_back = sorted(again) == sorted(messages[at] for at in poison)
    found = audit(consumers.lines(), expected, consumers.killed_ns, killers.server_kills_ns)
    _enter(report, found, plan.messages, len(again) if came_back else 0)
    report.consumer_kills = len(consumers.killed_ns)
    report.server_kills = len(killers.server_kills_ns)
    report.seconds = time.monotonic() - began_s
    return report


def _check_dead(report: Report, dead: Counter[int], poison: set[int]) -> int:
    report.dead_letters = dead.total()
    return sum(dead[at] != (at in poison) for at in dead.keys() | poison)


def _enter(report: Report, found: Audit, messages: int, came_back: int) -> None:
    report.processed = sum(at < messages for at in found.processed)
    report.lost = messages - report.processed
    report.corrupt = len(found.corrupt)
    report.duplicates = dict(found.duplicates)
    redriven = sum(at >= messages for at in found.processed)
    report.redriven_processed = min(redriven, came_back)
    report.suspects = found.suspects[:20]


def show(report: Report) -> None:
    """The table."""
    for label, value in report.rows():
        click.echo(f"{label:48}{value:>12}")
    for suspect in report.suspects:
        click.echo(suspect)
    click.echo("sound" if report.sound else "NOT SOUND")


def main() -> int:
    """Run, print the ledger; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument("--consumers", type=int, default=Plan.consumers)
    parser.add_argument("--poison", type=int, default=Plan.poison)
    parser.add_argument("--seed", type=int, default=None, help="at random")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ledger there too")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    plan = Plan(options.messages, options.consumers, options.poison, seed)
    with tempfile.TemporaryDirectory() as where:
        report = run(plan, Path(where), lambda text: click.echo(text, err=True))
    show(report)
    if options.json:
        figures: dict[str, Any] = asdict(report) | {"sound": report.sound}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
