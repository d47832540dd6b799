"""Tables and results: everything that a run may have is shown, and nothing breaks a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import results, tables
from bench.durability import summarize
from bench.environment import Unavailable, disk_directory, filesystem


def _text(run: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for table in tables.tables(run):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _new(what: str = "all") -> dict[str, Any]:
    return results.new_run(what, what, {})


def test_a_comparison_has_a_column_a_broker() -> None:
    """Rates with their spread, latencies below, and a dash for what a broker hasn't."""
    rounds = [{"messages_per_s": rate, "p50_us": 250.0, "p99_us": 1_500.0} for rate in (90, 110)]
    run = _new() | {
        "peers": {
            "synced": {
                "brokers": {
                    "mq": {"version": "1", "settings": "synced"},
                    "redis": {"version": "7", "settings": "always"},
                },
                "missing": {"kafka": "java is not installed"},
                "results": {"one": {"mq": rounds}},
                "batch_sizes": {"500": {"mq": rounds}},
            }
        }
    }
    text = _text(run)
    assert "100/s ±10%" in text
    assert "250 us / 1.50 ms" in text
    assert "redis 7" in text
    assert "java is not installed" in text
    assert "not measured" in text


def test_a_table_becomes_markdown() -> None:
    """One line a row, markup gone."""
    run = _new("durability") | {"durability": [summarize("nats", "synced", 2, [])]}
    (table,) = tables.tables(run)
    lines = tables.markdown(table).splitlines()
    assert lines[2].startswith("| broker | mode |")
    assert lines[-1] == "| nats | synced | 2 | 0 | 0 | 0.00 |"


def test_a_section_by_itself_shows_no_empty_targets() -> None:
    """Only a whole run is held against all targets."""
    assert _text(_new("append")) == ""
    assert "Targets" in _text(_new("quick"))


def test_a_result_is_read_back(tmp_path: Path) -> None:
    """What was saved is what is loaded."""
    run = _new("quick") | {"append": {"synced": {}}}
    assert results.load(results.save(run, tmp_path)) == run


def test_another_file_is_no_result(tmp_path: Path) -> None:
    """A file that isn't a result is named."""
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json"):
        results.load(other)


_TRACE = """\
101 fdatasync(8</data/appendonly.aof>) = 0
102 fsync(10</data/1.blk> <unfinished ...>
102 <... fsync resumed>)              = 0
102 write(9<socket:[123]>, "+OK", 3) = 3
102 write(10</data/1.blk>, "x", 1) = 1
103 msync(0x7f0000, 4096, MS_SYNC) = 0
101 pwrite64(10</data/1.blk>, "x"..., 100, 0) = 100
101 +++ exited with 0 +++
"""


def test_a_trace_is_counted_once_a_call() -> None:
    """Interrupted lines count once; sockets are no files."""
    counted = summarize("redis", "synced", 3, _TRACE.splitlines())
    assert counted["syncs"] == {"fdatasync": 1, "fsync": 1, "msync": 1}
    assert counted["writes"] == 2
    assert counted["syncs_per_message"] == 1


def test_durability_counts_are_shown() -> None:
    """The number that matters, syncs a message, is in the table."""
    run = _new("durability") | {
        "durability": [summarize("nats", "synced", 2, ["1 fsync(3</a>) = 0"])]
    }
    assert "0.50" in _text(run)


def test_a_directory_in_memory_is_refused() -> None:
    """Data in memory would make every sync free; the message says what to do."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or filesystem(memory)[0] != "tmpfs":
        pytest.skip("no tmpfs at /dev/shm")
    with pytest.raises(Unavailable, match="--data-dir"):
        disk_directory(memory)
