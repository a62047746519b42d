"""Arithmetic on many samples at once: with numpy where it is installed, otherwise in plain Python with the same results.

The bits of -0.0 mean "no value": a total to which nothing was added, and a series that was removed. Adding -0.0 changes no sum
(-0.0 + x is x), and no writer stores it as a number.
"""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.storage.record_format import removed

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_VALUE = -0.0
NO_VALUE_BITS = struct.unpack("q", struct.pack("d", NO_VALUE))[0]


class Words(NamedTuple):
    """Memory as 64-bit words: as whole numbers, and as doubles."""

    numbers: memoryview[int]
    doubles: memoryview[float]


class PlainVectors:
    """Vectors that are lists of Python numbers. A record's place is the word of its value; its key ends one word before."""

    def indexes(self, numbers: Sequence[int]) -> Any:
        """Return a vector of positions."""
        return list(numbers)

    def numbers(self, numbers: Sequence[float]) -> Any:
        """Return a vector of doubles."""
        return list(numbers)

    def room(self, size: int) -> Any:
        """Return a vector of positions that are all still to be written."""
        return [0] * size

    def blank(self, size: int) -> Any:
        """Return a vector of doubles without a value."""
        return [NO_VALUE] * size

    def joined(self, vectors: Sequence[Any]) -> Any:
        """Return a new vector with the entries of all these."""
        return [entry for vector in vectors for entry in vector]

    def resized(self, vector: Any, room: Any, size: int) -> tuple[Any, Any]:
        """Return the vector with this size, and the memory that it is part of. Former entries stay, new ones are to be written."""
        del room
        vector += [0] * (size - len(vector))
        return vector, vector

    def take(self, vector: Any, at: Any) -> Any:
        """Return the entries at these positions."""
        return [vector[position] for position in at]

    def picked(self, places: Any, rows: Sequence[int]) -> Any:
        """Return the places of these rows."""
        return [places[row] for row in rows]

    def fill(self, vector: Any, start: int, end: int, number: int) -> None:
        """Write one number to a part of the vector."""
        vector[start:end] = [number] * (end - start)

    def words(self, memory: memoryview[int]) -> Any:
        """Return memory as words."""
        whole = memory[: len(memory) - len(memory) % 8]
        return Words(whole.cast("q"), whole.cast("d"))

    def places(self, ends: Sequence[int]) -> Any:
        """Return the places of records that end at these bytes."""
        return [(end >> 3) - 2 for end in ends]

    def shifted(self, places: Sequence[Any], by: Sequence[int]) -> Any:
        """Return all these vectors of places as one, each moved by its number of words."""
        return [place + first for vector, first in zip(places, by, strict=True) for place in vector]

    def shifted_back(self, places: Any, by: int) -> Any:
        """Return the places moved back by this number of words."""
        return [place - by for place in places]

    def read(self, words: Any, places: Any, values: Any) -> Any:
        """Write the values of the records to `values`. Return the words that end their keys: a vector that the next read may overwrite."""
        values[:] = [words.doubles[place] for place in places]
        return [words.numbers[place - 1] for place in places]

    def moments(self, words: Any, places: Any) -> Any:
        """Return the timestamps of the records."""
        return [words.doubles[place + 1] for place in places]

    def heads(self, words: Any, at: Any) -> list[int]:
        """Return the words at these positions."""
        return [words.numbers[position] for position in at]

    def differ(self, now: Any, before: Any) -> list[int]:
        """Return the positions at which whole numbers differ."""
        if now == before:
            return []
        return [position for position, (new, old) in enumerate(zip(now, before, strict=True)) if new != old]

    def changed(self, now: Any, before: Any) -> tuple[list[int], list[float]]:
        """Return the positions at which doubles differ in any bit, and the new numbers."""
        packed = [struct.pack(f"{len(vector)}d", *vector) for vector in (now, before)]
        at = [] if packed[0] == packed[1] else self.differ(*(memoryview(each).cast("q") for each in packed))
        return at, [now[position] for position in at]

    def show_zeros(self, values: Any, start: int, end: int) -> None:
        """Turn -0.0 into 0.0: in files of other writers it is a number like any other."""
        values[start:end] = [number + 0.0 for number in values[start:end]]

    def where(self, lines: Any) -> Any:
        """Return the positions of samples that have a line (others have a negative number), or None for all."""
        found = [position for position, line in enumerate(lines) if line >= 0]
        return None if len(found) == len(lines) else found

    def left_out(self, lines: Any) -> list[int]:
        """Return the negative numbers among the lines."""
        return [line for line in lines if line < 0]

    def quiet(self) -> AbstractContextManager[Any]:
        """Let infinities of opposite sign add up to NaN without a warning, as in Python."""
        return nullcontext()

    def grown(self, vector: Any, size: int) -> Any:
        """Return the vector with blank entries up to this size."""
        return vector + [NO_VALUE] * (size - len(vector))

    def rows(self, starts: Sequence[int], width: int) -> Any:
        """Return the lines of rows of this width."""
        return [range(start, start + width) for start in starts]

    def cumulate(self, totals: Any, rows: Any) -> None:
        """Make each row cumulative; the line after it becomes its last sum. A row without any value stays so."""
        for row in rows:
            total = NO_VALUE
            for line in row:
                total += totals[line]
            totals[row.stop] = total
            if removed(total):
                continue
            running = 0.0
            for line in row:
                running += totals[line]
                totals[line] = running


