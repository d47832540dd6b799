"""``mq channels``: what is printed, what is asked, what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mq.cli.connection import complete_channel
from mq.client.types import ChannelConfig
from mq.errors import Unavailable
from tests.cli.conftest import FakeBroker, Run


def test_ls_prints_names(mq: Run, broker: FakeBroker) -> None:
    """One a line, in order, all or those with a prefix."""
    for name in ("b", "a.1", "a.2"):
        broker.add(name)
    assert mq("channels", "ls") == (0, b"a.1\na.2\nb\n", "")
    assert mq("channels", "ls", "a.") == (0, b"a.1\na.2\n", "")


def test_ls_of_nothing_is_nothing(mq: Run, broker: FakeBroker) -> None:
    """No heading, no apology."""
    assert mq("channels", "ls", "-l") == (0, b"", "")


def test_ls_long_has_sizes_and_state(mq: Run, broker: FakeBroker) -> None:
    """Tab-separated where it is no terminal."""
    broker.add("c", [b"abc", b"d"])
    assert mq("channels", "ls", "-l").text == "c\t2\t4\t1\tok\n"


def test_ls_json_is_an_object_a_line(mq: Run, broker: FakeBroker) -> None:
    """With everything in its long form."""
    broker.add("a")
    broker.add("b", [b"x"])
    lines = mq("channels", "ls", "--json").out.splitlines()
    created = "2023-11-14T22:13:20.123456Z"
    assert json.loads(lines[1]) == {"name": "b", "id": "0f" * 16, "created": created}
    long = [json.loads(line) for line in mq("channels", "ls", "-l", "--json").out.splitlines()]
    assert [each["record_count"] for each in long] == [0, 1]


def test_describe_shows_offsets_sizes_and_settings(mq: Run, broker: FakeBroker) -> None:
    """One line for each, for people; what was never set is the server's default."""
    broker.add("c", [b"x"] * 7, segment_bytes=65536).damaged = (2, 4)
    shown = dict(line.split("\t") for line in mq("channels", "describe", "c").text.splitlines())
    assert shown["durable_offset"] == "7"
    assert shown["allocated_bytes"] == "64KiB"
    assert shown["segment_bytes"] == "64KiB"
    assert shown["durability"] == "default"
    assert shown["damaged"] == "[2, 4)"
    assert shown["publish_records_per_second"] == "1.5"
    broker.add("empty")
    assert "last_append\tnever\n" in mq("channels", "describe", "empty").text


def test_describe_json_has_numbers(mq: Run, broker: FakeBroker) -> None:
    """Sizes are bytes, absent settings null, one object for each channel."""
    broker.add("a", durability="written").damaged = (2, 4)
    broker.add("b")
    first, second = map(json.loads, mq("channels", "describe", "a", "b", "--json").out.splitlines())
    assert first["config"] == dataclasses.asdict(ChannelConfig(durability="written"))
    assert first["damaged"] == [{"first_offset": 2, "next_offset": 4}]
    assert second["name"] == "b"
    assert second["last_append"] is None


def test_create_takes_settings(mq: Run, broker: FakeBroker) -> None:
    """And succeeds again without changing anything."""
    args = ["segment_bytes=128KiB", "durability=written", "max_message_bytes=1000"]
    assert mq("channels", "create", "c", *args) == (0, b"", "")
    assert mq("channels", "create", "c", "segment_bytes=1GiB").code == 0
    assert broker.channels["c"].config == ChannelConfig(131072, "written", 1000)


def test_configure_changes_what_is_named_and_shows_all(mq: Run, broker: FakeBroker) -> None:
    """The rest stays."""
    broker.add("c", segment_bytes=65536)
    ran = mq("channels", "configure", "c", "durability=synced", "--json")
    assert json.loads(ran.out)["config"]["durability"] == "synced"
    assert broker.channels["c"].config == ChannelConfig(65536, "synced", None)


