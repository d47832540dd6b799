"""The command line against a real broker.

Commands run in this process, as a shell would see them; those that are
interrupted, or whose pipes matter, are processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.live import LIMIT_S, pipe, start
from tests.conftest import StartServer
from tests.helpers.server import ServerProcess, clean_environment

ODD = b"plain\n\n\nwindows\r\n\xff\xfe\x00\x1b[31m\n \t \n" + "ü€\n".encode()


def test_what_was_published_is_read_byte_for_byte(mq: Run, channel: str, tmp_path: Path) -> None:
    """Empty lines, odd bytes, carriage returns, long lines, in order and once."""
    random_ = random.Random(7)
    sizes = random_.choices((0, 1, 10, 100, 127, 128, 1000), k=20_000)
    lines = [random_.randbytes(size).replace(b"\n", b"") for size in sizes]
    whole = ODD + b"".join(line + b"\n" for line in [*lines, b"x" * 1_000_000])
    file = tmp_path / "lines"
    file.write_bytes(whole)
    ran = mq("pub", channel, "--file", str(file), "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    count = whole.count(b"\n")
    published = {"channel": channel, "count": count, "first_offset": 0, "last_offset": count - 1}
    assert json.loads(ran.out) == published
    assert mq("sub", channel, "--from", "beginning", "--raw") == (0, whole, "")
    ten = b"".join(line + b"\n" for line in whole.split(b"\n")[9:19])
    assert mq("sub", channel, "--from", "9", "--count", "10", "--raw") == (0, ten, "")


def test_records_with_newlines_travel_with_null(mq: Run, channel: str) -> None:
    """NUL-terminated in, NUL-terminated out."""
    records = b"a\nb\0\0c\n\0"
    assert mq("pub", channel, "--null", stdin=records).code == 0
    assert mq("sub", channel, "--from", "beginning", "--raw", "--null").out == records


def test_a_last_line_without_an_end_gets_one(mq: Run, channel: str) -> None:
    """The one byte that is not the same."""
    mq("pub", channel, stdin=b"a\nb")
    assert mq("sub", channel, "--from", "0").out == b"a\nb\n"


def test_keys_headers_and_times_come_back(mq: Run, channel: str) -> None:
    """In JSON, and a printed time finds its message."""
    mq("pub", channel, "first")
    mq("pub", channel, "second", "--key", "k", "--header", "type=t", "--header", "n=1")
    lines = mq("sub", channel, "--from", "beginning", "--json").out.splitlines()
    first, second = map(json.loads, lines)
    assert (first["offset"], first["content"]) == (0, "first")
    assert (first["key"], first["headers"]) == (None, {})
    assert (second["key"], second["headers"]) == ("k", {"type": "t", "n": "1"})
    assert mq("sub", channel, "--from", second["time"]).out == b"second\n"
    assert mq("sub", channel, "--from", "-1h").out == b"first\nsecond\n"
    formatted = mq("sub", channel, "--from", "1", "--format", "{offset} {key} {headers}")
    assert formatted.out == b"1 k type=t,n=1\n"


@pytest.mark.parametrize("style", ("--raw", "--json"))
def test_a_reader_that_leaves_is_no_error(
    mq: Run, live: ServerProcess, channel: str, style: str
) -> None:
    """``mq sub … | head -1``: no traceback, code 0."""
    mq("pub", channel, stdin=b"a line that fills the pipe\n" * 50_000)
    with start(live, "sub", channel, "--from", "beginning", style) as process:
        assert b"a line that fills the pipe" in pipe(process.stdout).readline()
        pipe(process.stdout).close()
        assert process.wait(LIMIT_S) == 0
        assert pipe(process.stderr).read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_the_output_is_told(mq: Run, live: ServerProcess, channel: str) -> None:
    """Code 2, one line, no traceback."""
    mq("pub", channel, "x")
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "mq", "sub", channel, "--from", "0"],
            env=clean_environment() | {"MQ_SERVER": live.address},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=LIMIT_S,
        )
    assert (ran.returncode, ran.stderr) == (2, b"mq: error: No space left on device\n")


def test_a_reader_that_leaves_while_following_is_no_error(
    mq: Run, live: ServerProcess, channel: str
) -> None:
    """It is noticed with the next message."""
    mq("pub", channel, "first")
    with start(live, "sub", channel, "--from", "beginning", "--follow") as process:
        assert pipe(process.stdout).readline() == b"first\n"
        pipe(process.stdout).close()
        mq("pub", channel, "second")
        assert process.wait(LIMIT_S) == 0
        assert pipe(process.stderr).read() == b""


def test_lines_of_a_live_pipe_are_sent_at_once_and_ctrl_c_ends_both(
    live: ServerProcess, channel: str
) -> None:
    """The publisher tells what was acknowledged; neither looks like a crash."""
    with (
        start(live, "pub", channel) as publisher,
        start(live, "sub", channel, "--from", "beginning", "--follow") as subscriber,
    ):
        for line in (b"one\n", b"two\n"):
            pipe(publisher.stdin).write(line)
            pipe(publisher.stdin).flush()
            assert pipe(subscriber.stdout).readline() == line
        pipe(publisher.stdin).write(b"begun")
        pipe(publisher.stdin).flush()
        publisher.send_signal(signal.SIGINT)
        assert publisher.wait(LIMIT_S) == 130
        assert pipe(publisher.stderr).read() == b"published 2 messages (offsets 0-1)\n"
        subscriber.send_signal(signal.SIGINT)
        assert subscriber.wait(LIMIT_S) == 130
        assert pipe(subscriber.stderr).read().strip() == b""


def test_latest_is_what_comes_from_now_on(mq: Run, live: ServerProcess, channel: str) -> None:
    """What was there before is not printed; a message that comes later is."""
    mq("pub", channel, "before")
    with start(live, "sub", channel, "-n", "1") as process:
        while process.poll() is None:
            assert mq("pub", channel, "after").code == 0
        assert process.returncode == 0
        assert pipe(process.stdout).read() == b"after\n"


def test_channels_live_and_die(mq: Run, channel: str) -> None:
    """Create, list, configure, describe, remove."""
    name = f"{channel}.orders"
    settings = ["segment_bytes=128KiB", "durability=written"]
    assert mq("channels", "create", name, *settings) == (0, b"", "")
    assert mq("channels", "create", name, "segment_bytes=1MiB") == (0, b"", "")
    assert mq("channels", "ls", channel).text == f"{channel}\n{name}\n"
    mq("pub", name, "x", "y")
    configured = mq("channels", "configure", name, "max_message_bytes=1KiB", "--json")
    config = json.loads(configured.out)["config"]
    assert (config["segment_bytes"], config["durability"]) == (131072, "written")
    assert config["max_message_bytes"] == 1024
    described = json.loads(mq("channels", "describe", name, "--json").out)
    assert described["record_count"] == described["durable_offset"] == 2
    assert described["state"] == "ok"
    assert mq("channels", "ls", "-l", name).text.startswith(f"{name}\t2\t")
    assert mq("channels", "rm", name, "--yes") == (0, b"", "")
    assert mq("channels", "ls", channel).text == f"{channel}\n"


def test_a_message_that_is_too_large_is_refused_alone(mq: Run, channel: str) -> None:
    """Those beside it are stored, and counted."""
    mq("channels", "configure", channel, "max_message_bytes=1KiB")
    ran = mq("pub", channel, "before", "x" * 2000, "after")
    assert ran.code == 1
    assert "published 2 messages (offsets 0-1); 1 message refused" in ran.err
    assert mq("sub", channel, "--from", "0").out == b"before\nafter\n"


@pytest.mark.parametrize(
    "line",
    (
        "pub nope x",
        "sub nope",
        "sub nope --from beginning",
        "channels describe nope",
        "channels rm nope --yes",
        "channels configure nope durability=synced",
    ),
)
@pytest.mark.usefixtures("channel")
def test_no_such_channel_is_code_3(mq: Run, line: str) -> None:
    """Whichever call finds out."""
    ran = mq(*line.split())
    assert (ran.code, ran.out) == (3, b"")
    assert ran.err.startswith("mq: error: ")


def test_what_the_broker_refuses_is_code_1(mq: Run, channel: str) -> None:
    """An offset past the end, a bad name."""
    for args in (["sub", channel, "--from", "1"], ["channels", "create", "x" * 256]):
        ran = mq(*args)
        assert (ran.code, ran.out) == (1, b"")
        assert ran.err.startswith("mq: error: ")


@pytest.mark.parametrize("line", ("pub c x", "sub c", "sub c --from 0", "channels ls"))
def test_no_broker_is_code_4(mq: Run, line: str) -> None:
    """Soon, with the address, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody can take it meanwhile
        address = "{}:{}".format(*taken.getsockname())
        ran = mq(*line.split(), "--server", address)
    assert (ran.code, ran.out) == (4, b"")
    assert address in ran.err
    assert "mq serve" in ran.err


