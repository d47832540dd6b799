"""The command line against a real broker, each command a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import StartServer
from tests.helpers.server import ServerProcess, clean_environment

LIMIT_S = 30
ODD = b"".join(
    [
        b"plain\n",
        b"\n",
        b"\n",
        b"windows\r\n",
        b"\xff\xfe\x00\x1b[31m\n",
        b" \t \n",
        "ü€\n".encode(),
    ]
)

Completed = subprocess.CompletedProcess[bytes]


class Shell:
    """Runs ``mq`` against one broker."""

    def __init__(self, address: str) -> None:
        self.env = clean_environment() | {"MQ_SERVER": address}

    def run(self, *args: str | Path, stdin: bytes = b"") -> Completed:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*args),
            env=self.env,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )

    def out(self, *args: str | Path, stdin: bytes = b"") -> bytes:
        """Standard output of a command that has to succeed in silence."""
        ran = self.run(*args, stdin=stdin)
        assert (ran.returncode, ran.stderr) == (0, b""), args
        return ran.stdout

    @contextmanager
    def start(self, *args: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on, with all its streams as pipes; killed at the end."""
        process = subprocess.Popen(
            self.command(*args),
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, *args: str | Path) -> list[str]:
        """The arguments of a process."""
        return [sys.executable, "-m", "mq", *map(str, args)]


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """A stream of a process that was started with pipes."""
    assert stream is not None
    return stream


@pytest.fixture
def broker(server: StartServer) -> ServerProcess:
    """A broker of the test's own."""
    return server()


@pytest.fixture
def shell(broker: ServerProcess) -> Shell:
    """``mq`` with that broker, which has a channel ``c``."""
    made = Shell(broker.address)
    made.out("channels", "create", "c")
    return made


def test_what_was_published_is_read_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    """Empty lines, odd bytes, carriage returns, long lines, in order and once."""
    random_ = random.Random(7)
    lines = [
        random_.randbytes(random_.choice((0, 1, 10, 100, 127, 128, 1000))).replace(b"\n", b"")
        for _ in range(20_000)
    ]
    lines.append(b"x" * 1_000_000)
    whole = ODD + b"".join(line + b"\n" for line in lines)
    file = tmp_path / "lines"
    file.write_bytes(whole)
    ran = shell.run("pub", "c", "--file", file, "--json", "--quiet")
    assert (ran.returncode, ran.stderr) == (0, b"")
    count = whole.count(b"\n")
    published = {"channel": "c", "count": count, "first_offset": 0, "last_offset": count - 1}
    assert json.loads(ran.stdout) == published
    assert shell.out("sub", "c", "--from", "beginning", "--raw") == whole
    ten = shell.out("sub", "c", "--from", "9", "--count", "10", "--raw")
    assert ten == b"".join(line + b"\n" for line in whole.split(b"\n")[9:19])


def test_records_with_newlines_travel_with_null(shell: Shell) -> None:
    """NUL-terminated in, NUL-terminated out."""
    records = b"a\nb\0\0c\n\0"
    assert shell.run("pub", "c", "--null", stdin=records).returncode == 0
    assert shell.out("sub", "c", "--from", "beginning", "--raw", "--null") == records


def test_a_last_line_without_an_end_gets_one(shell: Shell) -> None:
    """The one byte that is not the same."""
    shell.run("pub", "c", stdin=b"a\nb")
    assert shell.out("sub", "c", "--from", "0") == b"a\nb\n"


def test_keys_headers_and_times_come_back(shell: Shell) -> None:
    """In JSON, and a printed time finds its message."""
    shell.run("pub", "c", "first")
    shell.run("pub", "c", "second", "--key", "k", "--header", "type=t", "--header", "n=1")
    lines = shell.out("sub", "c", "--from", "beginning", "--json").splitlines()
    first, second = map(json.loads, lines)
    assert (first["offset"], first["content"], first["key"], first["headers"]) == (
        0,
        "first",
        None,
        {},
    )
    assert (second["key"], second["headers"]) == ("k", {"type": "t", "n": "1"})
    assert shell.out("sub", "c", "--from", second["time"]) == b"second\n"
    assert shell.out("sub", "c", "--from", "-1h") == b"first\nsecond\n"
    formatted = shell.out("sub", "c", "--from", "1", "--format", "{offset} {key} {headers}")
    assert formatted == b"1 k type=t,n=1\n"


def test_a_reader_that_leaves_is_no_error(shell: Shell) -> None:
    """``mq sub … | head -1``: no traceback, code 0."""
    shell.run("pub", "c", stdin=b"a line that fills the pipe\n" * 50_000)
    with shell.start("sub", "c", "--from", "beginning", "--raw") as process:
        assert pipe(process.stdout).readline() == b"a line that fills the pipe\n"
        pipe(process.stdout).close()
        assert process.wait(LIMIT_S) == 0
        assert pipe(process.stderr).read() == b""


@pytest.mark.parametrize("args", (["--json"], []))
def test_a_reader_that_leaves_while_following_is_no_error(shell: Shell, args: list[str]) -> None:
    """It is noticed with the next message."""
    shell.run("pub", "c", "first")
    with shell.start("sub", "c", "--from", "beginning", "--follow", *args) as process:
        assert b"first" in pipe(process.stdout).readline()
        pipe(process.stdout).close()
        shell.run("pub", "c", "second")
        assert process.wait(LIMIT_S) == 0
        assert pipe(process.stderr).read() == b""


