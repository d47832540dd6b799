"""Prometheus metrics; docs/metrics.md lists them.

The hot path only adds to plain integers. They become metrics when somebody
scrapes: a collector reads them then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import prometheus_client
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mq.broker.model import GroupGauges
from mq.errors import FailedPrecondition
from mq.server.call import Method
from mq.server.status import CODE_NAMES

_FSYNC_BOUNDS_S = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
# A scrape that the event loop does not get to is answered with what was last read.
_SCRAPE_TIMEOUT_S = 5.0


class BrokerStats(Protocol):
    """The broker's counters (never going back) and gauges."""

    @property
    def published_messages(self) -> int:
        """Records acknowledged."""

    @property
    def published_bytes(self) -> int:
        """Their bytes, as stored."""

    @property
    def pulls(self) -> int:
        """Pulls answered."""

    @property
    def pulled_bytes(self) -> int:
        """Bytes handed out."""

    @property
    def commits(self) -> int:
        """Group commits done."""

    @property
    def fsync_failures(self) -> int:
        """Commits whose sync failed."""

    @property
    def waiting_pulls(self) -> int:
        """Long polls that wait for a record."""

    @property
    def pending_publish_bytes(self) -> int:
        """Bytes of publishes that wait for a commit."""

    @property
    def unsynced_messages(self) -> int:
        """Records appended and not yet durable."""

    @property
    def channels(self) -> int:
        """Channels there are."""

    @property
    def open_channels(self) -> int:
        """Channels with open files."""

    @property
    def open_segments(self) -> int:
        """Segment files open and mapped."""

    @property
    def read_only_channels(self) -> int:
        """Channels that take no publishes."""

    @property
    def disk_free_bytes(self) -> int:
        """Room left on the data directory's device."""

    @property
    def groups(self) -> Sequence[GroupGauges]:
        """The consumer groups in use."""


# Attribute, metric (a counter's gets "_total" at its end), what it says.
_COUNTERS = (
    ("published_messages", "mq_published_messages", "Records acknowledged to publishers."),
    ("published_bytes", "mq_published_bytes", "Bytes of records acknowledged."),
    ("pulls", "mq_pulls", "Pulls answered."),
    ("pulled_bytes", "mq_pulled_bytes", "Bytes handed to subscribers."),
    ("commits", "mq_commits", "Group commits: one append and one sync each."),
    ("fsync_failures", "mq_fsync_failures", "Syncs that failed; their channel is read-only."),
)
_GAUGES = (
    ("open_segments", "mq_open_segments", "Segment files open and mapped."),
    ("open_channels", "mq_open_channels", "Channels with open files."),
    ("channels", "mq_channels", "Channels there are."),
    ("read_only_channels", "mq_read_only_channels", "Channels that take no publishes."),
    ("waiting_pulls", "mq_waiting_pulls", "Long polls that wait for a record."),
    ("unsynced_messages", "mq_durable_lag_messages", "Records appended and not yet durable."),
    ("pending_publish_bytes", "mq_pending_publish_bytes", "Bytes that wait for a commit."),
    ("disk_free_bytes", "mq_disk_free_bytes", "Room left on the data directory's device."),
)


_GROUP_COUNTERS = (
    ("acked", "mq_group_acked", "Messages acknowledged."),
    ("redelivered", "mq_group_redelivered", "Messages put back by a nack or a lapsed lease."),
    ("dead", "mq_group_dead", "Messages that became dead letters."),
    ("expired", "mq_group_expired", "Messages that expired before they were handed out."),
)
_GROUP_GAUGES = (
    ("messages_behind", "mq_group_messages_behind", "Messages not acknowledged."),
    ("seconds_behind", "mq_group_seconds_behind", "Age of the oldest of them."),
    ("in_flight", "mq_group_in_flight", "Messages leased to consumers."),
    ("waiting", "mq_group_waiting", "Messages delayed or backing off."),
)


class Histogram:
    """Counts of durations by upper bound; may be fed from several threads."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds: float) -> None:
        """Count one."""
        with self._lock:
            self._counts[bisect_left(self._bounds_s, seconds)] += 1
            self._sum_s += seconds

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by bound, as Prometheus has them, and the sum."""
        with self._lock:
            counts, total_s = list(self._counts), self._sum_s
        bounds = [*map(str, self._bounds_s), "+Inf"]
        return list(zip(bounds, map(float, accumulate(counts)), strict=True)), total_s


