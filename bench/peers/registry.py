"""The brokers by name. Imported only when asked for: their clients may be missing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from bench.environment import Unavailable
from bench.peers.base import Driver, Peer

_PEERS = {
    "mq": ("bench.peers.mq_broker", "Mq", "MqDriver"),
    "redis": ("bench.peers.redis_streams", "Redis", "RedisDriver"),
    "nats": ("bench.peers.jetstream", "Nats", "NatsDriver"),
    "kafka": ("bench.peers.kafka", "Kafka", "KafkaDriver"),
}
NAMES: Sequence[str] = tuple(_PEERS)
_PEERS |= {
    f"mq-{front}": ("bench.peers.mq_broker", f"Mq{front.title()}", "MqDriver")
    for front in ("native", "grpcio")
}


def peer(name: str) -> Peer:
    """The broker of that name.

    Raises:
        Unavailable: Its Python client is not installed.
    """
    module, peer_class, _ = _PEERS[name]
    found: Peer = getattr(_import(module), peer_class)()
    return found


def driver(name: str, address: str, mode: str) -> Driver:
    """A driver of the broker of that name; ``Unavailable`` as for ``peer``."""
    module, _, driver_class = _PEERS[name]
    found: Driver = getattr(_import(module), driver_class)(address, mode)
    return found


def _import(module: str) -> object:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"the Python package {error.name} is not installed: pip install 'mq[bench]'"
        ) from error
