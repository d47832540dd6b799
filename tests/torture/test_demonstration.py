"""The demonstration's own judgement, and a small one from beginning to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.demonstration import (
    BATCH_RECORDS,
    CONTENT_BYTES,
    Contents,
    Demonstration,
    Frame,
    hit,
)


def test_contents_follow_from_seed_and_offset() -> None:
    """Each is its own, and one that is not as published is found."""
    contents, others = Contents(1), Contents(2)
    batch = contents.batch(3)
    first = 3 * BATCH_RECORDS
    assert [contents.at(first + n) for n in (0, 7)] == [batch[0], batch[7]]
    assert len(set(batch + contents.batch(4) + others.batch(3))) == 3 * BATCH_RECORDS
    assert {len(each) for each in batch} == {CONTENT_BYTES}
    assert list(contents.wrong(range(first + 2, first + 5), batch[2:5])) == []
    assert list(contents.wrong(range(first + 2, first + 4), [batch[2], batch[4]])) == [first + 3]


def test_a_flip_hits_the_frame_that_it_lies_in() -> None:
    """Or none: headers, padding and footers belong to no message."""
    frames = [Frame(128, 300, range(4)), Frame(300, 400, range(4, 6))]
    assert hit(frames, 127) == range(0)
    assert hit(frames, 128) == hit(frames, 299) == range(4)
    assert hit(frames, 399) == range(4, 6)
    assert hit(frames, 400) == hit([], 5) == range(0)


@pytest.mark.torture
def test_a_small_demonstration(tmp_path: Path) -> None:
    """A few flips in a few segments: everything comes out as it should."""
    made = Demonstration(tmp_path, seed=3, size_bytes=1_000_000, flips=3)
    made.run()
    assert made.problems == []
    assert made.lines[-2].startswith("**Lost: ")