class Metrics:
    """All that is measured, and a `CallObserver` for the front.

    Args:
        methods: The front's method table; its places are the method ids.
        scrape: Reads the broker's counters, in the event loop's thread.
        version: mq's.
        front: The front's name.
    """

    def __init__(
        self, methods: Sequence[Method], scrape: Callable[[], BrokerStats], version: str, front: str
    ) -> None:
        self._methods = [method.path for method in methods]
        self._started = [0] * len(methods)
        self._finished = [[0] * len(CODE_NAMES) for _ in methods]
        self._scrape = scrape
        self._last: BrokerStats | None = None
        self._info = {"version": version, "front": front}
        self._start_time_s = time.time()
        self._loop = asyncio.get_running_loop()
        self._fsync_seconds = Histogram(_FSYNC_BOUNDS_S)
        self.observe_fsync = self._fsync_seconds.observe
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(_Collector(self._collect))
        # Memory, CPU and open files of the process, under their usual names.
        prometheus_client.ProcessCollector(registry=self.registry)

    def started(self, method_id: int) -> None:
        """Count a call in."""
        self._started[method_id] += 1

    def finished(self, method_id: int, code: int) -> None:
        """Count a call out."""
        self._finished[method_id][code] += 1

    @property
    def calls_begun(self) -> int:
        """How many calls have begun."""
        return sum(self._started)

    def _stats(self) -> BrokerStats | None:
        """The broker's counters, read where they are written: in its event loop."""
        read: concurrent.futures.Future[BrokerStats] = concurrent.futures.Future()

        def run() -> None:
            if read.set_running_or_notify_cancel():
                try:
                    read.set_result(self._scrape())
                except Exception as error:  # noqa: BLE001 raised again by result()
                    read.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            return self._last  # the loop is closed: the broker has stopped
        try:
            self._last = read.result(_SCRAPE_TIMEOUT_S)
        except TimeoutError:
            read.cancel()
        return self._last

    def _collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("mq", "The running server.", value=self._info)
        yield GaugeMetricFamily(
            "mq_start_time_seconds", "When it started, Unix seconds.", value=self._start_time_s
        )
        yield from self._calls()
        buckets, sum_s = self._fsync_seconds.buckets()
        yield HistogramMetricFamily(
            "mq_fsync_seconds", "How long syncs took.", buckets=buckets, sum_value=sum_s
        )
        stats = self._stats()
        if stats is not None:
            for attribute, name, text in _COUNTERS:
                yield CounterMetricFamily(name, text, value=getattr(stats, attribute))
            for attribute, name, text in _GAUGES:
                yield GaugeMetricFamily(name, text, value=getattr(stats, attribute))
            yield from _groups(stats.groups)

    def _calls(self) -> Iterator[Metric]:
        total = CounterMetricFamily("mq_calls", "Calls ended.", labels=("method", "code"))
        in_flight = GaugeMetricFamily("mq_calls_in_flight", "Calls begun.", labels=("method",))
        for method_id, path in enumerate(self._methods):
            # Finished first: the loop counts on meanwhile, and in flight stays above 0.
            finished = list(self._finished[method_id])
            in_flight.add_metric((path,), self._started[method_id] - sum(finished))
            for code, count in zip(CODE_NAMES, finished, strict=True):
                if count:
                    total.add_metric((path, code), count)
        yield total
        yield in_flight


def _groups(groups: Sequence[GroupGauges]) -> Iterator[Metric]:
    labels = ("channel", "group")
    for attribute, name, text in _GROUP_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=labels)
        for group in groups:
            counter.add_metric((group.channel, group.group), getattr(group, attribute))
        yield counter
    for attribute, name, text in _GROUP_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=labels)
        for group in groups:
            value = getattr(group, attribute)
            if value is not None:
                gauge.add_metric((group.channel, group.group), value)
        yield gauge


class _Collector(Collector):
    """Calls a function for the metrics at each scrape."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        return self._collect()

    def describe(self) -> Iterator[Metric]:
        """None: with an answer here, registering does not need to collect."""
        return iter(())


class MetricsEndpoint:
    """The HTTP server that Prometheus scrapes, in a thread of its own.

    Args:
        metrics: What it shows, at any path.
        host: Address to listen on.
        port: 0: any that is free.

    Raises:
        FailedPrecondition: If the address is in use or can't be had.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._server, self._thread = prometheus_client.start_http_server(
                port, host, metrics.registry
            )
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            what = "another server listens there" if in_use else error.strerror or str(error)
            raise FailedPrecondition(
                f"can't serve metrics on {host}:{port}: {what}; "
                "set metrics_listen to another address, or to off"
            ) from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop listening; blocks for up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
