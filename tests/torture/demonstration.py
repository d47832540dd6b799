"""``python -m tests.torture.demonstration``: bits flip in a full channel, and what comes of it.

A channel of a real broker is filled, the broker stopped, and random bits of its
segment files are turned over. Then everyone is asked: `mq verify`, consumers of both
kinds, the repair, and consumers again. Each message follows from its offset, so that
what is kept is compared with what was published, and what is lost with the frames
that were hit.
"""

from __future__ import annotations

import argparse
import bisect
import datetime as dt
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from mq import Client, DataLoss
from mq.log.dump import dump_segment
from tests.helpers.server import ROOT, ServerProcess, clean_environment

CHANNEL: Final = "demonstration"
CONTENT_BYTES: Final = 100
BATCH_RECORDS: Final = 500
_COMMAND_LIMIT_S: Final = 600.0
_PULL_BYTES: Final = 4 << 20
_HEAD_LINES: Final = 6
_TAIL_LINES: Final = 4


class Frame(NamedTuple):
    """A frame as it was before the bits flipped."""

    position: int
    end: int
    offsets: range


class Flip(NamedTuple):
    """A bit that was turned over, and the messages in the frame that it hit."""

    file: str
    position: int
    bit: int
    offsets: range


@dataclass
class Seen:
    """What a consumer saw, reading from the beginning to the end.

    Attributes:
        kept: How many messages came just as they were published.
        wrong: Offsets at which something else came.
        raised: The ranges that `DataLoss` named.
        skipped: How many offsets the client says it left out.
    """

    kept: int = 0
    wrong: list[int] = field(default_factory=list)
    raised: list[tuple[int, int]] = field(default_factory=list)
    skipped: int = 0


