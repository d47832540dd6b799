"""What a server has sealed can be read without this project's code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mq import Client
from mq.log.envelope import parse_segment_footer
from mq.log.format import FOOTER_BYTES
from tests.helpers.server import ROOT, ServerProcess

# All that a reader needs: a class generated from proto/mq.proto.
READER = """
import sys
import mq_pb2

for path in sys.argv[1:]:
    with open(path, "rb") as file:
        segment = mq_pb2.SegmentFile.FromString(file.read())
    offset = segment.footer.base_offset
    for batch in segment.batches:
        assert batch.base_offset == offset
        for content in mq_pb2.Records.FromString(batch.records).contents:
            print(offset, content.decode())
            offset += 1
    assert offset == segment.footer.end_offset
"""


@pytest.fixture
def sealed(start: Callable[..., ServerProcess]) -> list[Path]:
    """The sealed segments of a channel with the numbers from 0, each as a message."""
    server = start("--segment-bytes", "64KiB")
    with Client(server.address) as client:
        client.create_channel("c")
        for first in range(0, 20_000, 1000):
            client.publish_many("c", [b"number %d" % n for n in range(first, first + 1000)])
    assert server.stop() == 0
    paths = sorted(server.data_dir.glob("channels/*/*.seg"))
    sealed = [p for p in paths if parse_segment_footer(p.read_bytes()[-FOOTER_BYTES:]) is not None]
    assert len(sealed) > 3
    return sealed


def test_a_generated_class_reads_sealed_segments(sealed: list[Path], tmp_path: Path) -> None:
    """A few lines around a class that protoc has generated print every message."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    generate = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto")]
    subprocess.run([*generate, f"--python_out={tmp_path}", "mq.proto"], check=True)
    (tmp_path / "reader.py").write_text(READER)
    read = subprocess.run(
        [sys.executable, "reader.py", *sealed], cwd=tmp_path, capture_output=True, check=True
    )
    lines = read.stdout.decode().splitlines()
    assert len(lines) > 10_000
    assert lines == [f"{n} number {n}" for n in range(len(lines))]


def test_protoc_decodes_a_sealed_segment(sealed: list[Path]) -> None:
    """`protoc --decode` prints header, batches and footer as text."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto")]
    decoded = subprocess.run(
        [*protoc, "--decode=mq.SegmentFile", "mq.proto"],
        input=sealed[0].read_bytes(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert re.search(r"^header \{\n  magic: \d+", decoded, re.MULTILINE)
    assert re.search(r"^footer \{", decoded, re.MULTILINE)
    count = len(re.findall(r"^batches \{", decoded, re.MULTILINE))
    # In text, a field that is zero is left out.
    offsets = re.findall(r"^batches \{\n  base_offset: (\d+)", decoded, re.MULTILINE)
    assert offsets == [str(n) for n in range(1000, 1000 * count, 1000)]
    assert "number 999" in decoded
