"""Ranges of offsets, and a map from offsets to numbers that is made of them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mq.errors import InvalidArgument

# [first, next): the first offset, and the one after the last.
Range = tuple[int, int]
# (first, next, value): offsets with the same value.
Run = tuple[int, int, int]

OFFSET_MAX = (1 << 62) - 1
# A chunk is split at this size: a change moves at most this many numbers.
_CHUNK_MAX = 512
_CHUNK_LOADED = _CHUNK_MAX * 3 // 4
# A chunk that shrinks below this joins its neighbour.
_CHUNK_MIN = 32
# Before every offset, so that each has a predecessor in the first chunk.
_ORIGIN = -1

Column = npt.NDArray[np.int64]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same offsets as ascending ranges that neither overlap nor touch.

    Raises:
        InvalidArgument: A range is empty, turned round, or not of offsets.
    """
    found: list[Range] = []
    ordered = list(ranges)
    if len(ordered) > 1:
        ordered.sort()
    for first, following in ordered:
        if not 0 <= first < following <= OFFSET_MAX:
            raise InvalidArgument(
                f"[{first}, {following}) is no range of offsets; give a first offset and, "
                "above it, the one after the last"
            )
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], following))
        else:
            found.append((first, following))
    return found


def append_range(ranges: list[Range], first: int, following: int) -> None:
    """Append a range, as part of the last one where it follows it."""
    if ranges and ranges[-1][1] == first:
        ranges[-1] = (ranges[-1][0], following)
    else:
        ranges.append((first, following))


