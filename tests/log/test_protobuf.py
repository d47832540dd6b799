"""A segment is protobuf: any parser reads it, without this project's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mq.log.format import HEADER_BYTES
from mq.pb import mq_pb2 as pb
from tests.helpers.server import ROOT
from tests.log.batches import CHANNEL, append, batch, fill, open_log, read_all


def sealed(path: Path) -> Path:
    """A sealed segment of a few batches."""
    log = open_log(path, segment_bytes=4096)
    fill(log, 5)
    log.append([batch(b"of a producer", producer_id=7, sequence=3)])
    append(log, 1, 3000)
    log.sync()
    assert log.segments[0].sealed
    return log.segments[0].path


def test_the_generated_class_reads_a_sealed_segment(tmp_path: Path) -> None:
    """Header, batches, padding and footer, and not a byte besides."""
    raw = sealed(tmp_path / "log").read_bytes()
    segment = pb.SegmentFile.FromString(raw)
    assert segment.SerializePartialToString() != b""
    assert segment.header.magic.to_bytes(8, "little") == b"MQSEGMNT"
    assert segment.header.channel_id == CHANNEL
    assert segment.header.format_version == 1
    assert segment.header.capacity_bytes == len(raw) == 4096
    assert [b.base_offset for b in segment.batches] == [0, 3, 6, 9, 12, 15]
    assert segment.batches[-1].producer_id == 7
    assert segment.batches[2].durable_through == 6
    contents = [c for b in segment.batches for c in pb.Records.FromString(b.records).contents]
    log = open_log(tmp_path / "log", segment_bytes=4096)
    assert contents == [r.content for r in read_all(log)][:16]
    assert segment.footer.end_offset == 16
    assert segment.footer.frame_count == 6
    assert segment.footer.segment_id == segment.header.segment_id
    assert segment.padding.strip(b"\0") == b""
    assert segment.footer.end_position + 6 + len(segment.padding) + 128 == 4096


def test_the_beginning_of_an_active_segment(tmp_path: Path) -> None:
    """Is protobuf as well, up to the zeros."""
    log = open_log(tmp_path / "log")
    fill(log, 3)
    raw = log.segments[0].path.read_bytes()[: HEADER_BYTES + log.stored_bytes]
    segment = pb.SegmentFile.FromString(raw)
    assert len(segment.batches) == 3
    assert not segment.HasField("footer")


def test_protoc_decodes_a_sealed_segment(tmp_path: Path) -> None:
    """With the proto file and nothing else."""
    with sealed(tmp_path / "log").open("rb") as segment:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"),
                *("--decode=mq.SegmentFile", "mq.proto"),
            ],
            stdin=segment,
            capture_output=True,
            check=True,
            timeout=50,
        )
    text = ran.stdout.decode()
    assert text.count("batches {") == 6
    assert "header {" in text
    assert "footer {" in text
    assert "of a producer" in text
    assert "end_offset: 16" in text
    # Every byte has a name.
    assert not any(line.strip()[:1].isdigit() for line in text.splitlines())
