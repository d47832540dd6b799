"""Retention settings, ``mq channels purge`` and ``mq channels retention``."""

from __future__ import annotations

import json

import pytest

from mq.cli.channel_settings import channel_setting, format_bytes, format_span
from mq.client.types import ChannelConfig
from mq.units import parse_size
from tests.cli.conftest import FakeBroker, Run


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("retention_ms=7d", 7 * 86_400_000),
        ("retention_ms=1h30m", 5_400_000),
        ("retention_ms=2500", 2500),
        ("retention_ms=none", 0),
        ("segment_ms=250ms", 250),
        ("retention_bytes=10GB", 10**10),
        ("retention_bytes=none", 0),
        ("retention_records=1000", 1000),
        ("retention_records=none", 0),
        ("retain_unacknowledged=true", True),
        ("retain_unacknowledged=no", False),
        ("retain_unacknowledged_bytes=1GiB", 1 << 30),
        ("compact=true", True),
    ),
)
def test_settings_as_people_write_them(text: str, expected: object) -> None:
    """Durations and sizes with units, and a word that clears."""
    assert channel_setting(text) == (text.partition("=")[0], expected)


@pytest.mark.parametrize(
    "text",
    (
        "retention_ms=-7d",
        "retention_ms=",
        "retention_ms=soon",
        "retention_ms=1us",
        "retention_bytes=-1",
        "retention_records=1.5",
        "retention_records=-1",
        "retain_unacknowledged=maybe",
        "segment_bytes=none",
        "retention=7d",
    ),
)
def test_settings_that_mean_nothing(mq: Run, broker: FakeBroker, text: str) -> None:
    """Wrong usage, before the broker is asked."""
    ran = mq("channels", "create", "c", text)
    assert ran.code == 2
    assert broker.connections == []


def test_compact_is_said_once(mq: Run, broker: FakeBroker) -> None:
    """A flag or a setting."""
    assert mq("channels", "create", "c", "--compact").code == 0
    assert broker.channels["c"].config == ChannelConfig(compact=True)
    assert mq("channels", "configure", "c", "--no-compact").code == 0
    assert broker.channels["c"].config == ChannelConfig(compact=False)
    assert mq("channels", "configure", "c", "compact=true", "--compact").code == 2


def test_spans_and_sizes_are_shown_in_their_largest_unit() -> None:
    """And can be given back as they are shown."""
    shown = [format_span(ms) for ms in (604_800_000, 5_400_000, 1500, 0)]
    assert shown == ["7d", "90m", "1500ms", "0ms"]
    for size in (10**10, 64 << 20, 1000, 999, 1):
        assert parse_size(format_bytes(size)) == size
    assert (format_bytes(10**10), format_bytes(64 << 20)) == ("10GB", "64MiB")


def test_settings_in_force_are_shown_and_cleared(mq: Run, channel: str) -> None:
    """What was never set says what holds then."""
    mq("channels", "configure", channel, "retention_ms=8h", "retention_bytes=10GB")
    shown = dict(line.split("\t") for line in mq("channels", "describe", channel).text.splitlines())
    assert (shown["retention_ms"], shown["retention_bytes"]) == ("8h", "10GB")
    assert shown["segment_ms"] == "2h (a quarter of retention_ms)"
    assert (shown["retention_records"], shown["retain_unacknowledged"]) == ("no limit", "false")
    assert shown["state"] == "ok"
    assert "days_to_full" in shown
    mq("channels", "configure", channel, "retention_ms=none", "retention_bytes=none")
    cleared = json.loads(mq("channels", "describe", channel, "--json").out)["config"]
    assert (cleared["retention_ms"], cleared["retention_bytes"]) == (0, 0)


@pytest.fixture
def segments(mq: Run, channel: str) -> str:
    """A channel of several segments, each message in a batch of its own."""
    assert mq("channels", "configure", channel, "segment_bytes=64KiB").code == 0
    for _ in range(6):
        assert mq("pub", channel, "x" * 30_000, "y" * 20_000, "-q").code == 0
    return channel


def test_purge_lists_what_goes_and_why(mq: Run, segments: str) -> None:
    """A dry run removes nothing; then the same goes, and reading begins after it."""
    args = ["channels", "purge", segments, "--before-offset", "7"]
    would = mq(*args, "--dry-run", "--json")
    listed = [json.loads(line) for line in would.out.splitlines()]
    assert listed[0]["first_offset"] == 0
    assert listed[-1]["next_offset"] <= 7
    assert all(each["reason"] == "it ends before offset 7" for each in listed)
    assert would.err.startswith(f"would remove {len(listed)} segment")
    assert json.loads(mq("channels", "describe", segments, "--json").out)["log_start_offset"] == 0
    assert mq(*args, "--yes", "--json").out == would.out
    described = json.loads(mq("channels", "describe", segments, "--json").out)
    assert described["log_start_offset"] == listed[-1]["next_offset"]
    ran = mq("sub", segments, "--from", "0")
    assert (ran.code, ran.out) == (1, b"")


def test_purge_asks_with_what_would_go(
    mq: Run, segments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is no; a script says --yes."""
    args = ["channels", "purge", segments, "--before-offset", "7"]
    assert mq(*args).code == 2
    monkeypatch.setattr("mq.cli.asking.is_terminal", lambda: True)
    refused = mq(*args, stdin=b"n\n")
    assert refused.code == 1
    assert "Remove " in refused.err
    assert f"{segments} was left as it is" in refused.err
    assert mq(*args, stdin=b"y\n").code == 0


def test_purge_to_a_time(mq: Run, segments: str) -> None:
    """What is older than an hour is nothing yet."""
    ran = mq("channels", "purge", segments, "--before", "-1h", "--dry-run")
    assert ran == (0, b"", "would remove no segment\n")


def test_retention_tells_what_it_would_remove(mq: Run, segments: str) -> None:
    """By the settings in force, each segment with its reason."""
    nothing = mq("channels", "retention", segments, "--dry-run")
    assert nothing == (0, b"", "would remove no segment\n")
    mq("channels", "configure", segments, "retention_records=3")
    ran = mq("channels", "retention", segments, "--json")
    assert ran.code == 0
    described = json.loads(mq("channels", "describe", segments, "--json").out)
    assert described["record_count"] >= 3
    for line in ran.out.splitlines():
        assert "retention_records" in json.loads(line)["reason"]


@pytest.mark.parametrize(
    "args",
    (
        [],
        ["--before-offset", "1", "--before", "-1h"],
        ["--before", "5"],
        ["--before", "soon"],
        ["--before-offset", "-1"],
    ),
)
def test_purge_needs_one_bound(mq: Run, broker: FakeBroker, args: list[str]) -> None:
    """An offset or a time, and not both."""
    assert mq("channels", "purge", "c", "--yes", *args).code == 2
    assert broker.connections == []


def test_a_purge_past_the_end_is_refused(mq: Run, segments: str) -> None:
    """Code 1, and nothing goes."""
    ran = mq("channels", "purge", segments, "--before-offset", "99", "--yes")
    assert (ran.code, ran.out) == (1, b"")
    for command in ("purge --yes --before-offset 1", "retention"):
        assert mq("channels", *command.split(), f"{segments}.nope").code == 3
