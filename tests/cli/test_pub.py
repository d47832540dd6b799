"""``mq pub``: records as they are, counts, refusals, interrupts."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq.cli.exits import Failure
from mq.cli.interrupts import catch_interrupts
from mq.cli.records import CHUNK_BYTES, split_records
from mq.errors import Unavailable
from tests.cli.conftest import FakeBroker, Run

ODD = b"one\r\n\ntwo\xff\x00\xfe\n \nlast without end"


def test_arguments_are_messages(mq: Run, broker: FakeBroker) -> None:
    """One each, empty and with newlines too; the summary goes to standard error."""
    broker.add("c", [b"first"])
    ran = mq("pub", "c", "hello", "", "two\nlines")
    assert ran == (0, b"", "published 3 messages (offsets 1-3)\n")
    assert broker.contents("c")[1:] == [b"hello", b"", b"two\nlines"]


def test_one_message_has_one_offset(mq: Run, broker: FakeBroker) -> None:
    """No range where there is none."""
    broker.add("c")
    assert mq("pub", "c", "x").err == "published 1 message (offset 0)\n"


def test_standard_input_is_lines(mq: Run, broker: FakeBroker) -> None:
    """Without their ends, and otherwise untouched."""
    broker.add("c")
    assert mq("pub", "c", stdin=ODD).code == 0
    assert broker.contents("c") == ODD.split(b"\n")


def test_a_final_newline_begins_no_record(mq: Run, broker: FakeBroker) -> None:
    """As many records as lines; nothing at all is none."""
    broker.add("c")
    assert mq("pub", "c", stdin=b"a\n\n").err == "published 2 messages (offsets 0-1)\n"
    assert mq("pub", "c", stdin=b"").err == "published 0 messages\n"
    assert broker.contents("c") == [b"a", b""]


def test_files_in_order_and_standard_input_among_them(
    mq: Run, broker: FakeBroker, tmp_path: Path
) -> None:
    """A line does not run on into the next file."""
    broker.add("c")
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1\n2")
    second.write_bytes(b"4\n")
    ran = mq("pub", "c", "--file", str(first), "-f", "-", "-f", str(second), stdin=b"3\n")
    assert ran.code == 0
    assert broker.contents("c") == [b"1", b"2", b"3", b"4"]


def test_null_separates_records_that_hold_newlines(mq: Run, broker: FakeBroker) -> None:
    """As find -print0 writes them."""
    broker.add("c")
    assert mq("pub", "c", "--null", stdin=b"a\nb\0\0c").code == 0
    assert broker.contents("c") == [b"a\nb", b"", b"c"]


def test_key_and_headers_go_with_each_message(mq: Run, broker: FakeBroker) -> None:
    """The value of a header may hold an equals sign, and be empty."""
    channel = broker.add("c")
    ran = mq("pub", "c", "x", "y", "--key", "k", "-H", "type=a=b", "--header", "empty=")
    assert ran.code == 0
    expected = (b"k", (("type", b"a=b"), ("empty", b"")))
    assert [(record.key, record.headers) for record in channel.records] == [expected] * 2


def test_json_says_what_was_published(mq: Run, broker: FakeBroker) -> None:
    """One object on standard output; offsets are null where there are none."""
    broker.add("c", [b"0"])
    ran = mq("pub", "c", "a", "b", "--json", "--quiet")
    expected = {"channel": "c", "count": 2, "first_offset": 1, "last_offset": 2}
    assert json.loads(ran.out) == expected
    assert ran.err == ""
    nothing = json.loads(mq("pub", "c", "--json").out)
    assert nothing == {"channel": "c", "count": 0, "first_offset": None, "last_offset": None}


def test_an_unknown_channel_is_told_before_anything_is_read(mq: Run, broker: FakeBroker) -> None:
    """With what to do about it, and code 3."""
    ran = mq("pub", "nope", "x")
    assert ran.code == 3
    assert ran.out == b""
    assert ran.err.splitlines() == [
        "mq: error: there is no channel 'nope'",
        "mq: hint: create it with `mq channels create nope`, or pass --create",
    ]


def test_create_makes_the_channel_and_leaves_one_that_exists(mq: Run, broker: FakeBroker) -> None:
    """Twice is as good as once."""
    assert mq("pub", "c", "x", "--create").code == 0
    assert mq("pub", "c", "y", "--create").code == 0
    assert broker.contents("c") == [b"x", b"y"]


def test_messages_are_arguments_or_files_not_both(mq: Run, broker: FakeBroker) -> None:
    """Which order would they have?"""
    ran = mq("pub", "c", "x", "--file", "-")
    assert ran.code == 2
    assert "not both" in ran.err


def test_a_missing_file_stops_before_the_first_message(
    mq: Run, broker: FakeBroker, tmp_path: Path
) -> None:
    """Files are looked for before anything is published."""
    broker.add("c")
    there = tmp_path / "there"
    there.write_bytes(b"1\n")
    ran = mq("pub", "c", "--file", str(there), "--file", str(tmp_path / "missing"))
    assert ran.code == 2
    assert "missing" in ran.err
    assert broker.contents("c") == []


def test_a_bad_header_is_wrong_usage(mq: Run, broker: FakeBroker) -> None:
    """Neither without a name nor without a value."""
    for header in ("novalue", "=nameless"):
        ran = mq("pub", "c", "x", "--header", header)
        assert ran.code == 2
        assert "KEY=VALUE" in ran.err


def test_a_refused_message_stops_reading_and_is_counted(mq: Run, broker: FakeBroker) -> None:
    """What was acknowledged beside it is told; the code says that something failed."""
    broker.add("c", max_message_bytes=3)
    ran = mq("pub", "c", "a", "toolong", "b", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["count"] == 2
    assert ran.err.splitlines() == [
        "published 2 messages (offsets 0-1); 1 message refused",
        "mq: error: 7 bytes are over the limit of 3",
    ]


def test_a_line_past_the_channels_limit_is_not_gathered_in_memory(
    mq: Run, broker: FakeBroker
) -> None:
    """It stops reading at the limit, keeps what came before, and names the record."""
    broker.add("c", max_message_bytes=1000)
    ran = mq("pub", "c", stdin=b"ok\n" + b"x" * (2 * CHUNK_BYTES))
    assert ran.code == 1
    assert "record 2 of - is over the channel's limit of 1000" in ran.err


def test_a_broker_that_cannot_be_reached_is_code_4(mq: Run, broker: FakeBroker) -> None:
    """With what to do about it, and without a summary of nothing."""
    broker.unreachable = Unavailable("nothing listens on localhost:50051")
    ran = mq("pub", "c", "x")
    assert ran.code == 4
    assert ran.err.splitlines() == [
        "mq: error: nothing listens on localhost:50051",
        "mq: hint: start a broker with `mq serve`, or name another with --server or MQ_SERVER",
    ]


def test_ctrl_c_flushes_what_was_read_and_tells_how_much(mq: Run, broker: FakeBroker) -> None:
    """A first signal while sending lets the slice in hand be acknowledged."""
    broker.add("c")

    def interrupt_once(sent: int) -> None:
        if sent == 10:
            signal.raise_signal(signal.SIGINT)

    broker.on_send = interrupt_once
    ran = mq("pub", "c", stdin=b"x\n" * 20_000)
    assert ran.code == 130
    assert ran.err == "published 5000 messages (offsets 0-4999)\n"
    assert len(broker.contents("c")) == 5000


def test_sigterm_ends_it_the_same_way_with_its_own_code(mq: Run, broker: FakeBroker) -> None:
    """What systemd and timeout send."""
    broker.add("c")
    broker.on_send = lambda _sent: signal.raise_signal(signal.SIGTERM)
    assert mq("pub", "c", "x").code == 143
    assert broker.contents("c") == [b"x"]


def test_a_second_ctrl_c_waits_for_nothing(mq: Run, broker: FakeBroker) -> None:
    """The broker may be gone for good."""
    broker.add("c")
    broker.on_send = lambda _sent: signal.raise_signal(signal.SIGINT)
    assert mq("pub", "c", "x", "y").code == 130


def test_handlers_of_signals_are_put_back() -> None:
    """The block leaves no trace."""
    before = signal.getsignal(signal.SIGINT)
    with catch_interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


class Trickle:
    """A file whose reads give what has arrived."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def read1(self, size: int, /) -> bytes:
        """The next piece."""
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"\r", b"bc"])).map(b"".join)))
def test_records_don_t_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    """Whatever the pieces of a pipe, the records are those of the whole."""
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    found = [each for some in split_records(Trickle(pieces), "-", b"\n", 1 << 20) for each in some]
    assert found == expected


