"""``mq verify`` and ``tools/verify.py``: what an operator sees, and what a script gets."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mq.log.envelope import encode_segment_header, parse_segment_header
from mq.log.files import OS_FILES
from mq.log.format import HEADER_BYTES
from mq.log.layout import QUARANTINE_NAME, journal_id
from mq.log.repair.steps import Seal, Shop
from tests.cli.conftest import Ran, Run
from tests.helpers.server import ROOT, clean_environment
from tests.log.batches import CHANNEL
from tests.log.breaking import flip, overwrite
from tests.log.repairing import make, new_data_dir, tree


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory of one channel with 180 records."""
    path = new_data_dir(tmp_path / "data")
    make(path)
    return path


@pytest.fixture
def damaged(data_dir: Path) -> Path:
    """The same with its first three records damaged."""
    flip(segment_of(data_dir), (HEADER_BYTES + 100) * 8)
    return data_dir


@pytest.fixture
def tool() -> Run:
    """A function that runs ``tools/verify.py``, which is given no ``verify`` as a word."""

    def run(*args: str, stdin: bytes = b"") -> Ran:
        assert args[0] == "verify"
        command = [sys.executable, str(ROOT / "tools/verify.py"), *args[1:]]
        done = subprocess.run(
            command, env=clean_environment(), input=stdin, capture_output=True, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture(params=("mq", "tool"))
def verify(request: pytest.FixtureRequest) -> Run:
    """Either of them."""
    found: Run = request.getfixturevalue(request.param)
    return found


def segment_of(data_dir: Path) -> Path:
    """The first segment."""
    return data_dir / "channels" / CHANNEL.hex() / "00000000000000000000.seg"


def test_what_is_sound(verify: Run, data_dir: Path) -> None:
    """Code 0, with or without --repair, and nothing is said if that is wished."""
    before = tree(data_dir)
    ran = verify("verify", str(data_dir))
    assert (ran.code, ran.err) == (0, "")
    assert ran.text.splitlines()[-1].startswith("sound: 180 records in 4 segments of 1 logs")
    assert verify("verify", str(data_dir), "-q") == (0, b"", "")
    assert json.loads(verify("verify", str(data_dir), "--json", "--jobs", "3").out)["ok"] is True
    for more in ((), ("--dry-run",), ("--yes",)):
        ran = verify("verify", str(data_dir), "--repair", *more)
        assert (ran.code, ran.err) == (0, "")
        assert "nothing to repair" in ran.text.splitlines()
        assert verify("verify", str(data_dir), "--repair", "--quiet", *more) == (0, b"", "")
    assert tree(data_dir) == before
    assert not (data_dir / QUARANTINE_NAME).exists()


def test_damage_is_told_and_nothing_is_written(verify: Run, damaged: Path) -> None:
    """Code 1 without --yes, quiet or not; a plan says what would be done, and how."""
    before = tree(damaged)
    ran = verify("verify", str(damaged), "--quiet")
    assert ran.code == 1
    assert "offsets 0 to 2 are damaged" in ran.text
    assert ran.text.splitlines()[-1].startswith("NOT SOUND: 177 records")
    for more in ((), ("--dry-run",)):
        ran = verify("verify", str(damaged), "--repair", *more)
        lines = ran.text.splitlines()
        assert ran.code == 1
        assert sum(line.startswith("to do: ") for line in lines) == 3
        assert "--repair --yes takes these 3 steps" in lines[-2]
        assert str(damaged / QUARANTINE_NAME) in lines[-1]
        planned = json.loads(verify("verify", str(damaged), "--repair", "--json", *more).out)
        assert (planned["dry_run"], planned["ok"], planned["lost_records"]) == (True, False, 3)
        assert planned["verified"]["ok"] is False
    assert tree(damaged) == before
    assert not (damaged / QUARANTINE_NAME).exists()


def test_a_repair(verify: Run, damaged: Path) -> None:
    """Code 0, with what was done and where the old bytes are; once more, nothing to do."""
    ran = verify("verify", str(damaged), "--repair", "--yes")
    lines = ran.text.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert sum(line.startswith("done: ") for line in lines) == 3
    assert f"what was replaced is in {damaged / QUARANTINE_NAME / '0001'}" in lines
    assert lines[-1].startswith("sound: 177 records")
    again = json.loads(verify("verify", str(damaged), "--repair", "-y", "--json").out)
    assert (again["ok"], again["actions"], again["left"]) == (True, [], [])
    assert verify("verify", str(damaged)).code == 0


def test_what_is_not_repaired(verify: Run, data_dir: Path) -> None:
    """Code 1 before and after, and the reason."""
    groups = data_dir / "groups"
    groups.mkdir()
    journal = groups / CHANNEL.hex()
    segment_of(data_dir).parent.rename(journal)
    segment_of(data_dir).parent.mkdir()
    (journal / "channel.json").rename(segment_of(data_dir).parent / "channel.json")
    for path in journal.glob("*.seg"):
        header = parse_segment_header(path.read_bytes()[:HEADER_BYTES])
        assert header is not None
        mine = header._replace(channel_id=journal_id(CHANNEL))
        overwrite(path, 0, encode_segment_header(mine))
    for more in ((), ("--yes",)):
        ran = verify("verify", str(data_dir), "--repair", *more)
        assert ran.code == 1
        assert "can't be repaired: groups/" in ran.text
        assert "there is nothing that could be repaired" in ran.text


def _in_use(data_dir: Path) -> object:
    return OS_FILES.lock(data_dir / "mq.lock")


def _newer(data_dir: Path) -> object:
    return (data_dir / "format.json").write_text('{"format": 2}')


def _gone(data_dir: Path) -> object:
    return data_dir.rename(data_dir.with_name("elsewhere"))


def _not_ours(data_dir: Path) -> object:
    data_dir.rename(data_dir.with_name("old"))
    data_dir.mkdir()
    return None


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (_in_use, "in use by"),
        (_newer, "has format 2"),
        (_gone, "No such file"),
        (_not_ours, "is not an mq data directory"),
    ),
)
@pytest.mark.parametrize("more", ((), ("--yes",)))
def test_a_repair_that_cannot_run_is_code_2(
    verify: Run,
    damaged: Path,
    change: Callable[[Path], object],
    message: str,
    more: tuple[str, ...],
) -> None:
    """It must look neither like damage nor like soundness, and nothing is touched."""
    before = tree(damaged)
    kept = change(damaged)
    ran = verify("verify", str(damaged), "--repair", *more)
    assert (ran.code, ran.out) == (2, b"")
    assert message in ran.err
    if change is not _in_use:
        assert verify("verify", str(damaged)).code == 2
    if change is _in_use:
        assert tree(damaged) == before
        assert json.loads(verify("verify", str(damaged), "--json").out)["live"] is True
    del kept


