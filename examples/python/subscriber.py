"""Follow a channel, from its beginning or from now on, with the asynchronous client.

    python subscriber.py --channel greetings --from beginning

It goes on through restarts of the broker, where it left off.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import mq


async def main() -> None:
    """Subscribe as the command line says."""
    options = parse_arguments()
    received = 0
    async with mq.AsyncClient(options.address) as client:
        async for message in client.subscribe(options.channel, start=options.start):
            print(message.offset, message.content.decode(errors="backslashreplace"), flush=True)
            received += 1
            if received == options.count:
                return


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    host = os.environ.get("BROKER_HOST", "localhost")
    port = os.environ.get("BROKER_PORT", "50051")
    parser = argparse.ArgumentParser(description="Print the messages of a channel.")
    parser.add_argument("--address", default=f"{host}:{port}", help="the broker, host:port")
    parser.add_argument("--channel", default="greetings", help="the channel; it must exist")
    parser.add_argument(
        "--from", dest="start", choices=("beginning", "latest"), default="beginning"
    )
    parser.add_argument("--count", type=int, default=0, help="end after; 0: until interrupted")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except mq.MQError as error:
        sys.exit(f"subscriber: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