class Contents:
    """What each message is: it follows from the seed and the offset alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def batch(self, number: int) -> list[bytes]:
        """The contents at offsets ``number * BATCH_RECORDS`` and on."""
        data = hashlib.shake_128(b"%d/%d" % (self._seed, number)).digest(
            BATCH_RECORDS * CONTENT_BYTES
        )
        return [data[at : at + CONTENT_BYTES] for at in range(0, len(data), CONTENT_BYTES)]

    def at(self, offset: int) -> bytes:
        """The content at an offset."""
        number, index = divmod(offset, BATCH_RECORDS)
        return self.batch(number)[index]

    def wrong(self, offsets: range, contents: Sequence[bytes]) -> Iterator[int]:
        """The offsets at which these contents are not what was published."""
        number, index = divmod(offsets.start, BATCH_RECORDS)
        published = self.batch(number)[index : index + len(offsets)]
        if published != list(contents):
            pairs = zip(published, contents, strict=True)
            yield from (o for o, (a, b) in zip(offsets, pairs, strict=True) if a != b)


class Demonstration:
    """One run.

    Args:
        directory: An empty directory on a disk.
        seed: Of contents and flips.
        size_bytes: How much to publish.
        flips: How many bits to turn over.
    """

    def __init__(self, directory: Path, seed: int, size_bytes: int, flips: int) -> None:
        self._server = ServerProcess(directory / "data")
        self._data_dir = directory / "data"
        self._contents = Contents(seed)
        self._source = random.Random(seed)
        self._flips = flips
        self._batches = max(1, size_bytes // (BATCH_RECORDS * CONTENT_BYTES))
        # One past the last message that was published.
        self._end = 0
        self.lines: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        """All of it; what comes of it is in ``lines`` and ``problems``."""
        with self._server:
            self._fill()
            self._expect(self._server.stop() == 0, "the broker did not stop in order")
        flipped = self._flip(self._frames())
        lost = sorted({offset for each in flipped for offset in each.offsets})
        self._say_flips(flipped, lost)
        self._command(1, "verify", expected_lost=len(lost))
        self._consume(lost, "While it is damaged")
        self._command(1, "verify", "--repair")
        self._command(0, "verify", "--repair", "--yes")
        self._command(0, "verify", expected_lost=len(lost))
        self._consume(lost, "After the repair")
        self._command(0, "verify", "--quiet")
        self._say_result(len(lost))

    # ---- Before ---------------------------------------------------------------

    def _fill(self) -> None:
        began = time.monotonic()
        with Client(self._server.address) as client:
            client.create_channel(CHANNEL)
            for number in range(self._batches):
                receipt = client.publish_many(CHANNEL, self._contents.batch(number))
                self._expect(receipt.base_offset == self._end, "an offset that was not expected")
                self._end += BATCH_RECORDS
        self._say(
            f"{self._end:,} messages of {CONTENT_BYTES} bytes were published in batches of "
            f"{BATCH_RECORDS}, each batch acknowledged as on the device before the next "
            f"({time.monotonic() - began:.0f} s). Then the broker was stopped in order."
        )

    def _segments(self) -> list[Path]:
        return sorted(self._data_dir.glob("channels/*/*.seg"))

    def _frames(self) -> dict[Path, list[Frame]]:
        """Where each frame lies, as long as all are sound."""
        frames: dict[Path, list[Frame]] = {}
        for path in self._segments():
            frames[path] = [
                Frame(
                    part["position"],
                    part["position"] + part["size"],
                    range(part["base_offset"], part["base_offset"] + part["record_count"]),
                )
                for part in dump_segment(path)
                if part["kind"] == "frame"
            ]
        return frames

    def _flip(self, frames: dict[Path, list[Frame]]) -> list[Flip]:
        """Turn over bits, each as likely as any other of the files."""
        paths = self._segments()
        sizes = [path.stat().st_size for path in paths]
        flipped = []
        for at in sorted(self._source.sample(range(8 * sum(sizes)), self._flips)):
            position, number = at // 8, 0
            while position >= sizes[number]:
                position -= sizes[number]
                number += 1
            path, bit = paths[number], at % 8
            with path.open("r+b") as file:
                file.seek(position)
                byte = file.read(1)[0]
                file.seek(position)
                file.write(bytes((byte ^ 1 << bit,)))
            flipped.append(Flip(path.name, position, bit, hit(frames[path], position)))
        return flipped

    # ---- Asking ---------------------------------------------------------------

    def _command(self, code: int, *args: str, expected_lost: int | None = None) -> None:
        """Run ``mq`` on the data directory, and show what it says."""
        began = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "mq", *args, str(self._data_dir)],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_LIMIT_S,
        )
        seconds = time.monotonic() - began
        shown = (ran.stdout + ran.stderr).replace(str(self._data_dir), "DIR").rstrip()
        self._expect(ran.returncode == code, f"mq {args} ended with code {ran.returncode}")
        if expected_lost is not None:
            self._expect(
                f"{expected_lost:,} " in shown.splitlines()[-1] or not expected_lost,
                f"mq {args} does not tell of {expected_lost} lost messages",
            )
        command = " ".join(("mq", args[0], "DIR", *args[1:]))
        self._say(f"`{command}` ends with code {ran.returncode} after {seconds:.1f} s:")
        self.lines += ["```", *_abridged(shown.splitlines() or ["(nothing)"]), "```", ""]

    def _consume(self, lost: list[int], when: str) -> None:
        """Start the broker, publish one more message, and read everything in both ways."""
        with self._server, Client(self._server.address) as client:
            offset = client.publish(CHANNEL, self._contents.at(self._end)).offset
            self._expect(offset == self._end, f"message {self._end} was given offset {offset}")
            self._end += 1
            raising = self._read(client, "raise")
            skipping = self._read(client, "skip")
            client.close()
            self._expect(self._server.stop() == 0, "the broker did not stop in order")
        kept = self._end - len(lost)
        for seen in (raising, skipping):
            self._expect(not seen.wrong, f"{len(seen.wrong)} messages are not as published")
            self._expect(seen.kept == kept, f"{seen.kept:,} messages came, {kept:,} are sound")
        told = sorted({o for first, after in raising.raised for o in range(first, after)})
        self._expect(told == lost, "DATA_LOSS does not name just what was hit")
        self._expect(skipping.skipped == len(lost), f"{skipping.skipped} offsets were skipped")
        self._say(
            f"{when}, the broker starts, takes one more message (at offset {self._end - 1:,}, "
            "where the others ended), and is read from the beginning, after each `DATA_LOSS` "
            "from the offset that it names:"
        )
        ranges = [f"{first:,} to {after - 1:,}" for first, after in raising.raised]
        self.lines.append(
            f'- `on_damage="raise"`: {raising.kept:,} messages, and `DATA_LOSS` '
            f"{len(ranges)} times: {'; '.join(ranges) or 'never'};"
        )
        self._say(
            f'- `on_damage="skip"`: {skipping.kept:,} messages, {skipping.skipped:,} skipped.'
        )

    def _read(self, client: Client, on_damage: str) -> Seen:
        seen, start = Seen(), 0
        while start < self._end:
            subscription = client.subscribe(
                CHANNEL,
                start,
                max_bytes=_PULL_BYTES,
                on_damage="skip" if on_damage == "skip" else "raise",
            )
            try:
                for batch in subscription.batches():
                    offsets = range(batch.base_offset, batch.next_offset)
                    wrong = list(self._contents.wrong(offsets, batch.contents))
                    seen.wrong += wrong
                    seen.kept += len(offsets) - len(wrong)
                    start = batch.next_offset
                    if start >= self._end:
                        break
            except DataLoss as loss:
                seen.raised.append((loss.first_offset, loss.next_offset))
                start = loss.next_offset
            finally:
                seen.skipped += subscription.skipped
                subscription.close()
        return seen

    # ---- Telling --------------------------------------------------------------

    def _say(self, paragraph: str) -> None:
        self.lines += [paragraph, ""]

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    def _say_flips(self, flipped: list[Flip], lost: list[int]) -> None:
        self._say(
            f"{len(flipped)} bits were turned over, each as likely as any other of the "
            f"{len(self._segments())} segment files:"
        )
        self.lines += [
            "| file | byte | bit | messages in the frame that it hit |",
            "|---|---|---|---|",
        ]
        for file, position, bit, offsets in flipped:
            where = f"{offsets.start:,} to {offsets[-1]:,}" if offsets else "in no frame"
            self.lines.append(f"| `{file}` | {position:,} | {bit} | {where} |")
        self.lines.append("")
        self._say(f"So {len(lost):,} messages are in frames that were hit.")

    def _say_result(self, lost: int) -> None:
        percent = 100 * lost / self._end
        self.lines += [
            f"**Lost: {lost:,} of {self._end:,} messages ({percent:.3g} %), just those in the "
            f"frames that were hit. Kept: {self._end - lost:,}, each compared with what was "
            "published at its offset.**"
            if not self.problems
            else "**Not as expected:**",
            *(f"- {problem}" for problem in self.problems),
            "",
        ]


def _abridged(lines: list[str]) -> list[str]:
    """Not all of many lines that are alike."""
    left = len(lines) - _HEAD_LINES - _TAIL_LINES
    if left < 2:
        return lines
    return [*lines[:_HEAD_LINES], f"… {left} more lines …", *lines[-_TAIL_LINES:]]


def hit(frames: list[Frame], position: int) -> range:
    """The offsets of the frame that a byte lies in; none: it lies in no frame."""
    at = bisect.bisect_right(frames, position, key=lambda frame: frame.position) - 1
    if at >= 0 and position < frames[at].end:
        return frames[at].offsets
    return range(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print what came of it in Markdown, and give the exit code: 0 as expected."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.demonstration",
        description="Fill a channel, flip bits in its files, and show what comes of it.",
    )
    parser.add_argument("--gb", type=float, default=1.0, help="how much to publish")
    parser.add_argument("--flips", type=int, default=20, help="how many bits to flip")
    parser.add_argument("--seed", type=int, help="repeat a run; it is printed")
    parser.add_argument("--dir", type=Path, help="where; default: the temporary directory")
    given = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory(prefix="mq-demonstration-", dir=given.dir) as directory:
        made = Demonstration(Path(directory), seed, int(given.gb * 1e9), given.flips)
        made.run()
    again = f"python -m tests.torture.demonstration --gb {given.gb:g} --flips {given.flips}"
    heading = [f"{dt.datetime.now(dt.UTC).date()}, `{again} --seed {seed}`:", ""]
    sys.stdout.write("\n".join([*heading, *made.lines]))
    return 1 if made.problems else 0


if __name__ == "__main__":
    sys.exit(main())