class NumpyVectors(PlainVectors):
    """Vectors that are numpy's arrays. A record's place is a pair: the words that end its key, and its value."""

    def __init__(self, numpy: Any) -> None:
        self._np = self.numpy = numpy
        self._scratch = numpy.empty((0, 2), dtype=numpy.int64)

    def indexes(self, numbers: Sequence[int]) -> Any:
        return self._np.array(numbers, dtype=self._np.intp)

    def numbers(self, numbers: Sequence[float]) -> Any:
        return self._np.array(numbers, dtype=self._np.float64)

    def room(self, size: int) -> Any:
        return self._np.empty(size, dtype=self._np.intp)

    def blank(self, size: int) -> Any:
        return self._np.full(size, NO_VALUE)

    def joined(self, vectors: Sequence[Any]) -> Any:
        return self._np.concatenate(vectors)

    def resized(self, vector: Any, room: Any, size: int) -> tuple[Any, Any]:
        # With room behind it: to get memory from the system costs as much as to fill it.
        if len(room) < size:
            room = self._np.empty((size + size // 8, *vector.shape[1:]), dtype=vector.dtype)
            room[: len(vector)] = vector
        return room[:size], room

    def take(self, vector: Any, at: Any) -> Any:
        return vector.take(at)

    def picked(self, places: Any, rows: Sequence[int]) -> Any:
        return places[self.indexes(rows)]

    def fill(self, vector: Any, start: int, end: int, number: int) -> None:
        vector[start:end] = number

    def words(self, memory: memoryview[int]) -> Any:
        return self._np.frombuffer(memory, dtype=self._np.int64, count=len(memory) // 8)

    def places(self, ends: Sequence[int]) -> Any:
        places = self._np.empty((len(ends), 2), dtype=self._np.int32)  # no file has 16 GiB, and there are many of these
        places[:, 1] = ends
        places >>= 3
        places[:, 1] -= 2
        places[:, 0] = places[:, 1] - 1
        return places

    def shifted(self, places: Sequence[Any], by: Sequence[int]) -> Any:
        joined = self._np.concatenate(places, dtype=self._np.intp)
        joined += self._np.repeat(by, [len(vector) for vector in places])[:, None]
        return joined

    def shifted_back(self, places: Any, by: int) -> Any:
        return (places - by).astype(self._np.int32)

    def read(self, words: Any, places: Any, values: Any) -> Any:
        # One pass over the file; clipping is several times as fast as checking positions that are known to be within.
        size = len(places)
        if len(self._scratch) < size:
            self._scratch = self._np.empty((size + size // 8, 2), dtype=self._np.int64)
        found = self._scratch[:size]
        words.take(places, out=found, mode="clip")
        values.view(self._np.int64)[:] = found[:, 1]
        return found[:, 0]

    def moments(self, words: Any, places: Any) -> Any:
        return words.take(places[:, 1] + 1).view(self._np.float64)

    def heads(self, words: Any, at: Any) -> list[int]:
        heads: list[int] = words.take(at).tolist()
        return heads

    def differ(self, now: Any, before: Any) -> list[int]:
        differ = now != before
        return differ.nonzero()[0].tolist() if differ.any() else []

    def changed(self, now: Any, before: Any) -> tuple[list[int], list[float]]:
        at = (now.view(self._np.int64) != before.view(self._np.int64)).nonzero()[0]
        return at.tolist(), now[at].tolist()

    def show_zeros(self, values: Any, start: int, end: int) -> None:
        values[start:end] += 0.0

    def where(self, lines: Any) -> Any:
        given = lines >= 0
        return None if given.all() else given.nonzero()[0]

    def left_out(self, lines: Any) -> list[int]:
        found: list[int] = lines[lines < 0].tolist()
        return found

    def quiet(self) -> AbstractContextManager[Any]:
        errstate: AbstractContextManager[Any] = self._np.errstate(all="ignore")
        return errstate

    def grown(self, vector: Any, size: int) -> Any:
        return self._np.concatenate((vector, self.blank(size - len(vector))))

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


def vectors() -> PlainVectors:
    """Return numpy's where it can be imported. The import costs about 85 ms and 16 MB, so only a collector asks."""
    try:
        import numpy as np
    except ImportError:
        return PlainVectors()
    return NumpyVectors(np)
