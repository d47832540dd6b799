"""Print the messages of a channel, from its beginning or from now on, with plain gRPC stubs.

    python subscriber.py --channel greetings --from beginning

This uses nothing of mq but its generated stubs, and only the three calls of
the first contract; see ../python for the client library.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime

import grpc

from mq.pb import mq_pb2, mq_pb2_grpc

# Ping every 10 seconds, with calls in flight or without, so that a connection
# lost on the way is noticed.
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
OFFSETS = {"beginning": mq_pb2.OFFSET_BEGINNING, "latest": mq_pb2.OFFSET_LATEST}


def main() -> None:
    """Subscribe as the command line says."""
    options = parse_arguments()
    request = mq_pb2.SubscribeRequest(
        channel=options.channel,
        offset=OFFSETS[options.start],
        pull_interval=options.pull_interval_ms,
    )
    with grpc.insecure_channel(options.address, CHANNEL_OPTIONS) as connection:
        messages = mq_pb2_grpc.MQServiceStub(connection).Subscribe(request)
        for received, message in enumerate(messages, start=1):
            show(message)
            if received == options.count:
                messages.cancel()
                return


def show(message: mq_pb2.Message) -> None:
    """One line: id, time, content."""
    created = datetime.fromtimestamp(message.created_at, UTC)
    content = message.content.decode(errors="backslashreplace")
    print(message.id, f"{created:%Y-%m-%dT%H:%M:%SZ}", content, flush=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    host = os.environ.get("BROKER_HOST", "localhost")
    port = os.environ.get("BROKER_PORT", "50051")
    parser = argparse.ArgumentParser(description="Print the messages of a channel.")
    parser.add_argument("--address", default=f"{host}:{port}", help="the broker, host:port")
    parser.add_argument("--channel", default="greetings", help="the channel; it must exist")
    parser.add_argument("--from", dest="start", choices=OFFSETS, default="beginning")
    parser.add_argument("--count", type=int, default=0, help="end after; 0: until interrupted")
    parser.add_argument(
        "--pull-interval-ms", type=int, default=100, help="at most one batch is sent in this time"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    except KeyboardInterrupt:
        sys.exit(130)