def test_a_server_that_cannot_start_is_code_2(live: ServerProcess) -> None:
    """A data directory that is in use is left alone."""
    second = ServerProcess(live.data_dir).spawn()
    assert second.wait() == 2
    assert live.running


def test_verify_and_dump_read_what_was_stored(
    server: StartServer, mq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped broker's directory is sound; a flipped bit is found."""
    broker = server()
    monkeypatch.setenv("MQ_SERVER", broker.address)
    mq("pub", "c", "first message", "second message", "--key", "k", "--create")
    assert broker.stop() == 0
    directory = str(broker.data_dir)
    assert mq("verify", directory).code == 0
    (segment,) = broker.data_dir.glob("channels/*/*.seg")
    dumped = [
        json.loads(line)
        for line in mq("dump", str(segment), "--records", "--json").out.splitlines()
    ]
    assert [part["kind"] for part in dumped[:2]] == ["header", "frame"]
    records = [part for part in dumped if part["kind"] == "record"]
    assert [(each["offset"], each["key"], each["content"]) for each in records] == [
        (0, "k", "first message"),
        (1, "k", "second message"),
    ]
    position = segment.read_bytes().index(b"second")
    with segment.open("r+b") as file:
        os.pwrite(file.fileno(), b"S", position)
    assert mq("verify", directory).code == 1
    assert mq("dump", str(segment)).code == 1
    assert isinstance(json.loads(mq("verify", directory, "--json").out), dict)
    assert mq("verify", str(tmp_path / "nothing")).code == 2