def test_records_are_given_out_as_they_arrive() -> None:
    """A line of a live pipe isn't held back for the next one."""
    source = Trickle([b"a\nb", b"c\n"])
    records = split_records(source, "-", b"\n", 1 << 20)
    assert next(records) == [b"a"]
    assert source.pieces == [b"c\n"]
    assert next(records) == [b"bc"]


@pytest.mark.parametrize("pieces", ([b"12345"], [b"123", b"45"], [b"1\n", b"123", b"45\n"]))
def test_a_record_may_be_as_large_as_the_limit_and_no_larger(pieces: list[bytes]) -> None:
    """Exactly the limit passes, in one piece or in several."""
    whole = b"".join(pieces)
    found = [each for some in split_records(Trickle(pieces), "-", b"\n", 5) for each in some]
    assert found == whole.removesuffix(b"\n").split(b"\n")
    with pytest.raises(Failure, match="over the channel's limit of 4"):
        list(split_records(Trickle(pieces), "-", b"\n", 4))


def test_delay_and_expiry_are_given_to_the_producer(mq: Run, broker: FakeBroker) -> None:
    """In milliseconds; a plain number is seconds, and nothing is nothing."""
    broker.add("c")
    assert mq("pub", "c", "x", "--deliver-after", "1m30s", "--expires-after", "3600").code == 0
    assert mq("pub", "c", "x").code == 0
    expected = {"deliver_after_ms": 90_000, "expires_after_ms": 3_600_000}
    assert broker.schedules == [expected, {}]
