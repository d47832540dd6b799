"""SIGTERM under load, and SIGSTOP for longer than clients wait."""

from __future__ import annotations

import random
import signal
import time

from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front, shape
from tests.torture.ledger import Ledger
from tests.torture.load import CALL_LIMIT_S, Load
from tests.torture.oracle import settle
from tests.torture.place import Place

TIMES = 4
# Mostly past the clients' deadlines, now and then past everyone's keepalive.
STOPPED_S = (1.0, CALL_LIMIT_S + 1, CALL_LIMIT_S + 1, 60.0)


def strike(rng: random.Random, place: Place) -> Outcome:
    """Stop the broker in order, or freeze it, several times; then check."""
    server = place.server("--segment-bytes", rng.choice(("64KiB", "64MiB")), *front(rng)).start()
    channels = create_channels(server, rng.randint(1, 3))
    ledger, outcome = Ledger(), Outcome()
    with Load(server.address, ledger, channels, rng, shape=shape(rng), publishers=3) as load:
        for _ in range(TIMES):
            load.more(rng.randint(1, 300))
            time.sleep(rng.uniform(0, 0.3))
            if rng.random() < 0.7:
                code = server.stop()
                outcome.expect(code == 0, f"SIGTERM under load ended with code {code}")
                server.start()
            else:
                server.signal(signal.SIGSTOP)
                time.sleep(rng.choices(STOPPED_S, (4, 4, 2, 1))[0])
                server.signal(signal.SIGCONT)
        load.more(1)
    return settle(server, ledger, outcome, rounds=TIMES)


FAULT = Fault("signals", 11, "SIGTERM under load, SIGSTOP", strike)
