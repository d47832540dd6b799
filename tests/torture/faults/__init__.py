"""The faults, each a module with one `Fault`."""

from __future__ import annotations

from tests.torture.fault import Fault
from tests.torture.faults import (
    clock,
    connections,
    full_disk,
    fuzzing,
    groups,
    io_errors,
    kill,
    limits,
    live_verify,
    malformed,
    names,
    power_cut,
    retention,
    signals,
    syscalls,
)

FAULTS: tuple[Fault, ...] = (
    kill.FAULT,
    syscalls.FAULT,
    power_cut.FAULT,
    full_disk.FAULT,
    io_errors.FAULT,
    limits.FAULT,
    signals.FAULT,
    clock.FAULT,
    connections.FAULT,
    retention.FAULT,
    malformed.FAULT,
    names.FAULT,
    live_verify.FAULT,
    groups.FAULT,
    fuzzing.FAULT,
)
