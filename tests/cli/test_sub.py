"""``mq sub``: where it begins and ends, and what it writes."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mq.cli.format import as_json, compile_format, for_terminal, timestamp
from mq.cli.types import parse_start
from tests.cli.conftest import SECOND_NS, START_NS, FakeBroker, FakeMessage, Run

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def ten(broker: FakeBroker) -> FakeBroker:
    """A channel with the messages 0 to 9."""
    broker.add("c", [b"%d" % number for number in range(10)])
    return broker


@pytest.mark.parametrize(
    ("args", "expected"),
    (
        (["--from", "beginning"], "0123456789"),
        (["--from", "7"], "789"),
        (["--from", "10"], ""),
        (["--from", timestamp(START_NS + 8 * SECOND_NS)], "89"),
        (["--from", "@1700000009"], "9"),
        (["--from", "@9999999999"], ""),
        (["--from", "-1s"], ""),
        (["--from", "beginning", "--count", "4"], "0123"),
        (["--from", "beginning", "-n", "0"], ""),
        (["--from", "8", "-n", "99"], "89"),
    ),
)
def test_a_start_reads_what_is_stored_and_ends(
    mq: Run, ten: FakeBroker, args: list[str], expected: str
) -> None:
    """Each message and a newline, to the end that there is now, or to a count."""
    ran = mq("sub", "c", *args)
    assert ran == (0, "".join(f"{digit}\n" for digit in expected).encode(), "")


def test_an_empty_channel_ends_at_once(mq: Run, broker: FakeBroker) -> None:
    """Nothing stored is nothing printed."""
    broker.add("c")
    assert mq("sub", "c", "--from", "beginning") == (0, b"", "")


@pytest.mark.parametrize("args", ([], ["--from", "latest"]))
def test_without_a_start_it_follows_what_comes(mq: Run, ten: FakeBroker, args: list[str]) -> None:
    """What is stored already is not printed."""
    ten.on_wait = lambda: ten.append("c", b"new")
    assert mq("sub", "c", "--count", "2", *args) == (0, b"new\nnew\n", "")


def test_follow_goes_on_after_what_is_stored(mq: Run, ten: FakeBroker) -> None:
    """From a start, through the end, until the count or Ctrl-C."""
    ten.on_wait = lambda: signal.raise_signal(signal.SIGINT)
    ran = mq("sub", "c", "--from", "8", "--follow")
    assert (ran.code, ran.out) == (130, b"8\n9\n")


def test_messages_that_come_while_reading_are_not_waited_for(
    mq: Run, ten: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that grows faster than it is read still has an end."""
    ten.channels["c"].batch_records = 1
    pull = ten.find

    def grow(name: str) -> Any:
        ten.channels[name].records.append(FakeMessage(99, b"late", None, (), 0))
        return pull(name)

    monkeypatch.setattr(ten, "find", grow)
    assert mq("sub", "c", "--from", "beginning").text.splitlines()[:10] == list("0123456789")


def test_raw_is_byte_for_byte(mq: Run, broker: FakeBroker) -> None:
    """Odd bytes, carriage returns and empty records as they were published."""
    contents = [b"", b"\xff\x00", b"a\r", b"", b"\x1b[31m"]
    broker.add("c", contents)
    whole = b"".join(content + b"\n" for content in contents)
    assert mq("sub", "c", "--from", "beginning", "--raw").out == whole
    assert mq("sub", "c", "--from", "beginning").out == whole
    ended = b"".join(content + b"\0" for content in contents)
    assert mq("sub", "c", "--from", "beginning", "--raw", "--null").out == ended


def test_json_is_an_object_a_line(mq: Run, broker: FakeBroker) -> None:
    """Text where it is UTF-8, base64 where it is not; newlines are escaped."""
    broker.add("c")
    broker.append("c", "zwei\nZeilen ü".encode(), b"k", (("type", b"t"), ("raw", b"\xff")))
    broker.append("c", b"\xff", b"\xfe")
    first, second = map(json.loads, mq("sub", "c", "--from", "0", "--json").out.splitlines())
    assert first == {
        "offset": 0,
        "time": "2023-11-14T22:13:20.123456Z",
        "key": "k",
        "headers": {"type": "t", "raw_base64": "/w=="},
        "content": "zwei\nZeilen ü",
    }
    assert second == {
        "offset": 1,
        "time": "2023-11-14T22:13:21.123456Z",
        "key_base64": "/g==",
        "headers": {},
        "content_base64": "/w==",
    }


def test_json_without_key_has_null() -> None:
    """A script finds the field either way."""
    keyless: Any = FakeMessage(0, b"", None, (), 0)
    assert json.loads(as_json(keyless))["key"] is None


def test_a_format_of_one_s_own(mq: Run, broker: FakeBroker) -> None:
    """Fields, escapes, braces; missing keys are empty."""
    broker.add("c")
    broker.append("c", b"x\xff", b"k", (("a", b"1"), ("b", b"2")))
    broker.append("c", b"y")
    template = r"{offset}\t{key}|{headers}|{size}|{time_ns} {{}} ü {content}"
    ran = mq("sub", "c", "--from", "0", "--format", template)
    assert ran.out == (
        f"0\tk|a=1,b=2|2|{START_NS} {{}} ü x".encode()
        + b"\xff\n"
        + f"1\t||1|{START_NS + SECOND_NS} {{}} ü y\n".encode()
    )


