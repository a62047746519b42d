"""Arithmetic on many samples at once: with numpy where it is installed, else in plain Python with the same answers.

Bit-wise -0.0 is "no value": a blank total, and a series that was removed. It is the one number that changes no sum (-0.0 + x is x),
and no writer makes it.
"""

from __future__ import annotations

import math
import struct
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_VALUE = -0.0
_BITS, _DOUBLE = struct.Struct("q"), struct.Struct("d")
NO_VALUE_BITS = _BITS.unpack(_DOUBLE.pack(NO_VALUE))[0]


def _float(word: int) -> float:
    number: float = _DOUBLE.unpack(_BITS.pack(word))[0]
    return number


def is_no_value(number: float) -> bool:
    """Whether a number is bit-wise -0.0."""
    return number == 0.0 and math.copysign(1.0, number) < 0.0


class PlainVectors:
    """Lists of Python numbers; also the rules for what a vector of numpy cannot do whole, as one cell that comes twice in a file."""

    @property
    def one_by_one(self) -> PlainVectors:
        """What adds cell after cell, for a file in which one cell comes twice."""
        return self

    def indexes(self, numbers: Sequence[int]) -> Any:
        """A vector of positions."""
        return list(numbers)

    def numbers(self, numbers: Sequence[float]) -> Any:
        """A vector of doubles."""
        return list(numbers)

    def joined(self, first: Any, second: Any) -> Any:
        """Both vectors, one after the other."""
        return first + second

    def places(self, ends: Sequence[int]) -> Any:
        """For records that end at these bytes: which words to read of each, the one before its value, which ends the key, and the value."""
        places: list[int] = []
        for end in ends:
            places += ((end >> 3) - 3, (end >> 3) - 2)
        return places

    def words(self, memory: memoryview[int]) -> Any:
        """Memory as 64-bit words."""
        return memory[: len(memory) - len(memory) % 8].cast("q")

    def read(self, words: Any, places: Any, expected: Any) -> tuple[Any, Any] | None:
        """The values of the records at `places`, and the words that end their keys.

        None where those are not the expected ones: the file is another one than it was. `expected` None expects nothing.
        """
        keys = [words[place] for place in places[::2]]
        if expected is not None and keys != expected:
            return None
        return [_float(words[place]) for place in places[1::2]], keys

    def moments(self, words: Any, places: Any) -> Any:
        """The timestamps of the records at `places`."""
        return [_float(words[place + 1]) for place in places[1::2]]

    def take(self, vector: Any, at: Any) -> Any:
        """The entries at these positions."""
        return [vector[position] for position in at]

    def valued(self, numbers: Any) -> Any:
        """The same numbers, -0.0 among them as 0.0: in files of others it is a number like any other."""
        return [number + 0.0 for number in numbers]

    def where(self, cells: Any) -> Any:
        """The positions at which a cell is given (cells of left out samples are negative), or None for all."""
        found = [position for position, cell in enumerate(cells) if cell >= 0]
        return None if len(found) == len(cells) else found

    def repeats(self, cells: Any) -> bool:
        """Whether any cell comes twice."""
        return len(set(cells)) < len(cells)

    def quiet(self) -> AbstractContextManager[Any]:
        """Infinities of opposite sign add up to NaN without a word, as in Python."""
        return nullcontext()

    def blank(self, size: int) -> Any:
        """So many cells without a value."""
        return [NO_VALUE] * size

    def grown(self, vector: Any, size: int) -> Any:
        """The vector with blank cells up to this size."""
        return vector + [NO_VALUE] * (size - len(vector))

    def add(self, totals: Any, cells: Any, values: Any) -> None:
        """Sum into the cells."""
        for cell, value in zip(cells, values, strict=True):
            totals[cell] += value

    def extreme(self, totals: Any, cells: Any, values: Any, *, greater: bool) -> None:
        """Keep the greater (or smaller) of cell and value; a NaN that came first stays, as upstream."""
        for cell, value in zip(cells, values, strict=True):
            known = totals[cell]
            if not is_no_value(value) and (is_no_value(known) or ((value > known) if greater else (value < known))):
                totals[cell] = value

    def recent(self, totals: Any, stamps: Any, cells: Any, values: Any, moments: Any) -> None:
        """Keep what was set last; what was never set has no moment."""
        for cell, value, moment in zip(cells, values, moments, strict=True):
            if moment > max(stamps[cell], 0.0) and not is_no_value(value):
                totals[cell], stamps[cell] = value, moment

    def put(self, totals: Any, cells: Any, values: Any) -> None:
        """Write into the cells."""
        for cell, value in zip(cells, values, strict=True):
            totals[cell] = value

    def rows(self, starts: Sequence[int], width: int) -> Any:
        """The cells of rows of this width."""
        return [range(start, start + width) for start in starts]

    def cumulate(self, totals: Any, rows: Any) -> None:
        """Make each row cumulative; the cell after it becomes its last sum. A row without any value stays so."""
        for row in rows:
            total = NO_VALUE
            for cell in row:
                total += totals[cell]
            totals[row.stop] = total
            if is_no_value(total):
                continue
            running = 0.0
            for cell in row:
                running += totals[cell]
                totals[cell] = running

    def changed(self, now: Any, before: Any) -> tuple[list[int], list[float]]:
        """The positions and new numbers of whatever differs in any bit."""
        packed = struct.pack(f"{len(now)}d", *now), struct.pack(f"{len(before)}d", *before)
        if packed[0] == packed[1]:
            return [], []
        bits = [memoryview(each).cast("q") for each in packed]
        at = [position for position, (new, old) in enumerate(zip(*bits, strict=True)) if new != old]
        return at, [now[position] for position in at]