def test_ctrl_c_ends_following(shell: Shell) -> None:
    """Code 130, and nothing that looks like a crash."""
    shell.run("pub", "c", "first")
    with shell.start("sub", "c", "--from", "beginning", "--follow") as process:
        assert pipe(process.stdout).readline() == b"first\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert pipe(process.stderr).read().strip() == b""


def test_lines_of_a_live_pipe_are_sent_at_once(shell: Shell) -> None:
    """And Ctrl-C, while waiting for more, tells what was acknowledged."""
    with (
        shell.start("pub", "c") as publisher,
        shell.start("sub", "c", "--from", "beginning", "--follow") as subscriber,
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


def test_latest_is_what_comes_from_now_on(shell: Shell) -> None:
    """What was there before is not printed; a message that comes later is."""
    shell.run("pub", "c", "before")
    with shell.start("sub", "c", "--format", "{offset} {content}", "-n", "1") as process:
        answer = b""
        for number in range(LIMIT_S * 10):
            shell.run("pub", "c", f"after {number}")
            if process.poll() is not None:
                answer = pipe(process.stdout).read()
                break
        assert answer.split(b" ", 1)[1].startswith(b"after")
        assert int(answer.split()[0]) >= 1


def test_channels_live_and_die(shell: Shell) -> None:
    """Create, list, configure, describe, remove."""
    shell.out("channels", "create", "orders", "segment_bytes=128KiB", "durability=written")
    shell.out("channels", "create", "orders", "segment_bytes=1MiB")
    assert shell.out("channels", "ls") == b"c\norders\n"
    assert shell.out("channels", "ls", "or") == b"orders\n"
    shell.run("pub", "orders", "x", "y")
    configured = json.loads(
        shell.out("channels", "configure", "orders", "max_message_bytes=1KiB", "--json")
    )
    assert configured["config"] == {
        "segment_bytes": 131072,
        "durability": "written",
        "max_message_bytes": 1024,
    }
    described = json.loads(shell.out("channels", "describe", "orders", "--json"))
    assert described["record_count"] == described["durable_offset"] == 2
    assert described["state"] == "ok"
    assert b"orders\t2\t" in shell.out("channels", "ls", "-l")
    refused = shell.run("pub", "orders", "fits", "x" * 2000)
    assert refused.returncode == 1
    assert b"1 message refused" in refused.stderr
    shell.out("channels", "rm", "orders", "--yes")
    assert shell.out("channels", "ls") == b"c\n"


@pytest.mark.parametrize(
    "args",
    (
        ["pub", "nope", "x"],
        ["sub", "nope"],
        ["sub", "nope", "--from", "beginning"],
        ["channels", "describe", "nope"],
        ["channels", "rm", "nope", "--yes"],
        ["channels", "configure", "nope", "durability=synced"],
    ),
)
def test_no_such_channel_is_code_3(shell: Shell, args: list[str]) -> None:
    """One line, and a hint where there is one to give."""
    ran = shell.run(*args)
    assert (ran.returncode, ran.stdout) == (3, b"")
    assert ran.stderr.startswith(b"mq: error: ")
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "args", (["sub", "c", "--from", "1"], ["pub", "c", ""], ["channels", "create", "a/b"])
)
def test_what_the_broker_refuses_is_code_1(shell: Shell, args: list[str]) -> None:
    """An offset past the end, a bad name; an empty message is fine."""
    ran = shell.run(*args)
    assert ran.returncode == (0 if args[0] == "pub" else 1), ran.stderr
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "args", (["pub", "c", "x"], ["sub", "c"], ["sub", "c", "--from", "0"], ["channels", "ls"])
)
def test_no_broker_is_code_4(args: list[str]) -> None:
    """Soon, with the address, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody can take it meanwhile
        address = "{}:{}".format(*taken.getsockname())
        ran = Shell(address).run(*args, "--timeout", "5s")
    assert (ran.returncode, ran.stdout) == (4, b"")
    assert address.encode() in ran.stderr
    assert b"mq serve" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_verify_and_dump_read_what_was_stored(
    shell: Shell, broker: ServerProcess, tmp_path: Path
) -> None:
    """A stopped broker's directory is sound; a flipped bit is found, and named."""
    shell.run("pub", "c", "first message", "second message", "--key", "k")
    assert broker.stop() == 0
    ran = shell.run("verify", broker.data_dir)
    assert ran.returncode == 0, ran.stderr
    (segment,) = broker.data_dir.glob("channels/*/*.seg")
    dumped = [
        json.loads(line) for line in shell.out("dump", segment, "--records", "--json").splitlines()
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
    assert shell.run("verify", broker.data_dir).returncode == 1
    assert shell.run("dump", segment).returncode == 1
    report = json.loads(shell.run("verify", broker.data_dir, "--json").stdout)
    assert report
    assert shell.run("verify", tmp_path / "nothing").returncode == 2


def test_a_unix_socket_will_do(server: StartServer, tmp_path: Path) -> None:
    """As --server and in MQ_SERVER."""
    path = tmp_path / "s"
    broker = server(listen=f"unix:{path}")
    shell = Shell(broker.address)
    shell.out("channels", "create", "c", "--server", f"unix:{path}")
    assert shell.out("channels", "ls") == b"c\n"
