"""docs/security.md names tests that there are."""

from __future__ import annotations

import re

from tests.helpers.server import ROOT

_TEST = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def test_every_test_that_it_names_is_there() -> None:
    """A claim is held by a test, not by a name that it once had."""
    named = set(_TEST.findall((ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 30
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not re.search(rf"def {name}\(", (ROOT / "tests" / path).read_text())
    ]
    assert not missing
