"""What `mq` exports, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import mq
from mq import errors
from tests.helpers.server import ROOT


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement."""
    script = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ("import mq", "import mq.errors", "from mq import DataLoss"))
def test_importing_is_cheap(statement: str) -> None:
    """The package and its errors import no gRPC, no numpy and no metadata of packages."""
    assert not modules_after(statement) & {"grpc", "numpy", "google.protobuf", "importlib.metadata"}


@pytest.mark.parametrize("name", mq.__all__)
def test_every_name_is_there(name: str) -> None:
    """Each exported name can be imported, and has a docstring of its own."""
    value = getattr(mq, name)
    assert name in dir(mq)
    if inspect.isclass(value):
        assert value.__name__ == name
        assert value.__doc__


def test_all_errors_are_exported() -> None:
    """Every exception that a client can be told, by a reason of its own, is within reach."""
    told = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, mq.MQError) and "reason" in vars(value)
    }
    assert told <= set(mq.__all__)


def test_what_is_not_there_is_an_attribute_error() -> None:
    """An unknown name fails as on any module."""
    with pytest.raises(AttributeError, match="no attribute 'Broker'"):
        mq.Broker  # noqa: B018


def surface(cls: type) -> dict[str, object]:
    """Public members: parameters of methods, and the names of properties."""
    members: dict[str, object] = {}
    for name, member in inspect.getmembers(cls):
        if name.startswith("_"):
            continue
        members[name] = (
            [
                (p.name, p.kind, p.default, p.annotation)
                for p in inspect.signature(member).parameters.values()
            ]
            if inspect.isfunction(member)
            else type(member)
        )
    return members


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"),
    (
        (mq.AsyncClient, mq.Client),
        (mq.AsyncProducer, mq.Producer),
        (mq.AsyncSubscription, mq.Subscription),
        (mq.AsyncGroupBatch, mq.GroupBatch),
        (mq.AsyncGroupMessage, mq.GroupMessage),
    ),
)
def test_both_clients_have_one_surface(asynchronous: type, synchronous: type) -> None:
    """The same methods, with the same parameters, defaults and types."""
    assert surface(asynchronous) == surface(synchronous)
    constructor = inspect.signature(mq.AsyncClient).parameters
    assert constructor == inspect.signature(mq.Client).parameters


def test_both_consumers_of_groups_have_one_surface() -> None:
    """The same, but that a handler is a coroutine function in one of them."""
    asynchronous, synchronous = surface(mq.AsyncGroupConsumer), surface(mq.GroupConsumer)
    for each in (asynchronous, synchronous):
        run = each.pop("run")
        assert isinstance(run, list)
        assert [parameter[0] for parameter in run] == ["self", "handler", "concurrency"]
    assert asynchronous == synchronous
