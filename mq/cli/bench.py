"""``mq bench``: measure a running broker.

Thin: what is measured is in ``mq.client.workloads``, which the project's own
benchmarks use as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from mq.cli import output
from mq.cli.connection import Connection, connection_options
from mq.cli.exits import FAILED, Failure
from mq.cli.help import examples
from mq.cli.types import duration

if TYPE_CHECKING:
    from mq import AsyncClient
    from mq.client.loadgen import Load

Row = dict[str, Any]
Measure = Callable[["AsyncClient", str], Awaitable["Load"]]

_PREFIX = "mq-bench-"
_COLUMNS = ("messages/s", "MB/s", "p50 us", "p99 us")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
size_option = click.option(
    "--size", type=click.IntRange(1, 64 << 20), default=100, show_default=True,
    help="Bytes a message.",
)  # fmt: skip
seconds_option = click.option(
    "--time", "seconds", type=duration, default="2s", show_default=True,
    help="How long each measurement goes on.",
)  # fmt: skip
records_option = click.option(
    "--records", type=click.IntRange(1, 100_000), default=500, show_default=True,
    help="Messages a batch.",
)  # fmt: skip


messages_option = click.option(
    "--messages",
    type=click.IntRange(1),
    default=500_000,
    show_default=True,
    help="How many are there to read.",
)


class Numbers(click.ParamType[tuple[int, ...]]):
    """Numbers above zero, separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """A tuple of them."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of numbers such as 1,10,100", param, ctx)
        return tuple(int(part) for part in parts)


@click.group(
    epilog=examples(
        "mq bench peers",
        "mq bench append --records 1,10,100,1000 --time 5s",
        "mq bench end-to-end --rate 1000 --json",
    ),
)
def bench() -> None:
    """Measure a running broker, with durable acknowledgements.

    Channels named mq-bench-… are made for it and deleted afterwards. What is
    measured includes this client, which is often the slower side. The comparison
    with other brokers is `python -m bench` in the project's source tree.
    """


@bench.command(epilog=examples("mq bench append", "mq bench append --records 500 --in-flight 1"))
@click.option("--records", "sizes", type=Numbers(), default="1,10,100,500,1000,5000",
              show_default=True, help="Messages a batch.")  # fmt: skip
@click.option("--in-flight", type=click.IntRange(1, 1000), default=4, show_default=True,
              help="Batches in flight.")  # fmt: skip
@size_option
@seconds_option
@json_option
@connection_options
def append(
    connection: Connection, sizes: tuple[int, ...], in_flight: int, size: int, seconds: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Publish batches, by how many messages they have."""
    from mq.client import workloads

    def measure(records: int) -> Measure:
        return lambda client, channel: workloads.publish_batches(
            client, channel, records=records, width=in_flight, size=size, seconds=seconds
        )

    plans = [(f"{records:,} a batch", measure(records)) for records in sizes]
    _print_loads("append", _run(connection, _each(plans)), as_json)


@bench.command(epilog=examples("mq bench pull", "mq bench pull --max-bytes 65536,1048576"))
@messages_option
@click.option("--max-bytes", "limits", type=Numbers(), default="65536,1048576,4194304",
              show_default=True, help="What one pull brings, about.")  # fmt: skip
@records_option
@size_option
@seconds_option
@json_option
@connection_options
def pull(
    connection: Connection, messages: int, limits: tuple[int, ...], records: int, size: int,
    seconds: float, as_json: bool,
) -> None:  # fmt: skip
    """Read a channel again and again, looking at each message."""
    from mq.client import workloads

    def measure(max_bytes: int) -> Measure:
        return lambda client, channel: workloads.pull(
            client, channel, max_bytes=max_bytes, seconds=seconds
        )

    async def main(client: AsyncClient) -> list[tuple[str, Load]]:
        async with _channel(client) as channel:
            await workloads.fill(client, channel, count=messages, size=size, records=records)
            return [(f"{limit:,} B a pull", await measure(limit)(client, channel))
                    for limit in limits]  # fmt: skip

    _print_loads("pull", _run(connection, main), as_json)


@bench.command(
    "end-to-end", epilog=examples("mq bench end-to-end", "mq bench end-to-end --rate 100,1000")
)
@click.option("--rate", "rates", type=Numbers(), default="100,1000", show_default=True,
              help="Messages a second.")  # fmt: skip
