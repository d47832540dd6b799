"""Create a channel and publish numbered messages to it, with plain gRPC stubs.

    python publisher.py --channel greetings --count 10

This uses nothing of mq but its generated stubs, and only the three calls of
the first contract; see ../python for the client library.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time

import grpc

from mq.pb import mq_pb2, mq_pb2_grpc

CALL_TIMEOUT_S = 10.0
# Ping every 10 seconds, with calls in flight or without, so that a connection
# lost on the way is noticed.
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def main() -> None:
    """Publish as the command line says."""
    options = parse_arguments()
    with grpc.insecure_channel(options.address, CHANNEL_OPTIONS) as connection:
        broker = mq_pb2_grpc.MQServiceStub(connection)
        # Succeeds for a channel that exists, so it can be called at each start.
        broker.CreateChannel(
            mq_pb2.CreateChannelRequest(channel=options.channel), timeout=CALL_TIMEOUT_S
        )
        for n in range(options.count) if options.count else itertools.count():
            content = f"{options.text} {n}"
            # Returns once the broker has the message on its disk.
            broker.Publish(
                mq_pb2.PublishRequest(channel=options.channel, content=content.encode()),
                timeout=CALL_TIMEOUT_S,
            )
            print("published", content, flush=True)
            time.sleep(options.interval_s)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    host = os.environ.get("BROKER_HOST", "localhost")
    port = os.environ.get("BROKER_PORT", "50051")
    parser = argparse.ArgumentParser(description="Publish numbered messages to a channel.")
    parser.add_argument("--address", default=f"{host}:{port}", help="the broker, host:port")
    parser.add_argument("--channel", default="greetings", help="the channel to publish to")
    parser.add_argument("--text", default="hello", help="what each message begins with")
    parser.add_argument("--count", type=int, default=10, help="how many; 0: until interrupted")
    parser.add_argument("--interval-s", type=float, default=0.0, help="between two messages")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    except KeyboardInterrupt:
        sys.exit(130)
