"""A progress bar on standard error, for work that turns out to be long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Work that is over by then needs no bar.
PATIENCE_S = 1.0


class Bar:
    """Counts bytes done, and shows them once the work has lasted a while."""

    def __init__(self, label: str, *, enabled: bool, clock: Callable[[], float]) -> None:
        self._label = label
        self._enabled = enabled
        self._clock = clock
        self._started = clock()
        self._shown: tuple[Progress, TaskID] | None = None

    @property
    def shown(self) -> bool:
        """Whether it is to be seen."""
        return self._shown is not None

    def update(self, done_bytes: int, total_bytes: int | None) -> None:
        """So far ``done_bytes`` are done, of ``total_bytes`` if that is known."""
        if not self._enabled:
            return
        if self._shown is None:
            if self._clock() - self._started < PATIENCE_S:
                return
            self._shown = self._show()
        progress, task = self._shown
        progress.update(task, completed=done_bytes, total=total_bytes)

    def close(self) -> None:
        """Remove the bar."""
        if self._shown is not None:
            self._shown[0].stop()

    def _show(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.start()
        return progress, progress.add_task(self._label, total=None)


@contextmanager
def progress_bar(
    label: str, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Bar]:
    """A `Bar` that shows on a terminal only, and is gone at the end."""
    bar = Bar(label, enabled=sys.stderr.isatty() and not quiet, clock=clock)
    try:
        yield bar
    finally:
        bar.close()
