"""The programs about groups in the documents run, and the command lines are valid."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

import mq
from tests.cli.test_docs import examples_in, parse
from tests.helpers.server import ROOT, ServerProcess

GROUPS = (ROOT / "docs" / "groups.md").read_text()
CLIENT = (ROOT / "docs" / "client.md").read_text()


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a page."""
    found: list[str] = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


PROGRAMS = blocks(GROUPS, "python") + [
    program for program in blocks(CLIENT, "python") if "group(" in program
]
LINES = sorted({line for block in blocks(GROUPS, "console") for line in examples_in(block)})


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program: str, live: ServerProcess) -> None:
    """As they stand, but for the address, on a broker without the channel."""
    with mq.Client(live.address) as client, suppress(mq.ChannelNotFound):
        client.delete_channel("orders")
    code = program.replace("localhost:50051", live.address)
    exec(compile(code, "docs", "exec"), {})


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_valid(line: str) -> None:
    """Their options and arguments exist."""
    parse(line)


@pytest.mark.parametrize("section", re.findall(r"^- \[.*\]\(#(.*)\)$", GROUPS, re.MULTILINE))
def test_sections_are_there(section: str) -> None:
    """The page's list of contents leads somewhere."""
    headings = re.findall(r"^## (.*)$", GROUPS, re.MULTILINE)
    assert section in {re.sub(r"[^a-z ]", "", each.lower()).replace(" ", "-") for each in headings}