class NumpyVectors(PlainVectors):
    """The same on numpy's arrays."""

    def __init__(self, numpy: Any) -> None:
        self._np = self.numpy = numpy
        self._plain = PlainVectors()
        self._scratch = self.indexes([])

    @property
    def one_by_one(self) -> PlainVectors:
        return self._plain

    def indexes(self, numbers: Sequence[int]) -> Any:
        return self._np.array(numbers, dtype=self._np.intp)

    def numbers(self, numbers: Sequence[float]) -> Any:
        return self._np.array(numbers, dtype=self._np.float64)

    def joined(self, first: Any, second: Any) -> Any:
        return self._np.concatenate((first, second))

    def places(self, ends: Sequence[int]) -> Any:
        places = self._np.empty(2 * len(ends), dtype=self._np.int32)  # no file has 16 GiB, and there are many of these
        places[1::2] = ends
        places >>= 3
        places[1::2] -= 2
        places[::2] = places[1::2] - 1
        return places

    def words(self, memory: memoryview[int]) -> Any:
        return self._np.frombuffer(memory, dtype=self._np.int64, count=len(memory) // 8)

    def read(self, words: Any, places: Any, expected: Any) -> tuple[Any, Any] | None:
        # One pass over the file; clipping is several times as fast as checking positions that are known to be within.
        if len(self._scratch) < len(places):
            self._scratch = self._np.empty(len(places) + len(places) // 4, dtype=self._np.int64)
        found = self._scratch[: len(places)]
        words.take(places, out=found, mode="clip")
        if expected is None:
            expected = found[::2].copy()
        elif not (found[::2] == expected).all():
            return None
        return found[1::2].copy().view(self._np.float64), expected

    def moments(self, words: Any, places: Any) -> Any:
        return words.take(places[1::2] + 1).view(self._np.float64)

    def take(self, vector: Any, at: Any) -> Any:
        return vector.take(at)

    def valued(self, numbers: Any) -> Any:
        return numbers + 0.0

    def where(self, cells: Any) -> Any:
        given = cells >= 0
        return None if given.all() else given.nonzero()[0]

    def repeats(self, cells: Any) -> bool:
        return len(cells) > 0 and int(self._np.bincount(cells).max()) > 1

    def quiet(self) -> AbstractContextManager[Any]:
        errstate: AbstractContextManager[Any] = self._np.errstate(all="ignore")
        return errstate

    def blank(self, size: int) -> Any:
        return self._np.full(size, NO_VALUE)

    def grown(self, vector: Any, size: int) -> Any:
        return self._np.concatenate((vector, self.blank(size - len(vector))))

    def add(self, totals: Any, cells: Any, values: Any) -> None:
        totals[cells] += values

    def extreme(self, totals: Any, cells: Any, values: Any, *, greater: bool) -> None:
        known = totals[cells]
        better = (values > known) if greater else (values < known)
        better |= known.view(self._np.int64) == NO_VALUE_BITS
        better &= values.view(self._np.int64) != NO_VALUE_BITS
        totals[cells] = self._np.where(better, values, known)

    def recent(self, totals: Any, stamps: Any, cells: Any, values: Any, moments: Any) -> None:
        newer = (moments > self._np.maximum(stamps[cells], 0.0)) & (values.view(self._np.int64) != NO_VALUE_BITS)
        totals[cells[newer]], stamps[cells[newer]] = values[newer], moments[newer]

    def put(self, totals: Any, cells: Any, values: Any) -> None:
        totals[cells] = values

    def rows(self, starts: Sequence[int], width: int) -> Any:
        return self.indexes(starts)[:, None] + self._np.arange(width)

    def cumulate(self, totals: Any, rows: Any) -> None:
        raw = totals[rows]
        running = raw.cumsum(axis=1)
        last = running[:, -1]
        # Bounds that no file has had (-0.0 before the first number) read as 0, but in rows that have no number at all.
        blank = last.view(self._np.int64) == NO_VALUE_BITS
        running += 0.0
        running[blank] = NO_VALUE
        totals[rows] = running
        totals[rows[:, -1] + 1] = running[:, -1]

    def changed(self, now: Any, before: Any) -> tuple[list[int], list[float]]:
        at = (now.view(self._np.int64) != before.view(self._np.int64)).nonzero()[0]
        return at.tolist(), now[at].tolist()


def vectors() -> PlainVectors:
    """Numpy's where it can be imported. It costs about 85 ms and 16 MB, so only a view asks."""
    try:
        import numpy as np
    except ImportError:
        return PlainVectors()
    return NumpyVectors(np)
