"""The server process: wiring, start, signals, stop."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from mq import __version__
from mq.broker.broker import Broker
from mq.broker.datadir import filesystem_warning
from mq.broker.model import BrokerConfig, Durability
from mq.config import Settings
from mq.errors import MQError
from mq.server.fronts.base import Front, Limits
from mq.server.fronts.choose import choose_front, make_front
from mq.server.health import CHANNELS_SERVICE, HEALTH_SERVICE, HealthState
from mq.server.logs import configure_logging
from mq.server.metrics import Metrics, MetricsEndpoint
from mq.server.reflection import reflection_handlers
from mq.server.service.table import SERVICE, methods

EXIT_OK = 0
EXIT_FAILED = 1
# Descriptors kept for everything but channels' and segments' files.
_SPARE_FILES = 256
# What a front takes beyond its grace, to hang up on clients that don't read.
_FRONT_FLUSH_S = 1.0
# Without a call for this long, clients have understood that the broker stops.
_QUIET_S = 0.1
_QUIET_MAX_S = 1.0

_log = structlog.get_logger("mq.server")


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The process's exit code: 0 after an orderly stop, 1 if it could not start.
    """
    log_format = settings.resolve_log_format(terminal=sys.stderr.isatty())
    configure_logging(settings.log_level, log_format)
    # The loop's thread and the committers' hand the interpreter to each other all
    # the time: at the default, 5 ms, one that is done waits for one that is busy.
    sys.setswitchinterval(0.001)
    for warning in settings.warnings:
        _log.warning("setting_ignored", reason=warning)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_Server(settings).serve())
    except MQError as error:
        _log.error("not_started", reason=error.message)
        return EXIT_FAILED
    return EXIT_OK


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 an extra, which may be missing
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def broker_config(settings: Settings, files_max: int) -> BrokerConfig:
    """What the broker needs of the settings, within ``files_max`` open files."""
    share = max(8, (files_max - _SPARE_FILES) // 3)
    return BrokerConfig(
        data_dir=settings.data_dir,
        segment_bytes=settings.segment_bytes,
        durability=Durability.SYNCED if settings.sync else Durability.WRITTEN,
        unsynced_bytes_max=settings.bytes_per_sync,
        max_message_bytes=settings.max_recv_bytes,
        pending_bytes_max=settings.max_pending_bytes,
        waiting_pulls_max=settings.max_waiting_pulls,
        open_channels_max=min(settings.max_open_channels, share),
        open_segments_max=min(256, share),
        free_bytes_min=settings.min_free_bytes,
        compact_dirty_ratio_min=settings.compact_dirty_percent / 100,
        tombstone_retention_s=settings.tombstone_retention_s,
        recover_on_start=settings.sync_on_startup,
    )


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class _Server:
    """One run of the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def serve(self) -> None:
        """Start, wait for a signal, stop.

        Raises:
            MQError: It could not start; nothing is left running.
        """
        settings = self._settings
        files_max = raise_file_limit()
        chosen, reason = choose_front(settings.front, settings.listen)
        broker = Broker(broker_config(settings, files_max), structlog.get_logger("mq.broker"))
        await broker.start()
        _warn_of_filesystem(broker.data_path.resolve())
        stopping = asyncio.Event()
        health = HealthState(SERVICE, CHANNELS_SERVICE)
        front: Front | None = None
        endpoint: MetricsEndpoint | None = None
        table = [*methods(broker, settings.batch_size, stopping), *health.methods()]
        metrics = Metrics(table, broker.scrape, __version__, chosen)
        try:
            broker.shared.observe_fsync = metrics.observe_fsync
            if settings.metrics_endpoint is not None:
                endpoint = MetricsEndpoint(metrics, *settings.metrics_endpoint)
                host = settings.metrics_listen.rpartition(":")[0]
                _log.info("metrics", address=f"{host}:{endpoint.port}")
            front = make_front(
                chosen,
                table,
                settings.listen,
                Limits(
                    settings.max_recv_bytes,
                    settings.max_concurrent_calls,
                    # More, so that it is the limit above that is met: a stream
                    # refused by HTTP/2 itself comes without a reason, or waits.
                    max_streams_per_connection=max(1024, 2 * settings.max_concurrent_calls),
                ),
                metrics,
                reflection_handlers((SERVICE, HEALTH_SERVICE)),
            )
            signalled = _catch_signals()
            await front.start()
            _log.info("started", version=__version__, front=chosen, reason=reason)
            health.set_all(True)

            def tell_refusing(channels: int) -> None:
                health.set(CHANNELS_SERVICE, channels == 0)

            # With channels that are opened, and found to have failed, before now.
            tell_refusing(broker.stats.read_only_channels)
            broker.shared.tell_refusing = tell_refusing
            for address in front.bound:
                _log.info("listening", address=address)
            await signalled.wait()
        finally:
            _log.info("stopping", grace_s=settings.graceful_shutdown_timeout_s)
            health.shutdown()
            stopping.set()
            await self._stop(broker, front, metrics)
            if endpoint is not None:
                await asyncio.to_thread(endpoint.close)
        _log.info("stopped")

    async def _stop(self, broker: Broker, front: Front | None, metrics: Metrics) -> None:
        """Refuse new work, answer what is in flight, sync, mark clean."""
        grace_s = self._settings.graceful_shutdown_timeout_s
        deadline = broker.loop.time() + grace_s

        def remaining_s() -> float:
            return max(0.0, deadline - broker.loop.time())

        broker.refuse()
        # First: a grace so short that the front gets none of it is enough for this.
        await broker.drain(remaining_s())
        if front is not None:
            await _quiet(metrics, remaining_s())
            await front.stop(max(0.0, remaining_s() - _FRONT_FLUSH_S))
        await broker.stop(remaining_s())


async def _quiet(metrics: Metrics, limit_s: float) -> None:
    """Go on refusing calls until none has come for a moment.

    They are told that the broker stops. gRPC's own end of a connection can tell
    a call that comes just then that it was cancelled, which says nothing.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + min(limit_s, _QUIET_MAX_S)
    begun = -1
    while begun != metrics.calls_begun and loop.time() < end:
        begun = metrics.calls_begun
        await asyncio.sleep(_QUIET_S)


def _warn_of_filesystem(path: Path) -> None:
    """Log one line where the durability promise can't hold."""
    with contextlib.suppress(OSError):
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        journals = Path("/proc/fs/jbd2")
        names = {entry.name for entry in journals.iterdir()} if journals.is_dir() else set()
        warning = filesystem_warning(mountinfo, path, names)
        if warning:
            _log.warning("not_durable", reason=warning)


def _catch_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    return signalled
