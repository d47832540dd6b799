"""proto/mq.proto keeps the first contract: what clients in the field were built from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mq.pb import mq_pb2
from tests.helpers.server import ROOT

PROTO = (ROOT / "proto" / "mq.proto").read_text()
FROZEN = ROOT / "tests" / "contract" / "first"

SERVICE = {
    "CreateChannel": ("mq.CreateChannelRequest", "mq.CreateChannelResponse", False),
    "Publish": ("mq.PublishRequest", "mq.PublishResponse", False),
    "Subscribe": ("mq.SubscribeRequest", "mq.Message", True),
}
# Message, field, number, and the field's own bytes when it is set to the value beside it.
FIELDS = (
    ("CreateChannelRequest", "channel", "é", b"\x0a\x02\xc3\xa9"),
    ("PublishRequest", "channel", "a", b"\x0a\x01a"),
    ("PublishRequest", "content", b"\xff\x00", b"\x12\x02\xff\x00"),
    ("SubscribeRequest", "channel", "a", b"\x0a\x01a"),
    ("SubscribeRequest", "offset", 2, b"\x10\x02"),
    ("SubscribeRequest", "pull_interval", 2**64 - 1, b"\x18" + b"\xff" * 9 + b"\x01"),
    ("Message", "id", "msg1", b"\x0a\x04msg1"),
    ("Message", "content", b"\xff\x00", b"\x12\x02\xff\x00"),
    ("Message", "created_at", -1, b"\x18" + b"\xff" * 9 + b"\x01"),
)
BREAKING_EDITS = (
    ("rename a call", "rpc Publish(", "rpc Send("),
    ("end a stream", "(stream Message)", "(Message)"),
    ("rename the service", "service MQService", "service Broker"),
    ("rename the package", "package mq;", "package broker;"),
    ("rename a field", "uint64 pull_interval = 3;", "uint64 pull_interval_ms = 3;"),
    ("renumber a field", "string id = 1;", "string id = 7;"),
    ("retype a field", "int64 created_at = 3;", "string created_at = 3;"),
    ("renumber an enum's value", "OFFSET_LATEST = 2;", "OFFSET_LATEST = 3;"),
)
HARMLESS_EDITS = (
    ("add a field", "string id = 1;", "string id = 1;\n  int32 later = 99;"),
    ("add a call", "rpc Pull(", "rpc Later(PullRequest) returns (PullResponse);\n  rpc Pull("),
)


@pytest.mark.parametrize("name", SERVICE)
def test_calls(name: str) -> None:
    """Each of the three calls has its name, its types, and streams or doesn't."""
    service = mq_pb2.DESCRIPTOR.services_by_name["MQService"]
    method = service.methods_by_name[name]
    assert service.full_name == "mq.MQService"
    assert not method.client_streaming
    described = (method.input_type.full_name, method.output_type.full_name, method.server_streaming)
    assert described == SERVICE[name]


@pytest.mark.parametrize(("message", "field", "value", "wire"), FIELDS)
def test_fields(message: str, field: str, value: object, wire: bytes) -> None:
    """Each field has the number and type that give these bytes."""
    made = getattr(mq_pb2, message)(**{field: value})
    assert made.SerializeToString() == wire
    assert type(made).FromString(wire) == made


def test_offset_values() -> None:
    """The starting points keep names and numbers."""
    assert mq_pb2.Offset.items() == [
        ("OFFSET_UNKNOWN", 0),
        ("OFFSET_BEGINNING", 1),
        ("OFFSET_LATEST", 2),
    ]


def buf_breaking(proto: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Compare a changed proto/mq.proto with the frozen contract, as `make proto-check` does."""
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if buf is None:
        pytest.skip("buf is not installed (pip install buf-bin)")
    (scratch / "proto").mkdir()
    (scratch / "proto" / "mq.proto").write_text(proto)
    shutil.copy(ROOT / "buf.yaml", scratch)
    command = [buf, "breaking", "proto", "--against", str(FROZEN)]
    return subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)


def edited(old: str, new: str) -> str:
    """The proto with one edit, which must be one."""
    assert old in PROTO
    return PROTO.replace(old, new)


@pytest.mark.parametrize(("edit", "old", "new"), BREAKING_EDITS)
def test_a_breaking_edit_is_refused(edit: str, old: str, new: str, tmp_path: Path) -> None:
    """The proto check fails on a change that would break a client in the field."""
    result = buf_breaking(edited(old, new), tmp_path)
    assert result.returncode == 100, f"{edit}: {result.stdout}{result.stderr}"


@pytest.mark.parametrize(("edit", "old", "new"), HARMLESS_EDITS)
def test_a_compatible_edit_is_accepted(edit: str, old: str, new: str, tmp_path: Path) -> None:
    """The proto check passes what only adds."""
    result = buf_breaking(edited(old, new), tmp_path)
    assert result.returncode == 0, f"{edit}: {result.stdout}{result.stderr}"
