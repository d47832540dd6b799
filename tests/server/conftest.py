"""Every test that asks for ``front`` runs on both fronts."""

from __future__ import annotations

import pytest

from mq.server.fronts.choose import Chosen, native_installed


@pytest.fixture(
    params=[
        "grpcio",
        pytest.param(
            "native",
            marks=pytest.mark.skipif(
                not native_installed(), reason="pygrpc-native is not installed"
            ),
        ),
    ]
)
def front(request: pytest.FixtureRequest) -> Chosen:
    """The name of a front."""
    name: Chosen = request.param
    return name
