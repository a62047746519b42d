"""The samples of many files in a few long vectors, file after file, so that one pass over memory reads them all."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.linux import readonly_mapping

from .samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .vectors import PlainVectors


class Column:
    """A long vector with an entry for each sample, in `now`. It grows in place."""

    def __init__(self, vectors: PlainVectors, content: Any) -> None:
        self._vectors = vectors
        self._room = self.now = content

    def resize(self, size: int) -> None:
        """Change the size; former entries stay."""
        self.now, self._room = self._vectors.resized(self.now, self._room, size)

    def insert(self, ends: Sequence[int], more: Any, more_ends: Sequence[int]) -> None:
        """Put behind each file's part, which ends at its entry of `ends`, the file's part of `more`."""
        self.resize(len(self.now) + len(more))
        now = self.now
        starts, begins = [0, *ends[:-1]], [0, *more_ends[:-1]]
        # From the last file to the first: the room behind each has been cleared.
        for start, end, begin, stop in zip(starts[::-1], ends[::-1], begins[::-1], more_ends[::-1], strict=True):
            if begin:
                now[start + begin : end + begin] = now[start:end]
            if begin < stop:
                now[end + begin : end + stop] = more[begin:stop]


class Look(NamedTuple):
    """One reading of all files: timestamps, first words, and which files, by number, have other keys or another last value than before."""

    moments: Any
    heads: list[int]
    differ: set[int]
    touched: list[int]


class Columns:
    """The places, values and lines of all samples. The timestamps of the last `recent` files are read too.

    A file is a number here, in the order given.
    """

    def __init__(self, vectors: PlainVectors, files: Sequence[Samples], recent: int) -> None:
        self._vectors, self._recent = vectors, recent
        self._memories = [file.memory for file in files]
        memory, starts = readonly_mapping.span(self._memories) if files else (memoryview(b""), [])
        self._memory = vectors.words(memory)
        self._firsts = [start >> 3 for start in starts]
        self._heads_at = vectors.indexes(self._firsts)
        #: Where each file's samples end.
        self.ends = list(accumulate(len(file.keys) for file in files))
        size = self.ends[-1] if files else 0
        nothing = vectors.numbers([])
        self._values = Column(vectors, vectors.joined([nothing, *(file.values for file in files)]))
        self._read = Column(vectors, vectors.blank(size))
        self._keywords = Column(vectors, vectors.joined([vectors.indexes([]), *(file.keywords for file in files)]))
        self._moments = Column(vectors, vectors.joined([nothing, *(file.moments for file in files[len(files) - recent :])]))
        self._places = Column(vectors, vectors.shifted([vectors.places([]), *(file.places for file in files)], [0, *self._firsts]))
        self._lines = Column(vectors, vectors.joined([vectors.indexes([]), *(file.lines for file in files)]))

    @property
    def values(self) -> Any:
        """The values that were kept last."""
        return self._values.now

    @property
    def moments(self) -> Any:
        """The timestamps of the last files' values."""
        return self._moments.now

    @property
    def lines(self) -> Any:
        """The lines of the samples; those that are not placed yet have any number."""
        return self._lines.now

    def look(self) -> Look:
        """Read all samples again. The result becomes the values with `keep`."""
        vectors, places, values, read = self._vectors, self._places.now, self.values, self._read.now
        # First words come last: everything that they announce was written before them.
        keywords = vectors.read(self._memory, places, read)
        moments = vectors.moments(self._memory, places[len(places) - len(self.moments) :])
        heads = vectors.heads(self._memory, self._heads_at)
        differ = {bisect_right(self.ends, row) for row in vectors.differ(keywords, self._keywords.now)}
        last = {end - 1: number for number, end in reversed(list(enumerate(self.ends))) if end}
        touched = self._changed(read, values, list(last))
        first = len(values) - len(self.moments)
        touched |= {first + row for row in self._changed(moments, self.moments, [row - first for row in last if row >= first])}
        return Look(moments, heads, differ, [last[row] for row in touched])

    def keep(self, look: Look, but: Iterable[int] = ()) -> None:
        """Make the last look the values, but for these files."""
        for number in but:
            (start, end), (begin, stop) = self.span(number), self._moments_span(number)
            self._read.now[start:end] = self.values[start:end]
            look.moments[begin:stop] = self.moments[begin:stop]
        self._values, self._read = self._read, self._values
        self.moments[:] = look.moments

    def extend(self, more: Sequence[Sequence[int]]) -> None:
        """Add to each file the records that end at these bytes of it, behind its last one."""
        vectors, ends, first = self._vectors, self.ends, len(self.values) - len(self.moments)
        more_ends = list(accumulate(map(len, more)))
        places = vectors.shifted([vectors.places(file) for file in more], self._firsts)
        values = vectors.blank(len(places))
        keywords = vectors.joined([vectors.read(self._memory, places, values)])
        self._values.insert(ends, values, more_ends)
        self._keywords.insert(ends, keywords, more_ends)
        self._places.insert(ends, places, more_ends)
        self._lines.insert(ends, vectors.room(len(places)), more_ends)
        if self._recent:
            begin = more_ends[-self._recent] - len(more[-self._recent])
            moments = vectors.moments(self._memory, places[begin:])
            recent, more_recent = ([end - start for end in each[-self._recent :]] for each, start in ((ends, first), (more_ends, begin)))
            self._moments.insert(recent, moments, more_recent)
        self.ends = [end + further for end, further in zip(ends, more_ends, strict=True)]
        self._read.resize(len(self.values))

    def samples(self, number: int, keys: list[int], head: int) -> Samples:
        """Return one file's samples: parts of these vectors."""
        (start, end), (begin, stop) = self.span(number), self._moments_span(number)
        places = self._vectors.shifted_back(self._places.now[start:end], self._firsts[number])
        keywords, values, moments = self._keywords.now[start:end], self.values[start:end], self.moments[begin:stop]
        return Samples(keys, self._memories[number], head, places, keywords, values, moments, self.lines[start:end])

    def span(self, number: int) -> tuple[int, int]:
        """Where the samples of one file start and end."""
        return self.ends[number - 1] if number else 0, self.ends[number]

    def _moments_span(self, number: int) -> tuple[int, int]:
        first = len(self.values) - len(self.moments)
        start, end = self.span(number)
        return max(0, start - first), max(0, end - first)

    def _changed(self, now: Any, before: Any, rows: list[int]) -> set[int]:
        """Those of the rows in which doubles differ."""
        at = self._vectors.indexes(rows)
        return {rows[position] for position in self._vectors.changed(self._vectors.take(now, at), self._vectors.take(before, at))[0]}
