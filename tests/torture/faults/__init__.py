"""The faults, each a module with one `Fault`."""

from __future__ import annotations

from tests.torture.fault import Fault
from tests.torture.faults import full_disk, io_errors, kill, power_cut, syscalls

FAULTS: tuple[Fault, ...] = (
    kill.FAULT,
    syscalls.FAULT,
    power_cut.FAULT,
    full_disk.FAULT,
    io_errors.FAULT,
)