@pytest.mark.parametrize(
    "setting",
    ("segment_bytes", "segment_bytes=", "segment_bytes=64M", "durability=fast", "colour=red", "=1"),
)
@pytest.mark.parametrize("command", ("create", "configure"))
def test_a_bad_setting_is_wrong_usage(
    mq: Run, broker: FakeBroker, command: str, setting: str
) -> None:
    """Before the broker is asked."""
    assert mq("channels", command, "c", setting).code == 2
    assert broker.connections == []


def test_configure_needs_a_setting(mq: Run, broker: FakeBroker) -> None:
    """Nothing to change is a mistake."""
    assert mq("channels", "configure", "c").code == 2


def test_rm_needs_yes_without_a_terminal(mq: Run, broker: FakeBroker) -> None:
    """A script doesn't delete by accident."""
    broker.add("c")
    ran = mq("channels", "rm", "c", stdin=b"y\n")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert list(broker.channels) == ["c"]


def test_rm_with_yes_deletes_each(mq: Run, broker: FakeBroker) -> None:
    """Without a word."""
    broker.add("a")
    broker.add("b")
    assert mq("channels", "rm", "a", "b", "--yes") == (0, b"", "")
    assert broker.channels == {}


@pytest.mark.parametrize(
    ("answer", "code", "left"), ((b"y\n", 0, []), (b"n\n", 1, ["c"]), (b"", 130, ["c"]))
)
def test_rm_asks_on_a_terminal(
    mq: Run,
    broker: FakeBroker,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    code: int,
    left: list[str],
) -> None:
    """Saying how much would go; no answer is no."""
    broker.add("c", [b"abc", b"d"])
    monkeypatch.setattr("mq.cli.asking.is_terminal", lambda: True)
    ran = mq("channels", "rm", "c", stdin=answer)
    assert ran.code == code
    assert ran.out == b""
    if answer:  # at the end of input click's test runner shows no prompt
        assert "Delete c with its 2 messages (4 bytes)?" in ran.err
    assert list(broker.channels) == left


@pytest.mark.parametrize("command", ("describe", "rm --yes", "configure durability=synced"))
def test_an_unknown_channel_is_code_3(mq: Run, broker: FakeBroker, command: str) -> None:
    """Scripts tell it from other failures."""
    name, *rest = command.split()
    ran = mq("channels", name, "nope", *rest)
    assert (ran.code, ran.err) == (3, "mq: error: there is no channel 'nope'\n")


def test_server_and_timeout_are_options_or_variables(
    mq: Run, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option wins; the default is this machine."""
    mq("channels", "ls")
    monkeypatch.setenv("MQ_SERVER", "there:1")
    monkeypatch.setenv("MQ_TIMEOUT", "1m30s")
    mq("channels", "ls")
    mq("channels", "ls", "-s", "unix:/run/mq.sock", "--timeout", "250ms")
    assert [(each.target, each.timeout_s) for each in broker.connections] == [
        ("localhost:50051", 30.0),
        ("there:1", 90.0),
        ("unix:/run/mq.sock", 0.25),
    ]


@pytest.mark.parametrize("timeout", ("0", "soon", "-1s"))
def test_a_bad_timeout_is_wrong_usage(mq: Run, broker: FakeBroker, timeout: str) -> None:
    """No time at all is none."""
    assert mq("channels", "ls", "--timeout", timeout).code == 2


def test_names_of_channels_are_completed(broker: FakeBroker) -> None:
    """From the broker that the command line names, quickly; without one there are none."""
    broker.add("orders")
    broker.add("invoices")
    context: Any = type("Context", (), {"params": {"server": "there:1"}})
    parameter: Any = None
    assert [each.value for each in complete_channel(context, parameter, "or")] == ["orders"]
    assert broker.connections[-1].target == "there:1"
    broker.unreachable = Unavailable("nobody there")
    assert complete_channel(context, parameter, "or") == []
