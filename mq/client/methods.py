"""The service's methods by path, and the options of the channels they are called on."""

from __future__ import annotations

from mq.errors import InvalidArgument
from mq.units import MIB

_SERVICE = "/mq.MQService/"

CREATE_CHANNEL = _SERVICE + "CreateChannel"
PUBLISH_BATCH = _SERVICE + "PublishBatch"
PULL = _SERVICE + "Pull"
LIST_CHANNELS = _SERVICE + "ListChannels"
DESCRIBE_CHANNEL = _SERVICE + "DescribeChannel"
CONFIGURE_CHANNEL = _SERVICE + "ConfigureChannel"
DELETE_CHANNEL = _SERVICE + "DeleteChannel"
PURGE_CHANNEL = _SERVICE + "PurgeChannel"
FETCH = _SERVICE + "Fetch"
ACK = _SERVICE + "Ack"
NACK = _SERVICE + "Nack"
EXTEND = _SERVICE + "Extend"
RELEASE = _SERVICE + "Release"
CREATE_GROUP = _SERVICE + "CreateGroup"
LIST_GROUPS = _SERVICE + "ListGroups"
DESCRIBE_GROUP = _SERVICE + "DescribeGroup"
SEEK_GROUP = _SERVICE + "SeekGroup"
DELETE_GROUP = _SERVICE + "DeleteGroup"
REDRIVE_GROUP = _SERVICE + "RedriveGroup"
COMMIT_OFFSET = _SERVICE + "CommitOffset"
COMMITTED_OFFSET = _SERVICE + "CommittedOffset"

METHODS = (
    CREATE_CHANNEL,
    PUBLISH_BATCH,
    PULL,
    LIST_CHANNELS,
    DESCRIBE_CHANNEL,
    CONFIGURE_CHANNEL,
    DELETE_CHANNEL,
    PURGE_CHANNEL,
    FETCH,
    ACK,
    NACK,
    EXTEND,
    RELEASE,
    CREATE_GROUP,
    LIST_GROUPS,
    DESCRIBE_GROUP,
    SEEK_GROUP,
    DELETE_GROUP,
    REDRIVE_GROUP,
    COMMIT_OFFSET,
    COMMITTED_OFFSET,
)

CHANNEL_OPTIONS = (
    # A pull returns a batch whole, whatever was asked.
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.max_send_message_length", -1),
    # Retries are this library's, which knows what may be repeated.
    ("grpc.enable_retries", 0),
    # A waiting pull is silent; pings find out that its broker is gone.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A broker that restarts is found again within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Each client has its own connection, and goes straight to the broker.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


def check_target(target: str) -> str:
    """A broker's address.

    Raises:
        InvalidArgument: Neither ``host:port`` nor ``unix:/path``.
    """
    host, colon, port = target.rpartition(":")
    if target.startswith("unix:") or (host and colon and port.isdecimal()):
        return target
    raise InvalidArgument(f"a broker's address is host:port or unix:/path: {target!r}")
