"""``mq bench`` against a real broker: every command measures, and cleans up after itself."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from mq import Client
from mq.cli.bench import Numbers, bench
from tests.conftest import StartServer

Bench = Callable[..., list[dict[str, object]]]


@pytest.fixture
def run(server: StartServer) -> Bench:
    """Runs ``mq bench`` with ``--json`` against a fresh broker; the rows it printed."""
    target = server().address

    def call(*arguments: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(
            bench, [*arguments, "--json", "--server", target], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        with Client(target) as client:
            assert client.list_channels() == []
        return [json.loads(line) for line in result.stdout.splitlines()]

    return call


def test_append_has_a_row_a_batch_size(run: Bench) -> None:
    """Each size was published at some rate."""
    rows = run("append", "--records", "1,50", "--time", "50ms")
    assert [row["append"] for row in rows] == ["1 a batch", "50 a batch"]
    assert all(float(str(row["messages_per_s"])) > 0 for row in rows)


def test_pull_reads_what_it_filled(run: Bench) -> None:
    """Each size of an answer was read with."""
    rows = run("pull", "--messages", "2000", "--max-bytes", "1000,100000", "--time", "50ms")
    assert len(rows) == 2


def test_end_to_end_receives_every_message(run: Bench) -> None:
    """The quantiles are in order; nothing was lost, or it would not have ended."""
    (row,) = run("end-to-end", "--rate", "200", "--time", "200ms")
    assert float(str(row["p50_us"])) <= float(str(row["p99_us"])) <= float(str(row["max_us"]))


def test_peers_has_all_workloads(run: Bench) -> None:
    """The workloads of the comparison, on this broker alone."""
    rows = run("peers", "--time", "50ms", "--records", "20", "--messages", "2000")
    assert len(rows) == 8


def test_scale_covers_channels_stored_and_sizes(run: Bench) -> None:
    """One row each."""
    rows = run("scale", "--channels", "2", "--stored", "10", "--sizes", "10", "--time", "50ms")
    assert len(rows) == 3


@pytest.mark.parametrize("text", ("", "0", "1,", "a", "1,-2", "²"))
def test_lists_of_numbers_are_checked(text: str) -> None:
    """What is no list of numbers above zero is a usage error."""
    result = CliRunner().invoke(bench, ["append", "--records", text])
    assert result.exit_code == 2
    assert "not a list of numbers" in result.output


def test_a_list_of_numbers() -> None:
    """Commas separate them."""
    assert Numbers().convert("1,20", None, None) == (1, 20)
