"""The examples run against a real broker, and understand each other."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from mq.pb import mq_pb2
from tests.conftest import StartServer
from tests.helpers.server import ROOT, clean_environment

EXAMPLES = ROOT / "examples"
GO = EXAMPLES / "go"
COUNT = 1200  # more than two batches of a Subscribe stream
LIMIT_S = 50

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")


def run(*command: str | Path, env: dict[str, str] | None = None) -> list[str]:
    """Run a program to its end, and return its lines."""
    result = subprocess.run(
        [str(part) for part in command],
        env=clean_environment() | (env or {}),
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def script(name: str) -> tuple[str, str]:
    """The command line of an example in Python."""
    return sys.executable, str(EXAMPLES / name)


def contents(lines: list[str]) -> list[str]:
    """What the subscribers of the first contract print after id and time."""
    return [line.split(" ", 2)[2] for line in lines]


def check_messages(lines: list[str], expected: list[str]) -> None:
    """Contents in order, ids that begin with msg and are unique."""
    assert contents(lines) == expected
    ids = [line.partition(" ")[0] for line in lines]
    assert all(name.startswith("msg") for name in ids)
    assert len(set(ids)) == len(ids)


def test_client_library(server: StartServer) -> None:
    """The subscriber prints what the publisher has sent, with its offsets."""
    address = server().address
    common = ("--address", address, "--channel", "orders", "--count", str(COUNT))
    published = run(*script("python/publisher.py"), *common)
    assert published == [f"published {COUNT} messages, offsets 0 to {COUNT - 1}"]
    received = run(*script("python/subscriber.py"), *common)
    assert received == [f"{n} hello {n}" for n in range(COUNT)]


def test_plain_grpc(server: StartServer) -> None:
    """The subscriber replays all that the publisher has sent, over several batches."""
    address = server().address
    common = ("--address", address, "--channel", "orders", "--count", str(COUNT))
    published = run(*script("python_grpc/publisher.py"), *common)
    assert published == [f"published hello {n}" for n in range(COUNT)]
    received = run(*script("python_grpc/subscriber.py"), *common, "--pull-interval-ms", "1")
    check_messages(received, [f"hello {n}" for n in range(COUNT)])


def test_address_from_the_environment(server: StartServer) -> None:
    """BROKER_HOST and BROKER_PORT say which broker."""
    env = {"BROKER_HOST": "127.0.0.1", "BROKER_PORT": str(server().port)}
    assert len(run(*script("python_grpc/publisher.py"), env=env)) == 10
    assert len(run(*script("python/subscriber.py"), "--count", "10", env=env)) == 10


def test_no_such_channel(server: StartServer) -> None:
    """A subscriber to a channel that nobody made ends with the broker's words."""
    command = [*script("python_grpc/subscriber.py"), "--address", server().address]
    result = subprocess.run(
        command,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("FAILED_PRECONDITION: ")
    assert "greetings" in result.stderr


@needs_go
@pytest.mark.timeout(600)  # the first build fetches and compiles gRPC
def test_go(server: StartServer, tmp_path: Path) -> None:
    """The Go module builds as it is; its programs talk to the broker, and to Python's."""
    build = ["go", "build", "-mod=readonly", "-o", str(tmp_path), "./publisher", "./subscriber"]
    built = subprocess.run(build, cwd=GO, capture_output=True, text=True, check=False, timeout=590)
    assert built.returncode == 0, built.stderr

    address = server().address
    common = ("-address", address, "-channel", "orders", "-count", str(COUNT))
    published = run(tmp_path / "publisher", *common)
    assert published == [f"published hello {n}" for n in range(COUNT)]
    received = run(tmp_path / "subscriber", *common, "-pull-interval", "1ms")
    check_messages(received, [f"hello {n}" for n in range(COUNT)])

    options = ("--address", address, "--channel", "orders", "--count", str(COUNT))
    again = run(*script("python_grpc/subscriber.py"), *options, "--pull-interval-ms", "1")
    assert again == received


def test_go_stubs_are_current() -> None:
    """The committed Go stubs were generated from the proto as it is (`make stubs-go`)."""
    source = (GO / "gen" / "mq" / "mq.pb.go").read_text()
    found = re.search(r'^const file_mq_proto_rawDesc = ""((?: \+\n\t".*")+)$', source, re.MULTILINE)
    assert found is not None
    literals = re.findall(r'^\t"(.*)"', found[1], re.MULTILINE)
    generated = FileDescriptorProto.FromString(
        b"".join(ast.literal_eval(f'b"{literal}"') for literal in literals)
    )
    forget_json_names(generated.message_type)
    current = FileDescriptorProto()
    mq_pb2.DESCRIPTOR.CopyToProto(current)
    assert generated == current


def forget_json_names(messages: Iterable[DescriptorProto]) -> None:
    """Leave out what protoc tells plugins and Python's generator doesn't keep."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        forget_json_names(message.nested_type)
