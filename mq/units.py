"""Sizes and durations as people write them: ``64MiB``, ``1m30s``."""

from __future__ import annotations

import re
from decimal import Decimal

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024 * GIB,
}
# Largest first: the first that divides a size is the one to print it in.
_PRINTED_SIZES = (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB))

_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_DURATION_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes from ``64MiB`` (binary), ``1GB`` (decimal) or plain bytes.

    Raises:
        ValueError: It is not a size, or not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size, such as 64MiB, 1GB or plain bytes")
    size = Decimal(match[1]) * unit
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """The shortest exact form that `parse_size` reads back: ``64MiB``, ``1000``."""
    for name, unit in _PRINTED_SIZES:
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return str(size_bytes)


def parse_duration(text: str) -> float:
    """Seconds from ``5s``, ``1m30s``, ``500ms``, or a plain number of seconds.

    The units are those of Go's durations, and ``d`` for days.

    Raises:
        ValueError: It is not a duration.
    """
    stripped = text.strip()
    if _PLAIN_NUMBER.fullmatch(stripped):
        return float(stripped)
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise ValueError(f"{text!r} is not a duration, such as 5s, 1m30s or 500ms")
    return float(sum(Decimal(number) * _DURATION_UNITS[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """A form that `parse_duration` reads back: ``5s``, ``500ms``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:.15g}s"
