"""Every program in docs/client.md runs, and the page names what there is."""

from __future__ import annotations

import re

import pytest

import mq
from tests.client.fake_server import FakeServer
from tests.helpers.server import ROOT

PAGE = (ROOT / "docs" / "client.md").read_text()
ALL_PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# The server of these tests has no groups; tests/cli/test_groups_docs.py runs the others.
PROGRAMS = [program for program in ALL_PROGRAMS if "group(" not in program]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program: str, fake: FakeServer) -> None:
    """As they stand, but for the address."""
    code = program.replace("localhost:50051", fake.target)
    del fake.broker.channels["orders"]
    exec(compile(code, "docs/client.md", "exec"), {})


def test_errors_are_listed() -> None:
    """The table of errors names only what exists, and what a client is likely to meet."""
    rows = re.findall(r"^\| (`\w+`[^|]*) \|", PAGE.split("## Errors")[1], re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"TypeError"}
    assert names <= set(mq.__all__)
    assert {"DataLoss", "OffsetOutOfRange", "Unavailable", "Overloaded"} <= names


@pytest.mark.parametrize("call", ("publish", "publish_many", "producer", "pull", "subscribe"))
def test_calls_are_described(call: str) -> None:
    """Each way to publish and to read is on the page."""
    assert f"{call}(" in PAGE