@pytest.mark.parametrize(
    "args", (["--yes"], ["--dry-run"], ["--repair", "--yes", "--dry-run"], ["--jobs", "0"])
)
def test_options_that_make_no_sense(verify: Run, damaged: Path, args: list[str]) -> None:
    """Are refused before anything is read or written."""
    before = tree(damaged)
    ran = verify("verify", str(damaged), *args)
    assert (ran.code, ran.out) == (2, b"")
    assert "sage" in ran.err
    assert tree(damaged) == before


@pytest.mark.parametrize(
    ("error", "code"),
    ((KeyboardInterrupt(), 130), (OSError(errno.EIO, "Input/output error"), 2)),
)
def test_a_repair_that_is_cut_short(
    mq: Run, damaged: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    """Tells what it did and that it can be run again, which does the rest."""

    def fail(step: Seal, shop: Shop) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Seal, "run", fail)
        ran = mq("verify", str(damaged), "--repair", "--yes")
    assert (ran.code, ran.out) == (code, b"")
    done, told = ran.err.splitlines()[:2]
    assert done.startswith("done: ")
    assert done.endswith("mark them as lost")
    assert told.endswith("the same command does the rest")
    report = json.loads((damaged / QUARANTINE_NAME / "0001" / "report.json").read_bytes())
    assert [each["kind"] for each in report["actions"]] == ["mark-lost"]
    ran = mq("verify", str(damaged), "--repair", "--yes")
    assert ran.code == 0
    assert ran.text.splitlines()[-1].startswith("sound: 177 records")


def test_a_verification_that_is_interrupted_says_nothing(
    mq: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to be said: it has changed nothing."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mq.log.verify.run_tasks", interrupt)
    for args in ((), ("--repair",)):
        ran = mq("verify", str(data_dir), *args)
        assert (ran.code, ran.out, ran.err.strip()) == (130, b"", "")
