"""What a start refuses: another's directory or port, and settings that can't be used."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.cli.exits import COULD_NOT_RUN
from tests.conformance.rpc import Rpc
from tests.conftest import StartServer
from tests.helpers.server import ServerProcess

Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """A function that starts a server, which has to fail; returns why it says it did."""

    def run(data_dir: Path | None, *args: str, env: dict[str, str] | None = None) -> str:
        where = tmp_path / "refused" / "data" if data_dir is None else data_dir
        server = ServerProcess(where, *args, env=env).spawn()
        assert server.wait() == COULD_NOT_RUN
        lines = [entry.get("raw") or entry.get("reason", "") for entry in server.log]
        assert not any("Traceback" in line for line in lines), lines
        assert "listening" not in [entry.get("event") for entry in server.log]
        return "\n".join(lines)

    return run


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a directory, and what is in it."""
    return {str(each): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_a_data_directory_in_use(refuse: Refuse, shared: ServerProcess) -> None:
    """A second server says so and ends; the first goes on."""
    assert "in use by another mq process" in refuse(shared.data_dir)
    assert shared.running


def test_a_port_in_use(refuse: Refuse, shared: ServerProcess, front: str, tmp_path: Path) -> None:
    """Two servers never share a port; the refused one leaves its directory to the next."""
    data_dir = tmp_path / "data"
    reason = refuse(data_dir, "--listen", shared.address, "--front", front)
    assert shared.address in reason
    assert "another server listens there" in reason
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert "listens there" in refuse(data_dir, "--metrics-listen", address)


def test_a_directory_that_is_not_ours(refuse: Refuse, tmp_path: Path) -> None:
    """One with other files in it is refused, and left as it was."""
    (tmp_path / "photo.jpg").write_bytes(b"x")
    before = tree(tmp_path)
    assert "is not an mq data directory" in refuse(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "expected"), [('{"format": 2}', "format 2"), ("[]", "damaged"), ("", "damaged")]
)
def test_another_format(refuse: Refuse, tmp_path: Path, content: str, expected: str) -> None:
    """A newer one, or none at all, is refused, and no file touched."""
    (tmp_path / "channels").mkdir()
    (tmp_path / "format.json").write_text(content)
    assert expected in refuse(tmp_path)
    assert (tmp_path / "format.json").read_text() == content
    assert {path.name for path in tmp_path.iterdir()} <= {"channels", "format.json", "mq.lock"}


def test_a_segment_of_a_newer_format(
    server: StartServer, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Its channel is not opened and its file not touched; the others serve."""
    process = server()
    rpc = connect(process)
    for name in ("old", "new"):
        rpc.create(name)
        rpc.publish(name, b"x")
    channel_id = rpc.describe("new").id
    process.stop()
    (segment,) = (process.data_dir / "channels" / channel_id).glob("*.seg")
    make_newer(segment)
    before = segment.read_bytes()
    process.start()
    rpc = connect(process)
    assert rpc.pull("old").records() == [(0, b"x")]
    described = rpc.describe("new")
    assert "format 2" in described.state_reason
    assert segment.read_bytes() == before


def make_newer(segment: Path) -> None:
    """Give a segment the next format version, with a header that checks."""
    from mq.log.envelope import encode_segment_header, parse_segment_header

    data = segment.read_bytes()
    header = parse_segment_header(data[:128])
    assert header is not None
    newer = encode_segment_header(header._replace(format_version=2))
    segment.write_bytes(newer + data[len(newer) :])


def test_a_file_as_data_directory(refuse: Refuse, tmp_path: Path) -> None:
    """A file is no directory, and stays what it is."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    assert "not a directory" in refuse(file).lower()
    assert file.read_bytes() == b"x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(refuse: Refuse, tmp_path: Path) -> None:
    """One without write permission, or inside of one, is refused and says what to do."""
    tmp_path.chmod(0o500)
    try:
        assert "writable" in refuse(tmp_path)
        assert "writable" in refuse(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)


def test_a_damaged_channel_leaves_the_others_working(
    server: StartServer, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Metadata that can't be read takes its channel out, loses nothing, and is told."""
    process = server()
    rpc = connect(process)
    for name in ("sound", "damaged"):
        rpc.create(name)
        rpc.publish(name, b"x")
    directory = process.data_dir / "channels" / rpc.describe("damaged").id
    process.stop()
    meta = directory / "channel.json"
    saved = meta.read_bytes()
    for broken in (b"", b'{"name": 1}'):
        meta.write_bytes(broken)
        before = tree(directory)
        process.start()
        rpc = connect(process)
        assert [channel.name for channel in rpc.list_channels().channels] == ["sound"]
        assert rpc.publish("sound", b"y").offset > 0
        assert "channel_left_alone" in [entry["event"] for entry in process.log]
        process.stop()
        assert tree(directory) == before
    meta.write_bytes(saved)
    process.start()
    assert connect(process).pull("damaged").records() == [(0, b"x")]


@pytest.mark.parametrize(
    ("args", "env", "named"),
    [
        (("--segment-bytes", "1"), {}, "segment_bytes"),
        ((), {"MQ_MAX_WAITING_PULLS": "many"}, "MQ_MAX_WAITING_PULLS"),
        ((), {"STORAGE_BATCH_SIZE": "0"}, "STORAGE_BATCH_SIZE"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_used(
    refuse: Refuse, tmp_path: Path, args: tuple[str, ...], env: dict[str, str], named: str
) -> None:
    """The start ends with a message that names it, and nothing has come to be."""
    where = tmp_path / "data"
    assert named in refuse(where, *args, env=env)
    assert not where.exists()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours(refuse: Refuse, host: str) -> None:
    """Neither a name that is unknown nor another machine's address can be listened on."""
    assert host in refuse(None, "--listen", f"{host}:50051")
