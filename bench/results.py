"""Result files: one JSON object a run, under ``bench/results/``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def new_run(what: str, profile: str, environment: dict[str, object]) -> dict[str, Any]:
    """An empty result."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "profile": profile,
        "environment": environment,
    }


def run_directory(run: dict[str, Any]) -> Path:
    """A directory for the files of a run, made."""
    stamp = run["began"].replace(":", "").replace("-", "").partition("+")[0]
    path = RESULTS / f"{stamp}-{run['what']}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(run: dict[str, Any], directory: Path) -> Path:
    """Writes ``result.json``; whole, so that a run that is cut short leaves the last one."""
    path = directory / "result.json"
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(run, indent=1) + "\n")
    partial.replace(path)
    return path


def load(path: Path) -> dict[str, Any]:
    """Reads a result file.

    Raises:
        ValueError: It isn't one.
    """
    run = json.loads(path.read_text())
    if not isinstance(run, dict) or "profile" not in run:
        raise ValueError(f"{path} is not a result of python -m bench")
    return run


def latest() -> Path | None:
    """The last run's result file."""
    found = sorted(RESULTS.glob("*/result.json"))
    return found[-1] if found else None
