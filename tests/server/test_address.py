"""Listen addresses: what is one, and what happens when it can't be had."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mq.errors import ConfigError, FailedPrecondition
from mq.server.fronts.address import Address, claim, parse
from mq.server.fronts.choose import Chosen
from tests.server.toys import serving


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("unix:/run/mq.sock", Address(path="/run/mq.sock")),
        ("unix:///run/mq.sock", Address(path="/run/mq.sock")),
    ],
)
def test_parses_addresses(listen: str, address: Address) -> None:
    """Host and port, bracketed IPv6, and paths in both spellings."""
    assert parse(listen) == address


def test_a_relative_path_is_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is made absolute at once, so that a later chdir does not matter."""
    monkeypatch.chdir(tmp_path)
    assert parse("unix:mq.sock").path == str(tmp_path / "mq.sock")


@pytest.mark.parametrize(
    ("listen", "advice"),
    [
        ("", "HOST:PORT"),
        ("localhost", "HOST:PORT"),
        ("localhost:http", "HOST:PORT"),
        ("localhost:-1", "HOST:PORT"),
        ("localhost:\u0665", "HOST:PORT"),
        ("::1:50051", "HOST:PORT"),
        ("localhost:65536", "at most 65535"),
        (":50051", "0.0.0.0:50051"),
        ("[]:50051", "0.0.0.0:50051"),
        ("unix:", "unix:/path"),
        ("unix:///", "unix:/path"),
        ("unix:/a\0b", "unix:/path"),
        ("unix:/" + "x" * 200, "shorter"),
    ],
)
def test_refuses_what_is_no_address(listen: str, advice: str) -> None:
    """The error quotes the address and says what to write."""
    with pytest.raises(ConfigError) as caught:
        parse(listen)
    assert repr(listen) in caught.value.message
    assert advice in caught.value.message


def test_something_to_listen_on_is_needed() -> None:
    """No address at all is an error too."""
    with pytest.raises(ConfigError, match="at least one"):
        claim([])


def test_an_unknown_host_is_a_config_error() -> None:
    """A name that can't be resolved is named."""
    with pytest.raises(ConfigError, match=r"no-such-host\.invalid:50051"):
        claim(["no-such-host.invalid:50051"])


def test_an_address_of_another_machine_is_refused() -> None:
    """192.0.2.1 is nobody's: it can't be listened on."""
    with pytest.raises(FailedPrecondition, match="this machine has no such address"):
        claim(["192.0.2.1:50051"])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_a_port_in_use_is_refused(front: Chosen, host: str) -> None:
    """Whatever name it is asked for by; half of localhost is not enough."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=rf"{host}:{port}.*another port"):
            async with serving(front, listen=[f"{host}:{port}"]):
                pass


async def test_two_fronts_do_not_share_a_port(front: Chosen) -> None:
    """A second server is refused and the first goes on."""
    async with serving(front) as first:
        with pytest.raises(FailedPrecondition, match="another server listens there"):
            async with serving(front, listen=first.front.bound):
                pass
        assert await first.unary("echo")(b"first") == b"first"


async def test_a_start_that_fails_leaves_nothing_behind(front: Chosen, tmp_path: Path) -> None:
    """If one address of several can't be had, the others are let go."""
    free = f"unix:{tmp_path}/mq.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition):
            async with serving(front, listen=[free, f"127.0.0.1:{port}"]):
                pass
    async with serving(front, listen=[free]) as served:
        assert await served.unary("echo")(b"") == b""


async def test_a_live_unix_socket_is_left_alone(front: Chosen, tmp_path: Path) -> None:
    """A path on which another server answers is refused."""
    path = tmp_path / "mq.sock"
    async with serving(front, listen=[f"unix:{path}"]) as first:
        with pytest.raises(FailedPrecondition, match="another server listens there"):
            async with serving(front, listen=[f"unix:{path}"]):
                pass
        assert await first.unary("echo")(b"first") == b"first"


async def test_a_dead_unix_socket_is_replaced(front: Chosen, tmp_path: Path) -> None:
    """What a killed server left behind does not stop the next one."""
    path = tmp_path / "mq.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    assert path.is_socket()
    async with serving(front, listen=[f"unix:{path}"]) as served:
        assert await served.unary("echo")(b"") == b""


async def test_a_file_at_a_unix_path_is_left_alone(front: Chosen, tmp_path: Path) -> None:
    """Anything that is not a socket is somebody's data."""
    path = tmp_path / "mq.sock"
    path.write_text("precious")
    with pytest.raises(FailedPrecondition, match="a file that is no socket"):
        async with serving(front, listen=[f"unix:{path}"]):
            pass
    assert path.read_text() == "precious"


def test_a_symbolic_link_at_a_unix_path_is_left_alone(tmp_path: Path) -> None:
    """Not even one that leads to a dead socket is followed."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FailedPrecondition, match="a file that is no socket"):
        claim([f"unix:{tmp_path}/link"])
    assert os.readlink(tmp_path / "link")  # noqa: PTH115


def test_the_directory_of_a_unix_path_has_to_exist(tmp_path: Path) -> None:
    """The error names the directory."""
    with pytest.raises(FailedPrecondition, match=f"no directory {tmp_path}/none"):
        claim([f"unix:{tmp_path}/none/mq.sock"])
