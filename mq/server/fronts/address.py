"""Listen addresses: parsed, resolved, and checked before a library binds them.

The libraries themselves would bind only the free half of ``localhost``, say
little of why an address can't be had, and replace any file at a Unix path.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mq.errors import ConfigError, FailedPrecondition

# sun_path is 108 bytes on Linux and 104 on macOS, with a final zero.
_UNIX_PATH_BYTES_MAX = 103


class Address(NamedTuple):
    """One socket to listen on: a numeric host and a port, or a Unix path."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(listen: str) -> Address:
    """Take ``HOST:PORT``, ``[V6]:PORT`` or ``unix:PATH`` apart; names stay names.

    Raises:
        ConfigError: If it is none of them.
    """
    if listen.startswith("unix:"):
        return Address(path=_parse_path(listen))
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdecimal()) or (":" in host and not bracketed):
        raise ConfigError(
            f"{listen!r} is no address to listen on; "
            "write HOST:PORT, [IPV6]:PORT or unix:/path/to/socket"
        )
    if int(port) > 65535:
        raise ConfigError(f"{listen!r}: a port is at most 65535")
    host = host[1:-1] if bracketed else host
    if not host:
        raise ConfigError(f"{listen!r} has no host; write 0.0.0.0:{port} for all interfaces")
    return Address(host, int(port))


def _parse_path(listen: str) -> str:
    path = listen.removeprefix("unix:")
    if not path.lstrip("/") or "\0" in path:
        raise ConfigError(f"{listen!r} has no path; write unix:/path/to/socket")
    # unix:///path is a way to write unix:/path.
    path = str(Path("/" + path.lstrip("/") if path.startswith("/") else path).absolute())
    if len(os.fsencode(path)) > _UNIX_PATH_BYTES_MAX:
        raise ConfigError(
            f"{listen!r}: a Unix socket's path is at most {_UNIX_PATH_BYTES_MAX} bytes; "
            "choose a shorter one"
        )
    return path


def claim(listens: Sequence[str]) -> list[Address]:
    """Resolve addresses and see that each can be bound.

    A name is resolved to all its addresses, which then share one port; those
    of a kind this machine lacks are left out. A dead socket at a Unix path is
    removed.

    Raises:
        ConfigError: If one is not an address, or its host is unknown.
        FailedPrecondition: If one is in use or can't be had.
    """
    if not listens:
        raise ConfigError("no address to listen on; give at least one, such as 127.0.0.1:50051")
    return [address for listen in listens for address in _claim(parse(listen))]


def _claim(wanted: Address) -> list[Address]:
    if wanted.path:
        _claim_path(Path(wanted.path))
        return [wanted]
    claimed: list[Address] = []
    lacking: OSError | None = None
    port = wanted.port
    candidates = _resolve(wanted)
    for candidate in candidates:
        try:
            free = _bind_once(candidate._replace(port=port))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _unbindable(wanted, error) from error
            lacking = error
        else:
            # Several addresses of one name get one port; a lone one keeps 0.
            port = free if len(candidates) > 1 else port
            claimed.append(candidate._replace(port=port))
    if not claimed:
        assert lacking is not None
        raise _unbindable(wanted, lacking)
    return claimed


def _resolve(wanted: Address) -> list[Address]:
    try:
        infos = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"can't listen on {wanted}: the host is unknown ({error}); "
            "use an address of this machine, or 0.0.0.0 for all"
        ) from error
    return list(dict.fromkeys(Address(str(info[4][0]), wanted.port) for info in infos))


def _bind_once(address: Address) -> int:
    """Bind and let go; the port that was free."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the libraries do: connections of an earlier server that linger in
        # TIME_WAIT don't stand in the way, a listening one does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
        return int(probe.getsockname()[1])


def _unbindable(address: Address, error: OSError) -> FailedPrecondition:
    advice = {
        errno.EADDRINUSE: "another server listens there; stop it or choose another port",
        errno.EACCES: "not permitted; choose a port from 1024 on",
        errno.EADDRNOTAVAIL: "this machine has no such address; use one it has, or 0.0.0.0",
    }.get(error.errno or 0, f"{os.strerror(error.errno or 0)}; choose another address")
    return FailedPrecondition(f"can't listen on {address}: {advice}")


def unbound(address: Address, error: Exception) -> FailedPrecondition:
    """The error for an address that was claimed, and could not be bound after all."""
    return FailedPrecondition(f"can't listen on {address}: {error}; choose another address")


def _claim_path(path: Path) -> None:
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FailedPrecondition(
            f"can't listen on unix:{path}: no directory {path.parent} that is writable; "
            "create it or choose another path"
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPrecondition(
            f"can't listen on unix:{path}: a file that is no socket is there; "
            "move it away or choose another path"
        )
    if _answers(path):
        raise FailedPrecondition(
            f"can't listen on unix:{path}: another server listens there; "
            "stop it or choose another path"
        )
    path.unlink()


def _answers(path: Path) -> bool:
    """Whether anyone listens on a socket file; doubt counts as yes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED
