"""`verify` runs beside a broker that writes, and a copy of its directory is opened elsewhere."""

from __future__ import annotations

import random
import shutil

from mq.log.verify import verify_data_dir
from tests.torture.fault import Fault, Outcome
from tests.torture.faults.common import create_channels, front, shape
from tests.torture.ledger import Ledger
from tests.torture.load import Load, connect
from tests.torture.oracle import faults, judge, settle
from tests.torture.place import Place

CHECKS = 10


def strike(rng: random.Random, place: Place) -> Outcome:
    """Verify again and again under load; it must find nothing."""
    server = place.server("--segment-bytes", rng.choice(("64KiB", "1MiB")), *front(rng)).start()
    channels = create_channels(server, 2, retention_bytes=rng.choice((0, 300_000)))
    ledger, outcome = Ledger(), Outcome()
    with Load(server.address, ledger, channels, rng, shape=shape(rng), publishers=3) as load:
        for _ in range(CHECKS):
            load.more(rng.randint(1, 200))
            report = verify_data_dir(server.data_dir)
            outcome.expect(
                report.live, "verify took a running broker's directory for a stopped one"
            )
            for line in faults(report):
                outcome.problem(f"verify beside a broker: {line}")
    settle(server, ledger, outcome, rounds=CHECKS)
    elsewhere = place.path / "copy" / "data"
    shutil.copytree(server.data_dir, elsewhere)
    copy = place.server(data_dir=elsewhere).start()
    rpc = connect(copy.address)
    try:
        again = judge(rpc, ledger)
    finally:
        rpc.close()
    outcome.lost += again.lost
    outcome.problems += again.problems
    return outcome


FAULT = Fault("verify", 18, "verify beside a broker, and a copied directory", strike)
