"""One log of a data directory: its files brought into a backup, checked, and settled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mq.errors import ChannelFailed, DataDirError
from mq.log.backup.tail import copy_tail
from mq.log.backup.transfer import make_directory
from mq.log.backup.tree import Tree
from mq.log.checkpoint import Checkpoint
from mq.log.ends import read_ends
from mq.log.filewalk import FileReader
from mq.log.format import (
    CHECKPOINT_NAME,
    HEADER_BYTES,
    index_name,
    parse_segment_name,
    segment_name,
)
from mq.log.jobs import Task, run_tasks
from mq.log.layout import CHANNEL_NAME, log_id
from mq.log.log_check import load_checkpoint
from mq.log.report import Finding, Severity
from mq.log.segment_check import Checked, Surroundings
from mq.log.settle import settle
from mq.log.walk import Bound

# How often a log is looked at anew whose files are removed while they are copied.
_ATTEMPTS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments of a log that belong together, at one time."""

    bases: list[int]
    checkpoint: Checkpoint | None
    log_start_offset: int


class LogBackup:
    """Backs up one log.

    Args:
        tree: Where to.
        kind: Whose log it is, ``channel`` or ``groups``.
        source: The log's directory; a broker may be using it.
        name: Its path below the data directory.
        advance: Told how many more bytes are checked.
        jobs: How many processes may check segments side by side.

    Attributes:
        findings: What is damaged in the source, and so in the backup.
        end_offset: Where the log ends in the backup.
        id: The channel's, in hexadecimal.
    """

    def __init__(
        self,
        tree: Tree,
        kind: str,
        source: Path,
        name: str,
        advance: Callable[[int], None] = lambda _: None,
        jobs: int = 1,
    ) -> None:
        self.findings: list[Finding] = []
        self.end_offset = 0
        self.id = source.name
        self._tree = tree
        self._files = tree.files
        self._kind = kind
        self._source = source
        self._name = name
        self._target = tree.root / name
        self._advance = advance
        self._jobs = jobs
        self._tail_copied = False

    def gather(self, *, whole: bool) -> bool:
        """Bring the files into the backup.

        Args:
            whole: With the end that is being written to; otherwise only what
                does not change any more.

        Returns:
            False: there is no such log any more.

        Raises:
            DataDirError: It changes faster than it can be copied, or has another format.
            OSError: It can't be read, or the backup not written.
        """
        make_directory(self._files, self._target)
        for _ in range(_ATTEMPTS_MAX):
            try:
                listing = self._list()
                self._take_segments(listing, whole=whole)
                if whole:
                    self._take_rest(listing)
                    self._settle(listing, self._check(listing))
            except FileNotFoundError:
                # Retention removed what was listed: what is there now is looked at.
                if not self._source.exists():
                    return False
            else:
                return True
        raise DataDirError(
            f"{self._source} changes faster than it can be copied; raise its retention, or back "
            "up more often so that less is new"
        )

    def _list(self) -> Listing:
        """Which segments there are.

        A listing is not of one instant, but what was there before it began is in
        it. So the second one has, of what the first one knew, all that retention
        has left; and the checkpoint between them is never ahead of it.
        """
        files, source = self._files, self._source
        newest = max(self._bases(), default=-1)
        known = load_checkpoint(files, source)
        if known is not None:
            newest = max(newest, known.segment_base)
        bases = [base for base in self._bases() if base <= newest]
        again = load_checkpoint(files, source)
        start = max((c.log_start_offset for c in (known, again) if c is not None), default=0)
        if start > max(bases, default=-1) and max(self._bases(), default=-1) > newest:
            raise FileNotFoundError(f"{source}: all that was listed is removed")
        while len(bases) > 1 and bases[1] <= start:
            bases.pop(0)
        return Listing(bases, known, start)

    def _bases(self) -> list[int]:
        names = map(parse_segment_name, self._files.list(self._source))
        return sorted(base for base in names if base is not None)

    def _take_segments(self, listing: Listing, *, whole: bool) -> None:
        tree, self._tail_copied = self._tree, False
        for base in listing.bases:
            path, name = self._source / segment_name(base), self._path(segment_name(base))
            if base != listing.bases[-1] or self._is_sealed(path):
                tree.take(path, name)
                tree.copy_small(path.with_name(index_name(base)), self._path(index_name(base)))
            elif whole:
                tree.entries.pop(name, None)
                self._tail_copied = True
                tree.counts.copied_bytes += copy_tail(
                    self._files, path, tree.root / name, listing.checkpoint
                )

    def _is_sealed(self, path: Path) -> bool:
        handle = self._files.open(path)
        reader = FileReader(self._files, handle)
        header, footer, _ = read_ends(reader, self._files.size(handle))
        return header is not None and footer is not None and footer.segment_id == header.segment_id

    def _path(self, file: str) -> str:
        return f"{self._name}/{file}"

    def _take_rest(self, listing: Listing) -> None:
        """What belongs to the log besides, and nothing of what an earlier look has left."""
        known = {name(base) for base in listing.bases for name in (segment_name, index_name)}
        for file in self._files.list(self._target):
            if file not in known:
                self._files.unlink(self._target / file)
                self._tree.entries.pop(self._path(file), None)
        if self._kind == "channel":
            self._tree.copy_small(self._source / CHANNEL_NAME, self._path(CHANNEL_NAME))

    # ---- Checking -------------------------------------------------------------

    def _check(self, listing: Listing) -> Checked | None:
        """Check what is new; the last segment's check, None where there is none."""
        self.findings = []
        tasks = [
            self._task(base, next_base, listing)
            for base, next_base in itertools.zip_longest(listing.bases, listing.bases[1:])
            if next_base is None or self._path(segment_name(base)) not in self._tree.entries
        ]
        for task in tasks:
            self._tree.sync(self._path(task.path.name))
        last = None
        for task, checked in zip(
            tasks, run_tasks(tasks, self._jobs, self._advance, self._files), strict=True
        ):
            assert checked is not None, "nobody removes what is in a backup"
            if any(f.severity is Severity.DAMAGE for f in checked.report.findings):
                last = self._check_again(task, checked)
            else:
                last = checked
            self._note(last)
        return last

    def _task(self, base: int, next_base: int | None, listing: Listing) -> Task:
        path, checkpoint = self._target / segment_name(base), listing.checkpoint
        if checkpoint is not None and next_base is not None and checkpoint.segment_base != base:
            checkpoint = None
        around = Surroundings(
            channel_id=log_id(self._kind, self._source),
            next_base=next_base,
            checkpoint=replace(checkpoint, producers=[]) if checkpoint is not None else None,
        )
        return Task(path, self._files.size(self._files.open(path)), around)

    def _check_again(self, task: Task, checked: Checked) -> Checked:
        """Damage: of the source, or only of the copy, which is made once more then."""
        path = self._source / task.path.name
        original = replace(task, path=path, around=replace(task.around, live=True))
        in_source = original.run(self._files, lambda _: None)
        if in_source is None:
            raise FileNotFoundError(path)
        if _damage(in_source) == _damage(checked):
            return checked
        if in_source.report.live:
            copy_tail(self._files, path, task.path, task.around.checkpoint)
        else:
            self._tree.copy_again(path, self._path(path.name))
        self._tree.sync(self._path(path.name))
        again = task.run(self._files, lambda _: None)
        assert again is not None, "nobody removes what is in a backup"
        if _damage(again) != _damage(in_source):
            raise DataDirError(
                f"{task.path} was copied twice and is not what {path} is: the device of the "
                "backup can't be relied on; use another"
            )
        return again

    def _note(self, checked: Checked) -> None:
        """Keep what is wrong; an index that is not of this version of its segment goes."""
        findings = [f for f in checked.report.findings if f.severity is not Severity.NOTICE]
        for finding in findings:
            if finding.kind == "index":
                name = index_name(checked.report.base_offset)
                self._files.unlink(self._target / name)
            else:
                self.findings.append(
                    replace(finding, file=self._path(finding.file or checked.report.name))
                )

    # ---- Hints ----------------------------------------------------------------

    def _settle(self, listing: Listing, last: Checked | None) -> None:
        """Write the checkpoint and the last index anew, for what is in the backup."""
        known, bases, start = listing.checkpoint, listing.bases, listing.log_start_offset
        if last is not None:
            self.end_offset = last.report.end_offset
            self._cut_torn(last)
        if known is None:
            if last is None:
                return
            start = bases[0]
        elif bases and bases[0] > start:
            self._miss("segments-missing", f"offsets {start} to {bases[0] - 1} are missing")
        end = last.end if last is not None else Bound(start, HEADER_BYTES)
        try:
            if last is None or last.gone is None:
                channel_id = log_id(self._kind, self._source)
                settle(self._files, self._target, channel_id, known, start, end)
                return
        except ChannelFailed as error:
            self._miss("chain", error.message)
        if known is not None:
            # What is missing is to be missed after a restore too.
            self._files.replace(self._target / CHECKPOINT_NAME, known.encode())

    def _cut_torn(self, last: Checked) -> None:
        """Nobody was told of it, and it is still in the source."""
        # Only of what was copied: a linked file is the source's own.
        if last.torn is not None and last.gone is None and self._tail_copied:
            handle = self._files.open(self._target / last.report.name, write=True)
            self._files.write_zeros(handle, *last.torn)
            self._files.sync(handle)

    def _miss(self, kind: str, message: str) -> None:
        self.findings.append(Finding(Severity.DAMAGE, kind, message, self._name))


def _damage(checked: Checked) -> list[tuple[int | None, int | None]]:
    damage = (f for f in checked.report.findings if f.severity is Severity.DAMAGE)
    return [(f.first_offset, f.next_offset) for f in damage]
