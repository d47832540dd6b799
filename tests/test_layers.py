"""Dependencies point down only: the table of layers in docs/architecture.md."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.server import ROOT

GRPC = frozenset({"google", "grpc", "grpc_health", "grpc_reflection", "grpc_status"})
BOTTOM = frozenset({"mq.errors", "mq.units"})
ANYTHING = None


class Layer(NamedTuple):
    """What a layer may import besides itself and the standard library."""

    ours: frozenset[str]
    others: frozenset[str] | None


LAYERS = {
    "mq.cli": Layer(
        frozenset({"mq", "mq.server", "mq.client", "mq.broker", "mq.log", "mq.config", "mq.pb"})
        | BOTTOM,
        ANYTHING,
    ),
    "mq.server": Layer(frozenset({"mq.broker", "mq.config", "mq.pb"}) | BOTTOM, ANYTHING),
    "mq.client": Layer(frozenset({"mq.pb"}) | BOTTOM, GRPC | {"crc32c", "numpy"}),
    "mq.broker": Layer(
        frozenset({"mq.log", "mq.pb"}) | BOTTOM, frozenset({"crc32c", "numpy", "structlog"})
    ),
    "mq.config": Layer(
        BOTTOM, frozenset({"dotenv", "pydantic", "pydantic_core", "pydantic_settings"})
    ),
    "mq.log": Layer(BOTTOM, frozenset({"crc32c", "numpy"})),
    "mq.pb": Layer(frozenset(), GRPC),
    "mq.errors": Layer(frozenset(), frozenset()),
    "mq.units": Layer(frozenset(), frozenset()),
    # The public names, and `python -m mq`.
    "mq": Layer(frozenset({"mq.client", "mq.errors"}), frozenset()),
    "mq.__main__": Layer(frozenset({"mq.cli"}), frozenset()),
}
# Attributes of the package that any layer may ask for.
ABOUT = frozenset({"mq.__version__"})

MODULES = sorted((ROOT / "mq").rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> str:
    """The layer that a module, or a name in it, belongs to."""
    layer = ".".join(name.split(".")[:2])
    return layer if layer in LAYERS else name.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it."""
    package = module_name(path) if path.stem == "__init__" else module_name(path.parent)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*base, node.module or ""]).strip(".") if node.level else node.module
            # `from mq import errors` imports mq.errors; of others, the first part is enough.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_allowed(layer: str, name: str) -> bool:
    """Whether a module of the layer may import this name."""
    allowed = LAYERS[layer]
    top = name.partition(".")[0]
    if name in ABOUT:
        return True
    if name.startswith("mq.pb.mq_pb2_grpc") and layer != "mq.pb":
        # The messages are plain data; the service's stubs are gRPC.
        return is_allowed(layer, "grpc")
    if top == "mq":
        return layer_of(name) == layer or layer_of(name) in allowed.ours
    return top in sys.stdlib_module_names or allowed.others is ANYTHING or top in allowed.others


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    """A module imports only what its layer may."""
    layer = layer_of(module_name(path))
    forbidden = [name for name in imports(path) if not is_allowed(layer, name)]
    assert not forbidden, f"{module_name(path)} is of {layer}, which may not import these"


def test_every_module_has_a_layer() -> None:
    """A new package needs a layer of its own: only two modules are of none."""
    rootless = [name for name in map(module_name, MODULES) if layer_of(name) == "mq"]
    assert set(rootless) <= {"mq"}


@pytest.mark.parametrize(
    ("layer", "name"),
    (
        ("mq.log", "grpc"),
        ("mq.log", "mq.broker.registry"),
        ("mq.log", "structlog"),
        ("mq.broker", "grpc.aio"),
        ("mq.broker", "mq.pb.mq_pb2_grpc"),
        ("mq.client", "mq.broker"),
        ("mq.server", "mq.client"),
        ("mq.errors", "numpy"),
    ),
)
def test_what_points_up_is_seen(layer: str, name: str) -> None:
    """The check refuses what it is there to refuse."""
    assert not is_allowed(layer, name)


def test_the_table_in_the_docs_is_enforced() -> None:
    """Every layer in the table of docs/architecture.md is one of these."""
    document = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(mq\.\w+)` \|", document, re.MULTILINE)
    assert len(rows) >= 6
    assert set(rows) <= set(LAYERS)
