"""The oracle has to see what it is there for; and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.server import ServerError
from tests.torture.fault import PROBLEMS_MAX, Fault, Outcome
from tests.torture.faults import FAULTS
from tests.torture.ledger import Ledger
from tests.torture.place import Place
from tests.torture.runner import Plan, Runner
from tests.torture.table import Row, table

A, B, C, D = b"a", b"b", b"c", b"d"


@pytest.fixture
def ledger() -> Ledger:
    """Three messages were published: two are stored, one was refused; and one is unknown."""
    made = Ledger()
    made.send("channel", [A, B, C, D])
    made.acknowledge("channel", 0, [A, B])
    made.refuse("channel", [C])
    made.see("channel", 0, A)
    return made


@pytest.mark.parametrize("stored", ([A, B], [A, B, D]))
def test_what_is_as_it_should_be(ledger: Ledger, stored: list[bytes]) -> None:
    """All that was acknowledged is there; what nobody was told of may be there or not."""
    outcome = ledger.judge("channel", list(enumerate(stored)))
    assert outcome.clean
    assert (outcome.acknowledged, outcome.refused) == (2, 1)
    assert ledger.problems == []


@pytest.mark.parametrize(
    ("stored", "lost", "doubled", "invented"),
    (
        ([(0, A)], 1, 0, 0),
        ([], 2, 0, 0),
        ([(0, B), (1, A)], 2, 0, 0),
        ([(0, A), (1, B), (2, B)], 0, 1, 0),
        ([(0, A), (1, B), (2, b"x")], 0, 0, 1),
        ([(0, A), (1, B), (2, C)], 0, 0, 1),
    ),
    ids=("lost", "all lost", "swapped", "doubled", "invented", "refused"),
)
def test_what_is_not(
    ledger: Ledger, stored: list[tuple[int, bytes]], lost: int, doubled: int, invented: int
) -> None:
    """Each kind of failure is counted, and told in words."""
    outcome = ledger.judge("channel", stored)
    assert (outcome.lost, outcome.doubled, outcome.invented) == (lost, doubled, invented)
    assert outcome.problems


def test_a_gap(ledger: Ledger) -> None:
    """Offsets have to be dense."""
    outcome = ledger.judge("channel", [(0, A), (1, B), (3, D)])
    assert outcome.problems == ["channel: after offset 1 comes 3"]


def test_what_was_removed_on_purpose(ledger: Ledger) -> None:
    """Before the log's start nothing is missed."""
    assert ledger.judge("channel", [(1, B)], 1).clean


def test_what_was_seen_stays(ledger: Ledger) -> None:
    """A consumer's record may not be undone, though no publisher was told of it."""
    ledger.see("channel", 2, D)
    outcome = ledger.judge("channel", [(0, A), (1, B)])
    assert outcome.lost == 1


def test_an_offset_given_out_twice(ledger: Ledger) -> None:
    """The first message at it is lost."""
    ledger.acknowledge("channel", 1, [D])
    outcome = ledger.judge("channel", [(0, A), (1, D)])
    assert outcome.lost == 1
    assert ledger.problems == ["channel: offset 1 was given out twice"]


def test_a_record_read_twice_is_the_same(ledger: Ledger) -> None:
    """A read that differs from the one before is a problem."""
    ledger.see("channel", 0, B)
    assert ledger.problems == ["channel: offset 0 was read twice and differed"]


def test_problems_are_few_enough_to_be_read(ledger: Ledger) -> None:
    """What goes wrong everywhere is told some times."""
    outcome = ledger.judge("channel", [(2 * n, A) for n in range(100)])
    assert len(outcome.problems) == PROBLEMS_MAX


def test_faults_are_told_apart() -> None:
    """Names and numbers are unique."""
    assert len({fault.name for fault in FAULTS}) == len({f.number for f in FAULTS}) == len(FAULTS)


def lose(rng: object, place: Place) -> Outcome:
    """A round in which a message is lost."""
    (place.path / "file").write_text("something")
    return Outcome(rounds=1, acknowledged=10, lost=1)


def crash(rng: object, place: Place) -> Outcome:
    """A round that does not come to its end."""
    raise ServerError("no answer")


def fine(rng: object, place: Place) -> Outcome:
    """A round in which all is well."""
    return Outcome(rounds=2, acknowledged=10)


def test_a_run_ends_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each fault; a round that crashed is a problem, one that can't be is skipped."""
    faults = (
        Fault("good", 1, "all is well", fine),
        Fault("bad", 2, "a loss", lose),
        Fault("crashed", 3, "no end", crash),
        Fault("impossible", 4, "not here", fine, lambda: "needs a miracle"),
    )
    where = tmp_path / "rounds"
    where.mkdir()
    rows = Runner(Plan(faults, 7, rounds=2, directory=where, keep=tmp_path / "kept")).run()
    shown = table(rows, 7)
    assert list(where.iterdir()) == []
    assert [row.outcome.clean for row in rows] == [True, False, False, True]
    cells = [[cell.strip() for cell in line.split("|")] for line in shown.splitlines()]
    assert ["", "1", "good: all is well", "4", "20", "0", "0", "0", "0", ""] in cells
    assert ["", "", "in all", "8", "40", "2", "0", "0", "0", ""] in cells
    assert "impossible was skipped: needs a miracle" in shown
    assert "seed 7" in shown
    assert "--only bad --seed 7 --begin 1 --rounds 1" in capsys.readouterr().err
    assert rows[2].to_json()["problems"]


def test_the_faults_share_the_time() -> None:
    """Without a limit in minutes each has one round."""
    rows = Runner(Plan((Fault("good", 1, "all is well", fine),), 0)).run()
    assert [row.outcome.rounds for row in rows] == [2]
    assert isinstance(rows[0], Row)
