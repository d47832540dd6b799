"""Brokers in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mq.broker.broker import Broker
from mq.broker.model import BrokerConfig
from mq.log.files import Files

StartBroker = Callable[..., Awaitable[Broker]]


class Events:
    """Keeps what the broker tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        """Note it."""
        self.told.append((event, fields))

    warning = error = info


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartBroker]:
    """A function that starts a broker on the test's directory; all are stopped after."""
    running: list[Broker] = []

    async def start_one(files: Files | None = None, **config: Any) -> Broker:
        clock_ns = config.pop("clock_ns", None)
        defaults = BrokerConfig(tmp_path / "data", free_bytes_min=0, recover_on_start=True)
        settings = replace(defaults, **config)
        clock = {"clock_ns": clock_ns} if clock_ns else {}
        broker = Broker(settings, Events(), files=files or Files(), **clock)
        await broker.start()
        running.append(broker)
        return broker

    yield start_one
    for broker in running:
        if not broker.stopping:
            await broker.stop(5)
