"""Create a channel and publish numbered messages to it.

    python publisher.py --channel greetings --count 1000

The producer gathers messages into batches; each is acknowledged once it is on
the broker's disk, and sending it again after a lost answer can't double it.
"""

from __future__ import annotations

import argparse
import os
import sys

import mq


def main() -> None:
    """Publish as the command line says."""
    options = parse_arguments()
    with mq.Client(options.address) as client:
        client.create_channel(options.channel)
        with client.producer(options.channel) as producer:
            sent = [producer.send(f"{options.text} {n}".encode()) for n in range(options.count)]
        offsets = [receipt.result().offset for receipt in sent]
    print(f"published {len(offsets)} messages, offsets {offsets[0]} to {offsets[-1]}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    host = os.environ.get("BROKER_HOST", "localhost")
    port = os.environ.get("BROKER_PORT", "50051")
    parser = argparse.ArgumentParser(description="Publish numbered messages to a channel.")
    parser.add_argument("--address", default=f"{host}:{port}", help="the broker, host:port")
    parser.add_argument("--channel", default="greetings", help="the channel to publish to")
    parser.add_argument("--text", default="hello", help="what each message begins with")
    parser.add_argument("--count", type=int, default=1000, help="how many, at least one")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("--count is at least one")
    return options


if __name__ == "__main__":
    try:
        main()
    except mq.MQError as error:
        sys.exit(f"publisher: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
