"""What Prometheus scrapes."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mq.broker.model import GroupGauges, Stats
from mq.errors import FailedPrecondition
from mq.server.call import Call, Method
from mq.server.metrics import BrokerStats, Histogram, Metrics, MetricsEndpoint

ROOT = Path(__file__).parents[2]


def _handler(call: Call) -> None:
    call.reply(b"")


METHODS = [
    Method("/mq.MQService/Publish", False, _handler),
    Method("/mq.MQService/Pull", False, _handler),
]


# Numbers that no other sample has.
_FIRST = 1_000_001


def _stats() -> Stats:
    """A broker's counters, each with a number of its own, and those of one group."""
    names = [field.name for field in fields(Stats) if field.name != "groups"]
    group = GroupGauges("orders", "workers", 11, 1.5, 12, 13, 14, 15, 16, 17)
    return Stats(**{name: _FIRST + number for number, name in enumerate(names)}, groups=[group])


def _metrics(scrape: Callable[[], BrokerStats] = _stats) -> Metrics:
    return Metrics(METHODS, scrape, "1.2.3", "native")


async def _scrape(endpoint: MetricsEndpoint) -> dict[str, float]:
    """Every sample by its name and labels, fetched over HTTP."""

    def fetch() -> str:
        url = f"http://127.0.0.1:{endpoint.port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(fetch)
    return {
        sample.name
        + "".join(
            f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def metrics() -> Metrics:
    """Metrics of a broker with `Stats`."""
    return _metrics()


@pytest.fixture
async def endpoint(metrics: Metrics) -> AsyncIterator[MetricsEndpoint]:
    """Their HTTP server."""
    endpoint = MetricsEndpoint(metrics, "127.0.0.1", 0)
    yield endpoint
    await asyncio.to_thread(endpoint.close)


async def test_the_brokers_counters_are_shown(endpoint: MetricsEndpoint) -> None:
    """Each of the broker's figures is there, once."""
    values = (await _scrape(endpoint)).values()
    for number in range(len(fields(Stats)) - 1):
        assert list(values).count(_FIRST + number) == 1


async def test_each_group_has_its_figures(endpoint: MetricsEndpoint) -> None:
    """By channel and group."""
    labels = "{channel=orders}{group=workers}"
    samples = {n: v for n, v in (await _scrape(endpoint)).items() if n.endswith(labels)}
    assert samples == {
        f"mq_group_messages_behind{labels}": 11,
        f"mq_group_seconds_behind{labels}": 1.5,
        f"mq_group_in_flight{labels}": 12,
        f"mq_group_waiting{labels}": 13,
        f"mq_group_acked_total{labels}": 14,
        f"mq_group_redelivered_total{labels}": 15,
        f"mq_group_dead_total{labels}": 16,
        f"mq_group_expired_total{labels}": 17,
    }


async def test_calls_are_counted_by_method_and_code(
    metrics: Metrics, endpoint: MetricsEndpoint
) -> None:
    """Ended calls by code, and those in flight."""
    for _ in range(3):
        metrics.started(0)
    metrics.finished(0, 0)
    metrics.finished(0, 8)
    samples = await _scrape(endpoint)
    calls = {name: value for name, value in samples.items() if name.startswith("mq_calls")}
    assert calls == {
        "mq_calls_total{code=OK}{method=/mq.MQService/Publish}": 1,
        "mq_calls_total{code=RESOURCE_EXHAUSTED}{method=/mq.MQService/Publish}": 1,
        "mq_calls_in_flight{method=/mq.MQService/Publish}": 1,
        "mq_calls_in_flight{method=/mq.MQService/Pull}": 0,
    }


async def test_syncs_are_a_histogram(metrics: Metrics, endpoint: MetricsEndpoint) -> None:
    """Cumulative buckets by seconds, a count and a sum."""
    for seconds in (0.00005, 0.001, 0.3, 60.0):
        metrics.observe_fsync(seconds)
    samples = await _scrape(endpoint)
    assert samples["mq_fsync_seconds_bucket{le=0.0001}"] == 1
    assert samples["mq_fsync_seconds_bucket{le=0.001}"] == 2
    assert samples["mq_fsync_seconds_bucket{le=0.5}"] == 3
    assert samples["mq_fsync_seconds_bucket{le=10.0}"] == 3
    assert samples["mq_fsync_seconds_bucket{le=+Inf}"] == 4
    assert samples["mq_fsync_seconds_count"] == 4
    assert samples["mq_fsync_seconds_sum"] == pytest.approx(60.30105)


async def test_the_server_says_what_it_is(endpoint: MetricsEndpoint) -> None:
    """Version, front, start time, and the process's own figures."""
    samples = await _scrape(endpoint)
    assert samples["mq_info{front=native}{version=1.2.3}"] == 1
    assert samples["mq_start_time_seconds"] > 1_700_000_000
    assert samples["process_resident_memory_bytes"] > 0


async def test_counters_are_read_in_the_event_loop() -> None:
    """The broker's state is touched by its own thread only."""
    threads: list[threading.Thread] = []

    def scrape() -> Stats:
        threads.append(threading.current_thread())
        return _stats()

    endpoint = MetricsEndpoint(_metrics(scrape), "127.0.0.1", 0)
    await _scrape(endpoint)
    await asyncio.to_thread(endpoint.close)
    assert set(threads) == {threading.current_thread()}


def test_metrics_outlive_their_loop() -> None:
    """A scrape while the broker stops shows what was last read, or nothing of it."""

    async def make() -> Metrics:
        return _metrics()

    metrics = asyncio.run(make())
    names = {family.name for family in metrics.registry.collect()}
    assert "mq_fsync_seconds" in names
    assert "mq_commits" not in names


async def test_a_port_in_use_is_refused(metrics: Metrics) -> None:
    """The error names the address and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=rf"127\.0\.0\.1:{port}.*metrics_listen"):
            MetricsEndpoint(metrics, "127.0.0.1", port)


async def test_an_unknown_host_is_refused(metrics: Metrics) -> None:
    """As is a host that can't be resolved."""
    with pytest.raises(FailedPrecondition, match=r"no-such-host\.invalid:0"):
        MetricsEndpoint(metrics, "no-such-host.invalid", 0)


async def test_an_endpoint_can_be_closed_and_opened_again(metrics: Metrics) -> None:
    """The port is free after the close."""
    first = MetricsEndpoint(metrics, "127.0.0.1", 0)
    await asyncio.to_thread(first.close)
    second = MetricsEndpoint(metrics, "127.0.0.1", first.port)
    assert second.port == first.port
    await asyncio.to_thread(second.close)


def test_no_observation_is_lost_between_threads() -> None:
    """Several commit threads may observe at once."""
    histogram = Histogram((1.0,))

    def observe() -> None:
        for _ in range(2000):
            histogram.observe(0.5)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.buckets() == ([("1.0", 8000.0), ("+Inf", 8000.0)], 4000.0)


async def test_every_metric_is_documented(metrics: Metrics, endpoint: MetricsEndpoint) -> None:
    """docs/metrics.md has a row for each, and for no other."""
    metrics.finished(0, 0)
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(mq_\w+)", page, re.MULTILINE))
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", name.partition("{")[0])
        for name in await _scrape(endpoint)
        if name.startswith("mq_")
    }
    assert documented == shown