@pytest.mark.parametrize(
    "template", ("{nope}", "{offset:>9}", "{content!r}", "{offset", "}", "{}", "{content.x}")
)
def test_a_format_with_unknown_fields_is_wrong_usage(
    mq: Run, ten: FakeBroker, template: str
) -> None:
    """Before anything is read."""
    ran = mq("sub", "c", "--from", "0", "--format", template)
    assert (ran.code, ran.out) == (2, b"")
    assert "--format" in ran.err
    assert ten.connections == []


def test_styles_exclude_each_other(mq: Run, ten: FakeBroker) -> None:
    """A format leaves nothing to --json."""
    assert mq("sub", "c", "--json", "--format", "x").code == 2


def test_damage_stops_with_the_way_on(mq: Run, ten: FakeBroker) -> None:
    """What is before it is printed; the hint has the offset after it."""
    ten.channels["c"].damaged = (4, 6)
    ran = mq("sub", "c", "--from", "0")
    assert (ran.code, ran.out) == (1, b"0\n1\n2\n3\n")
    assert ran.err.splitlines() == [
        "mq: error: offsets are damaged",
        "mq: hint: go on after it with --from 6, or with --on-damage skip",
    ]


@pytest.mark.parametrize("damaged", ((0, 1), (4, 6), (9, 10), (0, 10)))
def test_damage_can_be_left_out(mq: Run, ten: FakeBroker, damaged: tuple[int, int]) -> None:
    """At the beginning, in the middle, at the end; all of it is told."""
    ten.channels["c"].damaged = damaged
    ran = mq("sub", "c", "--from", "beginning", "--on-damage", "skip")
    kept = [number for number in range(10) if not damaged[0] <= number < damaged[1]]
    assert (ran.code, ran.text) == (0, "".join(f"{number}\n" for number in kept))
    count = damaged[1] - damaged[0]
    assert f"{count} damaged messages before offset {damaged[1]} are left out" in ran.err


def test_damage_is_told_while_following(mq: Run, ten: FakeBroker) -> None:
    """Once."""
    ten.channels["c"].damaged = (4, 6)
    ran = mq("sub", "c", "--from", "0", "--follow", "-n", "8", "--on-damage", "skip")
    assert ran.text.split() == list("01236789")
    assert ran.err.count("damaged") == 1


@pytest.mark.parametrize(
    ("args", "code"), ((["nope", "--from", "0"], 3), (["nope"], 3), (["c", "--from", "11"], 1))
)
def test_what_the_broker_refuses_has_a_code(
    mq: Run, ten: FakeBroker, args: list[str], code: int
) -> None:
    """No such channel is 3; an offset that isn't there is 1."""
    ran = mq("sub", *args)
    assert (ran.code, ran.out) == (code, b"")
    assert ran.err.startswith("mq: error: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("beginning", "beginning"),
        ("latest", "latest"),
        ("0", 0),
        ("18446744073709551615", 18446744073709551615),
        ("-1h", NOW - timedelta(hours=1)),
        ("-1m30s", NOW - timedelta(seconds=90)),
        ("-2d", NOW - timedelta(days=2)),
        ("@0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("@1.5", datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        ("2026-11-24T08:00:00Z", datetime(2026, 11, 24, 8, tzinfo=UTC)),
        ("2026-11-24T10:00:00.25+02:00", datetime(2026, 11, 24, 8, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24).astimezone()),
        ("2026-11-24 08:30", datetime(2026, 11, 24, 8, 30).astimezone()),
    ),
)
def test_starts(text: str, expected: object) -> None:
    """Positions, offsets, and times in several forms, always with a zone."""
    found = parse_start(text, NOW)
    assert found == expected
    assert not isinstance(found, datetime) or found.tzinfo is not None


@pytest.mark.parametrize(
    "text", ("", "first", "-", "--5", "+5", "1.5", "@", "@x", "@1e99", "@nan", "-9999999d", "24:00")
)
def test_no_starts(mq: Run, ten: FakeBroker, text: str) -> None:
    """Wrong usage that lists what there is."""
    ran = mq("sub", "c", "--from", text)
    assert ran.code == 2
    assert "no place to begin" in ran.err


def test_a_terminal_is_not_controlled_by_messages() -> None:
    """Escape sequences and odd bytes are shown; text, tabs and newlines are as they are."""
    assert for_terminal(b"\x1b[31mred\x07\r\x7f\tok\n") == rb"\x1b[31mred\x07\x0d\x7f" + b"\tok\n"
    assert for_terminal("ü\x9b€".encode()) == "ü\\x9b€".encode()
    assert for_terminal(b"\xff") == rb"\xff"


def test_a_printed_time_finds_its_record() -> None:
    """It is not after the record, whose nanoseconds it leaves out."""
    shown = parse_start(timestamp(START_NS), NOW)
    assert isinstance(shown, datetime)
    assert START_NS - 1000 < shown.timestamp() * SECOND_NS <= START_NS


def test_an_escaped_backslash_stays_one() -> None:
    r"""``\\n`` is a backslash and an n."""
    render = compile_format(r"\\n\n")
    any_message: Any = FakeMessage(0, b"", None, (), 0)
    assert render(any_message) == b"\\n\n"
