"""Repairing a data directory: plan, take the steps, verify."""

from __future__ import annotations

from pathlib import Path

from mq.errors import DataDirError
from mq.log.files import OS_FILES, Files
from mq.log.journal_check import Complain, complain_of_head
from mq.log.layout import LOCK_NAME
from mq.log.repair.log_plan import LogPlan
from mq.log.repair.meta_plan import ChannelFiles, plan_format
from mq.log.repair.quarantine import Quarantine
from mq.log.repair.report import RepairReport
from mq.log.repair.steps import Shop, Step
from mq.log.verify import Progress, find_logs, in_use, verify_data_dir

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
) -> RepairReport:
    """Put a data directory in order, or tell what would be done.

    Args:
        path: The directory that a broker was given; no broker is using it.
        dry_run: Change nothing.
        files: The seam.
        complain: As for `verify_data_dir`.
        progress: Told of the verification afterwards.
        jobs: For the verification afterwards.

    Raises:
        DataDirError: It is in use, no data directory, or of another format.
        OSError: The device fails. Run it again: what was done is done.
    """
    report = RepairReport(str(path), dry_run)
    if dry_run:
        if in_use(path):
            raise DataDirError(f"{path} is in use by a broker; stop it before a repair")
        steps, report.left = _plan(files, path)
        report.actions = [step.action for step in steps]
        return report
    # Nothing is written before it is known to be a data directory.
    list(plan_format(files, path))
    lock = files.lock(path / LOCK_NAME)
    quarantine = Quarantine(files, path)
    shop = Shop(files, quarantine)
    for _ in range(_ROUNDS_MAX):
        steps, report.left = _plan(files, path)
        if not steps:
            break
        for step in steps:
            step.run(shop)
            report.actions.append(step.action)
            quarantine.write_report(report.to_json())
    del lock
    report.quarantine = str(quarantine.path) if quarantine.path is not None else None
    report.verified = verify_data_dir(path, progress, jobs=jobs, complain=complain, files=files)
    quarantine.write_report(report.to_json())
    return report


def _plan(files: Files, path: Path) -> tuple[list[Step], list[str]]:
    """All steps in their order, and what can't be repaired."""
    steps = list(plan_format(files, path))
    channels = ChannelFiles(files, path)
    steps += channels.steps
    left = []
    for kind, directory in find_logs(files, path):
        if directory not in channels.foreign:
            plan = LogPlan(files, path, directory, kind)
            steps += plan.steps
            left += plan.left
    return steps, left
