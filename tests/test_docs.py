"""The documents name tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_TEST = re.compile(r"`(?:tests/)?([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


@pytest.mark.parametrize("name", ("durability.md", "security.md"))
def test_each_test_that_a_document_names_is_there(name: str) -> None:
    """A promise is held by a test, not by a name that it once had."""
    named = set(_TEST.findall((ROOT / "docs" / name).read_text()))
    assert named, "it names none"
    missing = [
        f"{path}::{test}"
        for path, test in sorted(named)
        if not re.search(rf"def {test}\(", (ROOT / "tests" / path).read_text())
    ]
    assert not missing
