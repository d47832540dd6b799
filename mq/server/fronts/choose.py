"""Which front serves: the fast one where it is safe and to be had."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mq.errors import ConfigError
from mq.server.call import Method
from mq.server.fronts.address import parse
from mq.server.fronts.base import CallObserver, Front, Limits

if TYPE_CHECKING:
    import grpc

Requested = Literal["auto", "native", "grpcio"]
Chosen = Literal["native", "grpcio"]


def native_installed() -> bool:
    """Whether pygrpc-native can be imported here."""
    try:
        import pygrpc_native  # noqa: F401, PLC0415 what is asked is whether this works
    except ImportError:
        return False
    return True


def choose_front(
    requested: Requested,
    listen: Sequence[str],
    tls: bool = False,
    installed: bool | None = None,
) -> tuple[Chosen, str]:
    """Choose between the fronts.

    Args:
        requested: ``auto`` chooses native if all of ``listen`` is loopback or
            Unix sockets, the package is installed and TLS is off.
        listen: ``HOST:PORT`` or ``unix:/path``.
        tls: Whether connections are to be encrypted.
        installed: Whether pygrpc-native is; None: looked up.

    Returns:
        The front's name, and the reason, for the start-up log.

    Raises:
        ConfigError: If an address is not one, or native can't do what is asked.
    """
    exposed = [address for address in listen if not is_local(address)]
    if requested == "grpcio":
        return "grpcio", "asked for"
    if installed is None:
        installed = native_installed()
    if requested == "native":
        _check_native(tls, installed)
        return "native", "asked for"
    if tls:
        return "grpcio", "TLS is on, which the native front does not have"
    if exposed:
        return "grpcio", f"{exposed[0]} can be reached from other machines"
    if not installed:
        return "grpcio", "pygrpc-native is not installed"
    return "native", "all addresses are loopback or Unix sockets"


def _check_native(tls: bool, installed: bool) -> None:
    if tls:
        raise ConfigError("the native front has no TLS; use the grpcio front, or auto")
    if not installed:
        raise ConfigError(
            "the native front needs pygrpc-native, which is not installed; "
            "run pip install pygrpc-native, or use the grpcio front"
        )


def is_local(listen: str) -> bool:
    """Whether only this machine can reach an address.

    Raises:
        ConfigError: If it is not an address.
    """
    address = parse(listen)
    if address.path or address.host.lower() == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def make_front(
    name: Chosen,
    methods: Sequence[Method],
    listen: Sequence[str],
    limits: Limits,
    observer: CallObserver,
    extra: Sequence[grpc.GenericRpcHandler] = (),
) -> Front:
    """Build the chosen front; only its own library is imported."""
    if name == "native":
        from mq.server.fronts.native import NativeFront  # noqa: PLC0415 needs the package

        return NativeFront(methods, listen, limits, observer, extra)
    from mq.server.fronts.grpcio import GrpcioFront  # noqa: PLC0415 slow to import

    return GrpcioFront(methods, listen, limits, observer, extra)
