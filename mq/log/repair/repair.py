"""Repairing a data directory: plan, take the steps, verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mq.errors import DataDirError
from mq.log.files import OS_FILES, Files
from mq.log.format import parse_segment_name
from mq.log.journal_check import Complain, complain_of_head
from mq.log.layout import LOCK_NAME
from mq.log.log_check import size_of
from mq.log.repair.log_plan import LogPlan
from mq.log.repair.meta_plan import ChannelFiles, plan_format
from mq.log.repair.quarantine import Quarantine
from mq.log.repair.report import Action, RepairReport
from mq.log.repair.steps import Shop, Step
from mq.log.verify import Counter, Progress, find_logs, in_use, verify_data_dir

# A step may bring up what could not be seen before, such as a directory under its
# own name; more rounds than that would be going in circles.
_ROUNDS_MAX = 4


def repair_data_dir(
    path: Path,
    *,
    dry_run: bool = True,
    files: Files = OS_FILES,
    complain: Complain = complain_of_head,
    progress: Progress | None = None,
    jobs: int = 1,
    taken: Callable[[Action], None] = lambda _: None,
) -> RepairReport:
    """Put a data directory in order, or tell what would be done.

    Args:
        path: The directory that a broker was given; no broker is using it.
        dry_run: Change nothing.
        files: The seam.
        complain: As for `verify_data_dir`.
        progress: As for `verify_data_dir`; it begins again with each reading: one to plan, one
            to see that nothing is left to do, one to verify.
        jobs: For the verification.
        taken: Told of each step that was taken, so that it can be told of a repair
            that was cut short, too.

    Raises:
        DataDirError: It is in use, no data directory, or of another format.
        OSError: The device fails. Run it again: what was done is done.
    """
    report = RepairReport(str(path), dry_run)
    if dry_run:
        if in_use(path):
            raise DataDirError(f"{path} is in use by a broker; stop it before a repair")
        steps, report.left = _plan(files, path, progress)
        report.actions = [step.action for step in steps]
        # Without a usable format.json it can't be verified.
        if not list(plan_format(files, path)):
            report.verified = verify_data_dir(
                path, progress, jobs=jobs, complain=complain, files=files
            )
            report.note_left()
        return report
    # Nothing is written before it is known to be a data directory.
    list(plan_format(files, path))
    lock = files.lock(path / LOCK_NAME)
    quarantine = Quarantine(files, path)
    try:
        _take_steps(files, path, report, quarantine, progress, taken)
    finally:
        # Also where a traceback keeps this frame.
        del lock
    report.quarantine = str(quarantine.path) if quarantine.path is not None else None
    report.verified = verify_data_dir(path, progress, jobs=jobs, complain=complain, files=files)
    report.note_left()
    quarantine.write_report(report.to_json())
    return report


def _take_steps(
    files: Files,
    path: Path,
    report: RepairReport,
    quarantine: Quarantine,
    progress: Progress | None,
    taken: Callable[[Action], None],
) -> None:
    """Plan and take steps until there are none."""
    shop = Shop(files, quarantine)
    for _ in range(_ROUNDS_MAX):
        steps, report.left = _plan(files, path, progress)
        if not steps:
            break
        for step in steps:
            step.run(shop)
            report.actions.append(step.action)
            taken(step.action)
            _write_report(quarantine, report)


def _write_report(quarantine: Quarantine, report: RepairReport) -> None:
    """Say what was done so far, for when this run is cut short.

    It names all steps each time, so not after each of very many.
    """
    count = len(report.actions)
    if count & (count - 1) == 0:
        quarantine.write_report(report.to_json())


def _plan(files: Files, path: Path, progress: Progress | None) -> tuple[list[Step], list[str]]:
    """All steps in their order, and what can't be repaired."""
    steps = list(plan_format(files, path))
    channels = ChannelFiles(files, path)
    steps += channels.steps
    logs = [log for log in find_logs(files, path) if log[1] not in channels.foreign]
    counter = Counter(progress, sum(_segment_bytes(files, directory) for _, directory in logs))
    left = []
    for kind, directory in logs:
        plan = LogPlan(files, path, directory, kind, counter.advance)
        steps += plan.steps
        left += plan.left
    return steps, left


def _segment_bytes(files: Files, directory: Path) -> int:
    names = files.list(directory)
    return sum(size_of(files, directory / n) for n in names if parse_segment_name(n) is not None)