class RangeMap:
    """A number for every offset, 0 unless set; equal neighbours are one run.

    It is kept as breakpoints ``(start, value from there on)`` in chunks of
    arrays, 16 bytes each, and is canonical: neighbouring values differ.
    Looking up costs two binary searches; a change moves one chunk's numbers.
    """

    __slots__ = ("_minima", "_starts", "_values")

    def __init__(self) -> None:
        self._starts = [array("q", (_ORIGIN,))]
        self._values = [array("q", (0,))]
        self._minima = [_ORIGIN]

    def __bool__(self) -> bool:
        return len(self._starts[0]) > 1 or len(self._starts) > 1

    def __len__(self) -> int:
        """How many breakpoints there are: at most two a run."""
        return sum(map(len, self._starts)) - 1

    def get(self, offset: int) -> int:
        """The value at an offset."""
        chunk = bisect_right(self._minima, offset) - 1
        return self._values[chunk][bisect_right(self._starts[chunk], offset) - 1]

    def run_at(self, offset: int) -> tuple[int, int | None, int]:
        """The run that an offset is in: first, next (None: without end), value."""
        chunk = bisect_right(self._minima, offset) - 1
        starts = self._starts[chunk]
        i = bisect_right(starts, offset)
        return starts[i - 1], self._start_of(chunk, i), self._values[chunk][i - 1]

    def runs(self, first: int, following: int) -> list[Run]:
        """The runs of ``[first, following)``, clipped to it, zeros included."""
        chunk = bisect_right(self._minima, first) - 1
        starts, values = self._starts[chunk], self._values[chunk]
        i = bisect_right(starts, first)
        value = values[i - 1]
        if i < len(starts) and starts[i] >= following:
            return [(first, following, value)]
        found = []
        while True:
            if i == len(starts):
                chunk += 1
                if chunk == len(self._starts):
                    break
                starts, values, i = self._starts[chunk], self._values[chunk], 0
            start = starts[i]
            if start >= following:
                break
            found.append((first, start, value))
            first, value = start, values[i]
            i += 1
        found.append((first, following, value))
        return found

    def set_runs(self, first: int, following: int) -> list[Run]:
        """The runs of ``[first, following)`` whose value is not 0."""
        return [run for run in self.runs(first, following) if run[2]]

    def next_set(self, offset: int) -> Run | None:
        """The first run that is not 0 at or after an offset, clipped to it."""
        first, following, value = self.run_at(offset)
        if value:
            first = offset
        elif following is None:
            return None
        else:
            first, following, value = self.run_at(following)
        assert following is not None, "the last run is 0"
        return first, following, value

    def next_unset(self, offset: int) -> tuple[int, int | None]:
        """The first offsets that are 0 at or after one: first, next (None: without end)."""
        chunk = bisect_right(self._minima, offset) - 1
        i = bisect_right(self._starts[chunk], offset) - 1
        if not self._values[chunk][i]:
            return offset, self._start_of(chunk, i + 1)
        while True:
            try:
                i = self._values[chunk].index(0, i)
            except ValueError:
                chunk, i = chunk + 1, 0
            else:
                return self._starts[chunk][i], self._start_of(chunk, i + 1)

    def _start_of(self, chunk: int, i: int) -> int | None:
        """The start of a breakpoint that may be in the next chunk, or nowhere."""
        if i < len(self._starts[chunk]):
            return self._starts[chunk][i]
        return self._minima[chunk + 1] if chunk + 1 < len(self._minima) else None

    def set(self, first: int, following: int, value: int) -> None:
        """Give every offset of ``[first, following)`` a value; 0 takes it away."""
        assert 0 <= first < following, "an empty range"
        minima = self._minima
        # The chunk that holds the breakpoint before `first`.
        chunk = bisect_left(minima, first) - 1
        if chunk + 1 < len(minima) and minima[chunk + 1] <= following:
            self._set_across(chunk, first, following, value)
            return
        starts, values = self._starts[chunk], self._values[chunk]
        i = bisect_left(starts, first)
        j = bisect_right(starts, following, i)
        begins = values[i - 1] != value
        after = values[j - 1]
        ends = after != value
        # The breakpoints i to j give way to those at the two ends that still divide.
        if begins:
            if i < j:
                starts[i], values[i] = first, value
            else:
                starts.insert(i, first)
                values.insert(i, value)
                j += 1
            i += 1
        if ends:
            if i < j:
                starts[i], values[i] = following, after
            else:
                starts.insert(i, following)
                values.insert(i, after)
                j += 1
            i += 1
        if i < j:
            del starts[i:j], values[i:j]
        if not _CHUNK_MIN <= len(starts) <= _CHUNK_MAX:
            self._tidy(chunk)

    def _set_across(self, chunk: int, first: int, following: int, value: int) -> None:
        """`set`, where the breakpoints that give way are in several chunks."""
        last = bisect_right(self._minima, following) - 1
        starts, values = self._starts[chunk], self._values[chunk]
        i = bisect_left(starts, first)
        j = bisect_right(self._starts[last], following)
        before, after = values[i - 1], self._values[last][j - 1]
        del starts[i:], values[i:]
        if before != value:
            starts.append(first)
            values.append(value)
        if value != after:
            starts.append(following)
            values.append(after)
        starts.extend(self._starts[last][j:])
        values.extend(self._values[last][j:])
        del self._starts[chunk + 1 : last + 1]
        del self._values[chunk + 1 : last + 1]
        del self._minima[chunk + 1 : last + 1]
        self._tidy(chunk)

    def _tidy(self, chunk: int) -> None:
        """Join a chunk that is too small with its neighbour, split one that is too large."""
        if len(self._starts[chunk]) < _CHUNK_MIN and len(self._starts) > 1:
            chunk = min(chunk, len(self._starts) - 2)
            self._starts[chunk].extend(self._starts.pop(chunk + 1))
            self._values[chunk].extend(self._values.pop(chunk + 1))
            del self._minima[chunk + 1]
        starts, values = self._starts[chunk], self._values[chunk]
        if len(starts) > _CHUNK_MAX:
            # The upper part is small if offsets only grow, so that chunks end up full.
            middle = len(starts) * 3 // 4
            self._starts.insert(chunk + 1, starts[middle:])
            self._values.insert(chunk + 1, values[middle:])
            self._minima.insert(chunk + 1, starts[middle])
            del starts[middle:], values[middle:]

    def clear(self) -> None:
        """Set every offset to 0."""
        self.__init__()  # type: ignore[misc]

    def columns(self) -> tuple[Column, Column]:
        """The breakpoints, ascending: starts and values, one int64 each."""
        starts = np.frombuffer(b"".join(self._starts), np.int64)[1:]
        return starts, np.frombuffer(b"".join(self._values), np.int64)[1:]

    @classmethod
    def from_columns(cls, starts: Column, values: Column) -> RangeMap:
        """The map with these breakpoints; equal neighbours are merged.

        Args:
            starts: Ascending offsets, each once.
            values: As many; the last one is 0.
        """
        found = cls()
        kept = np.diff(values, prepend=0) != 0
        starts, values = starts[kept], values[kept]
        found._starts = []
        found._values = []
        starts = np.concatenate(([_ORIGIN], starts))
        values = np.concatenate(([0], values))
        for i in range(0, len(starts), _CHUNK_LOADED):
            found._starts.append(_array(starts[i : i + _CHUNK_LOADED]))
            found._values.append(_array(values[i : i + _CHUNK_LOADED]))
        found._minima = [chunk[0] for chunk in found._starts]
        return found


def _array(column: Column) -> array[int]:
    numbers = array("q")
    numbers.frombytes(column.astype(np.int64).tobytes())
    return numbers
