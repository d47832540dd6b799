"""The load loops: what they send, count and time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mq.client import loadgen
from mq.client.loadgen import Load


def test_contents_are_distinct_and_repeatable() -> None:
    """The same contents at each call, of the size asked for, all different."""
    made = loadgen.contents(20, 100)
    assert made == loadgen.contents(20, 100)
    assert len(set(made)) == 100
    assert {len(content) for content in made} == {20}


def test_batches_have_the_wanted_shape() -> None:
    """Lists of as many contents as asked for, also when few distinct ones fit in memory."""
    made = loadgen.batches_of(1 << 20, 30, 2)
    assert [len(batch) for batch in made] == [30, 30]
    assert all(len(content) == 1 << 20 for batch in made for content in batch)


async def test_one_at_a_time_counts_what_was_timed() -> None:
    """The warm-up is sent, but neither counted nor timed."""
    sent: list[bytes] = []

    async def send(content: bytes) -> None:
        sent.append(content)

    load = await loadgen.one_at_a_time(send, size=7, seconds=0.01, warmup=3)
    assert load.messages == len(sent) - 3 == load.latencies_ns.size > 0
    assert load.content_bytes == 7 * load.messages


async def test_in_flight_runs_every_sender() -> None:
    """Each sender is used, and one message of each is in flight."""
    counts = [0, 0, 0]

    def sender(index: int) -> loadgen.Send:
        async def send(content: bytes) -> None:
            counts[index] += 1

        return send

    load = await loadgen.in_flight([sender(0), sender(1), sender(2)], size=1, seconds=0.01)
    assert all(counts)
    assert load.messages == sum(counts) - 3 * 4


async def test_batches_count_messages_but_time_batches() -> None:
    """One latency a batch, all its messages counted."""

    async def send(batch: Sequence[bytes]) -> None:
        assert len(batch) == 20

    load = await loadgen.batches([send], size=5, records=20, seconds=0.01)
    assert load.messages == 20 * load.latencies_ns.size > 0
    assert load.content_bytes == 5 * load.messages


async def test_reads_touch_each_message() -> None:
    """Messages and bytes are those that were read."""

    async def read() -> list[bytes]:
        return [b"abc", b"de"]

    load = await loadgen.reads(read, seconds=0.01)
    assert load.messages == 2 * load.latencies_ns.size > 0
    assert load.content_bytes * 2 == load.messages * 5


def test_a_load_without_latencies_has_no_quantiles() -> None:
    """NaN says that nothing was timed; a rate of nothing in no time is 0."""
    load = Load(0, 0, 0.0)
    assert load.messages_per_s == 0
    assert np.isnan(load.quantile_us(0.5))


def test_quantiles_are_in_microseconds() -> None:
    """Nanoseconds in, microseconds out."""
    load = Load(3, 3, 2.0, np.asarray([1_000, 2_000, 9_000], np.int64))
    assert load.quantile_us(0.5) == 2
    assert load.messages_per_s == 1.5
