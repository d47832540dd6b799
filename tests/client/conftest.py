"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.fake_server import FakeServer, serving


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A fake broker on a socket, with the channel ``orders``."""
    with serving() as server:
        yield server