@click.option("--time", "seconds", type=duration, default="5s", show_default=True,
              help="How long each rate is kept up.")  # fmt: skip
@size_option
@json_option
@connection_options
def end_to_end(
    connection: Connection, rates: tuple[int, ...], seconds: float, size: int, as_json: bool
) -> None:
    """Publish at a fixed rate, and time when a waiting pull has each message.

    Times count from when a message was due to be sent, so that a stall shows in
    every message it delays.
    """
    rows = _run(connection, lambda client: _rates(client, rates, seconds, size))
    columns = ("messages/s", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us")
    _print_rows(columns, rows, as_json)


@bench.command(epilog=examples("mq bench recovery", "mq bench recovery --wait 10m"))
@click.option("--wait", "limit_s", type=duration, default="5m", show_default=True,
              help="How long to wait for the broker to go and to come back.")  # fmt: skip
@size_option
@json_option
@connection_options
def recovery(connection: Connection, limit_s: float, size: int, as_json: bool) -> None:
    """Publish while you stop, kill or restart the broker, and time how long it was away.

    Afterwards everything that was acknowledged has to be there, in order and
    once; the exit code is 1 if it is not.
    """
    from mq.client import outage

    async def main(client: AsyncClient) -> outage.Outage:
        async with _channel(client) as channel:
            output.tell("publishing; now restart or kill the broker")
            return await outage.watch(client, channel, size=size, limit_s=limit_s)

    seen = _run(connection, main)
    columns = ("away s", "acknowledged", "missing", "repeated")
    _print_rows(columns, [dataclasses.asdict(seen)], as_json)
    if seen.missing or seen.repeated:
        raise Failure("what was acknowledged is not what is there", code=FAILED)


@bench.command(epilog=examples("mq bench scale", "mq bench scale --channels 1,1000 --sizes 100"))
@click.option("--channels", "counts", type=Numbers(), default="1,10,100", show_default=True,
              help="Publish to so many channels, 64 messages in flight.")  # fmt: skip
@click.option("--stored", type=Numbers(), default="1000,100000,1000000", show_default=True,
              help="Publish to channels that hold so many messages.")  # fmt: skip
@click.option("--sizes", type=Numbers(), default="10,100,1024,10240,102400,1048576",
              show_default=True, help="Bytes a message, in batches of about 50 kB.")  # fmt: skip
@seconds_option
@json_option
@connection_options
def scale(
    connection: Connection, counts: tuple[int, ...], stored: tuple[int, ...],
    sizes: tuple[int, ...], seconds: float, as_json: bool,
) -> None:  # fmt: skip
    """Publish by number of channels, messages stored and message size."""
    from mq.client import workloads

    async def spread(client: AsyncClient, count: int) -> Load:
        async with AsyncExitStack() as stack:
            names = [await stack.enter_async_context(_channel(client)) for _ in range(count)]
            return await workloads.publish_spread(
                client, names, width=64, size=100, seconds=seconds
            )

    async def after(client: AsyncClient, count: int) -> Load:
        async with _channel(client) as channel:
            await workloads.fill(client, channel, count=count, size=100, records=500)
            return await workloads.publish_one(client, channel, size=100, seconds=seconds)

    async def sized(client: AsyncClient, size: int) -> Load:
        async with _channel(client) as channel:
            return await workloads.publish_batches(
                client, channel, records=max(1, 50_000 // size), width=4, size=size,
                seconds=seconds,
            )  # fmt: skip

    async def main(client: AsyncClient) -> list[tuple[str, Load]]:
        return [
            *[(f"{count:,} channels", await spread(client, count)) for count in counts],
            *[(f"{count:,} stored, one at a time", await after(client, count))
              for count in stored],
            *[(f"{size:,} B a message", await sized(client, size)) for size in sizes],
        ]  # fmt: skip

    _print_loads("scale", _run(connection, main), as_json)


@bench.command(epilog=examples("mq bench peers", "mq bench peers --size 1024 --time 5s"))
@messages_option
@records_option
@size_option
@seconds_option
@json_option
@connection_options
def peers(
    connection: Connection, messages: int, records: int, size: int, seconds: float, as_json: bool
) -> None:
    """The workloads of the comparison with other brokers, on this one."""
    from mq.client import workloads

    plans: list[tuple[str, Measure]] = [
        ("publish, one at a time", lambda client, channel: workloads.publish_one(
            client, channel, size=size, seconds=seconds)),
        ("publish, 64 in flight", lambda client, channel: workloads.publish_in_flight(
            client, channel, width=64, size=size, seconds=seconds)),
        ("publish, 64 calls in flight", lambda client, channel: workloads.publish_unary(
            client.target, channel, width=64, size=size, seconds=seconds)),
        (f"publish, batches of {records}", lambda client, channel: workloads.publish_batches(
            client, channel, records=records, width=1, size=size, seconds=seconds)),
        ("publish, four batches in flight", lambda client, channel: workloads.publish_batches(
            client, channel, records=records, width=4, size=size, seconds=seconds)),
        ("producer, one send a message", lambda client, channel: workloads.produce(
            client, channel, size=size, seconds=seconds)),
    ]  # fmt: skip

    async def main(client: AsyncClient) -> list[tuple[str, Load]]:
        found = await _each(plans)(client)
        async with _channel(client) as channel:
            await workloads.fill(client, channel, count=messages, size=size, records=records)
            by_count = await workloads.pull(
                client, channel, max_records=records, seconds=seconds, ahead=False
            )
            by_bytes = await workloads.pull(client, channel, max_bytes=1 << 20, seconds=seconds)
        return [*found, (f"pull, {records} at a time", by_count), ("pull, 1 MiB", by_bytes)]

    _print_loads("workload", _run(connection, main), as_json)


@asynccontextmanager
async def _channel(client: AsyncClient) -> AsyncIterator[str]:
    """A channel of our own, deleted at the end."""
    name = _PREFIX + secrets.token_hex(6)
    await client.create_channel(name)
    try:
        yield name
    finally:
        await client.delete_channel(name)


def _each(
    plans: Sequence[tuple[str, Measure]],
) -> Callable[[AsyncClient], Coroutine[Any, Any, list[tuple[str, Load]]]]:
    """Each measurement on a channel of its own."""

    async def main(client: AsyncClient) -> list[tuple[str, Load]]:
        found = []
        for label, measure in plans:
            async with _channel(client) as channel:
                found.append((label, await measure(client, channel)))
        return found

    return main


async def _rates(client: AsyncClient, rates: Sequence[int], seconds: float, size: int) -> list[Row]:
    import time

    import numpy as np

    from mq.client import workloads
    from mq.client.pacing import Schedule

    rows = []
    for rate in rates:
        async with _channel(client) as channel:
            count = max(1, round(rate * seconds))
            schedule = Schedule(rate, count, time.monotonic_ns() + 100_000_000)
            latencies, _ = await asyncio.gather(
                workloads.receive_paced(client, channel, 0, count, limit_s=seconds + 60),
                workloads.publish_paced(client, channel, schedule, size=size),
            )
        named = zip(("p50", "p90", "p99", "p999", "max"), (0.5, 0.9, 0.99, 0.999, 1.0), strict=True)
        quantiles = {f"{name}_us": float(np.quantile(latencies, q)) / 1e3 for name, q in named}
        rows.append({"rate_per_s": rate, **quantiles})
    return rows


def _run(connection: Connection, main: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    from mq import AsyncClient

    async def connected() -> Any:
        async with AsyncClient(connection.target, timeout_s=connection.timeout_s) as client:
            return await main(client)

    return asyncio.run(connected())


def _print_loads(key: str, loads: Sequence[tuple[str, Load]], as_json: bool) -> None:
    rows = [
        {
            key: label,
            "messages_per_s": load.messages_per_s,
            "mb_per_s": load.content_bytes / load.seconds / 1e6,
            "p50_us": load.quantile_us(0.5) if load.latencies_ns.size else None,
            "p99_us": load.quantile_us(0.99) if load.latencies_ns.size else None,
        }
        for label, load in loads
    ]
    _print_rows((key, *_COLUMNS), rows, as_json)


def _print_rows(columns: Sequence[str], rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        for row in rows:
            output.print_json(row)
        return
    output.print_table(columns, [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
