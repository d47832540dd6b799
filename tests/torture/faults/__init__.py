"""The faults, each a module with one `Fault`."""

from __future__ import annotations

from tests.torture.fault import Fault
from tests.torture.faults import kill, power_cut, syscalls

FAULTS: tuple[Fault, ...] = (kill.FAULT, syscalls.FAULT, power_cut.FAULT)
