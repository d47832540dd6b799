"""What README.md tells people to do works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mq.config import Settings
from mq.config.sources import OLD_NAMES, flag_name, variable_name
from tests.conftest import StartServer
from tests.helpers.server import ROOT, clean_environment

README = (ROOT / "README.md").read_text()
BASH = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "bench/*.md")
    for path in ROOT.glob(pattern)
)


def run(command: list[str], address: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command against a broker, with a limit."""
    env = clean_environment() | {"MQ_SERVER": address} | more
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=50)


@pytest.fixture
def mq_on_path(tmp_path: Path) -> str:
    """A PATH on which `mq` is the one under test."""
    shim = tmp_path / "bin" / "mq"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mq "$@"\n')
    shim.chmod(0o755)
    return f"{shim.parent}{os.pathsep}{os.environ['PATH']}"


def test_first_blocks_run_and_test() -> None:
    """The first command runs a broker, the second the tests, and make knows both."""
    assert BASH[:2] == ["make run\n", "make test\n"]
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^run: ", makefile, re.MULTILINE)
    assert re.search(r"^test: ", makefile, re.MULTILINE)


def test_first_conversation(server: StartServer, mq_on_path: str) -> None:
    """The five commands work as they stand, and show what was said."""
    conversation = BASH[2]
    assert len(conversation.splitlines()) == 5
    script = ["bash", "-euo", "pipefail", "-c", conversation]
    result = run(script, server().address, PATH=mq_on_path)
    assert result.returncode == 0, result.stderr
    assert "hello, world\nhow are you?\n1\n2\n" in result.stdout
    assert re.search(r"\b1,?002\b", result.stdout), "the channel's description counts the messages"


def test_client_in_ten_lines(server: StartServer) -> None:
    """The lines of Python publish 1,001 messages and read them."""
    (source,) = PYTHON
    assert len(source.splitlines()) == 10
    address = server().address
    ending = "        if message.offset == 1000:\n            break\n"
    program = source.replace("localhost:50051", address) + ending
    result = run([sys.executable, "-c", program], address)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "0 b'a single message'"
    assert lines[1:] == [f"{n + 1} b'order {n}'" for n in range(1000)]


def test_settings_are_as_in_the_table() -> None:
    """Options, variables and defaults in the table are the server's."""
    rows = re.findall(r"^\| `(--[\w-]+)` \| `(\w+)` \| (.*?) ?\| `(.*)` \|$", README, re.MULTILINE)
    settings = Settings.load({}, environ={}, dotenv=Path(os.devnull)).sources()
    known = {flag_name(s.name): (variable_name(s.name), s.text, s.name) for s in settings}
    assert len(rows) >= 5
    for option, variable, others, default in rows:
        assert known[option][:2] == (variable, default)
        for old in re.findall(r"`(\w+)`", others):
            assert old in OLD_NAMES.get(known[option][2], ("SERVER_PORT", "BROKER_HOST"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link in a document is to a file, or to a heading of one, that exists."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (path.parent / parts.path).resolve() if parts.path else path
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in headings(target), link


def headings(path: Path) -> set[str]:
    """The anchors that a renderer makes of a document's headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
