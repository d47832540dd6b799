"""A short run of each harness: seeded, without a fuzzing engine."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.__main__ import NAMES
from tests.fuzz.harness import Choices, Harness
from tests.fuzz.mutate import mutated
from tests.log.batches import rounds

RUNS = {"frames": 400, "hints": 400, "recovery": 150, "answers": 400, "requests": 150}


@pytest.fixture(params=NAMES)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Each harness."""
    made: Harness = importlib.import_module(f"tests.fuzz.{request.param}").HARNESS
    yield made
    made.end()


def test_says_what_has_to_hold(harness: Harness) -> None:
    """The first line of each harness is a sentence."""
    assert harness.invariant.endswith((".", ";", ","))
    assert len(harness.invariant) > 60


def test_seeds(harness: Harness) -> None:
    """What is sound passes, and nothing at all."""
    for data in (b"", b"\0", *harness.seeds()):
        harness.run(data)


@pytest.mark.parametrize("seed", range(2))
def test_changed_seeds(harness: Harness, seed: int) -> None:
    """It holds for seeds with a few changes."""
    rng, seeds = random.Random(seed), harness.seeds()
    for _ in range(rounds(RUNS[harness.name], 20 * RUNS[harness.name])):
        harness.run(mutated(rng, seeds))


@pytest.mark.parametrize("name", ("frames", "hints", "answers"))
@given(data=st.binary(max_size=2000))
def test_any_bytes(name: str, data: bytes) -> None:
    """It holds for bytes without any sense."""
    harness: Harness = importlib.import_module(f"tests.fuzz.{name}").HARNESS
    harness.run(data)


def test_choices_never_run_out() -> None:
    """Bytes that are used up are zeros, and all numbers are within their limits."""
    choices = Choices(b"\x05\xff\xff\x07")
    assert choices.below(10) == 5
    assert choices.below(1000) == 0xFFFF % 1000
    assert choices.left == 1
    assert choices.rest() == b"\x07"
    assert choices.below(1 << 40) == 0
    assert choices.take(3) == bytes(3)
