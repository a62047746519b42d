"""All samples of many mapped files in a few long vectors, file after file, so that one gather reads them all.

Vectors that grow in place: to get memory anew from the system costs as much as to fill it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.linux import readonly_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .source import Lent
    from .vectors import NumpyVectors


class Column:
    """A long vector of what is known of each sample, in `now`, with room behind it."""

    def __init__(self, np: Any, content: Any) -> None:
        self._np = np
        self._room = self.now = content

    def resize(self, size: int) -> None:
        """Have another size; what stood there stays."""
        if len(self._room) < size:
            former = self.now
            self._room = self._np.empty((size + size // 8, *former.shape[1:]), dtype=former.dtype)
            self._room[: len(former)] = former
        self.now = self._room[:size]

    def insert(self, ends: Sequence[int], more: Any, more_ends: Sequence[int]) -> None:
        """Put behind each file's part, which ends at its place of `ends`, the file's part of `more`."""
        self.resize(len(self.now) + len(more))
        now = self.now
        starts, begins = [0, *ends[:-1]], [0, *more_ends[:-1]]
        # From the last file on: whatever stands in the way has been moved.
        for start, end, begin, stop in zip(starts[::-1], ends[::-1], begins[::-1], more_ends[::-1], strict=True):
            if begin:
                now[start + begin : end + begin] = now[start:end]
            if begin < stop:
                now[end + begin : end + stop] = more[begin:stop]


class Look(NamedTuple):
    """What the files say now, and which of them, by number, have other keys than they had, or another last value or moment."""

    moments: Any
    heads: Any
    differ: list[int]
    touched: list[int]


class Columns:
    """Where the samples of files stand, and what they said last. Of the last `recent` files the moments are read too.

    A file is a number here, in the order given. Nobody else has these vectors; `part` copies one file's.
    """

    def __init__(self, vectors: NumpyVectors, lent: Sequence[Lent], recent: int) -> None:
        np = vectors.numpy
        self._np, self._vectors, self._recent = np, vectors, recent
        self._mappings = [file.mapping for file in lent]
        memory, starts = readonly_mapping.span(self._mappings)
        self._memory = vectors.words(memory)
        self._firsts = np.array(starts, dtype=np.intp) >> 3
        #: Where each file's samples end.
        self.ends: list[int] = np.cumsum([len(file.values) for file in lent]).tolist()
        size = self.ends[-1]
        self._values = Column(np, np.concatenate([file.values for file in lent]))
        self._read = Column(np, np.empty(size))
        self._keywords = Column(np, np.concatenate([file.keywords for file in lent]))
        self._moments = Column(np, np.concatenate([np.empty(0), *(file.moments for file in lent[len(lent) - recent :])]))
        # Of each sample two words are read: the one that ends its key, and its value.
        pairs = np.concatenate([file.places for file in lent], dtype=np.intp)
        pairs += self._firsts.repeat([len(file.places) for file in lent])
        self._pairs = Column(np, pairs.reshape(size, 2))
        self._words = Column(np, np.empty((size, 2), dtype=np.int64))

    @property
    def values(self) -> Any:
        """The values, as the files said at the look that was kept last."""
        return self._values.now

    @property
    def moments(self) -> Any:
        """The moments of the last files' values."""
        return self._moments.now

    def look(self) -> Look:
        """Read all samples again. What is kept is still what they said before: `keep` the look to have it count."""
        np, memory, words = self._np, self._memory, self._words.now
        pairs, size = self._pairs.now, len(words)
        # The files' first words come last: whatever they say was written before, has been read.
        memory.take(pairs, out=words, mode="clip")
        moments = memory.take(pairs[size - len(self.moments) :, 1] + 1)
        heads = memory.take(self._firsts)
        changed = words[:, 0] != self._keywords.now
        differ = np.logical_or.reduceat(changed, [0, *self.ends[:-1]]).nonzero()[0].tolist() if changed.any() else []
        values = self._read.now.view(words.dtype)
        values[:] = words[:, 1]
        last = np.array(self.ends, dtype=np.intp) - 1
        touched = values[last] != self.values.view(words.dtype)[last]
        last = last[len(last) - self._recent :] - (size - len(moments))
        touched[len(touched) - self._recent :] |= moments[last] != self.moments.view(words.dtype)[last]
        return Look(moments.view(np.float64), heads, differ, touched.nonzero()[0].tolist())

    def keep(self, look: Look, but: Iterable[int] = ()) -> None:
        """Take what was read last for what the files say, but for these; there must have been no other look since."""
        for number in but:
            (start, end), (begin, stop) = self._span(number), self._moments_span(number)
            self._read.now[start:end] = self.values[start:end]
            look.moments[begin:stop] = self.moments[begin:stop]
        self._values, self._read = self._read, self._values
        self.moments[:] = look.moments

    def extend(self, more: Sequence[Sequence[int]]) -> None:
        """Have the records that each file has more of behind its last one: the bytes of the file at which they end."""
        np, ends, first = self._np, self.ends, len(self.values) - len(self.moments)
        counts = np.array([len(file) for file in more], dtype=np.intp)
        pairs = self._vectors.places([end for file in more for end in file]).astype(np.intp)
        pairs += self._firsts.repeat(2 * counts)
        pairs = pairs.reshape(-1, 2)
        more_ends = counts.cumsum().tolist()
        words = self._memory.take(pairs)
        self._values.insert(ends, words[:, 1].view(np.float64), more_ends)
        self._keywords.insert(ends, words[:, 0], more_ends)
        self._pairs.insert(ends, pairs, more_ends)
        if self._recent:
            begin = more_ends[-self._recent] - len(more[-self._recent])
            moments = self._memory.take(pairs[begin:, 1] + 1).view(np.float64)
            recent, more_recent = ([end - start for end in each[-self._recent :]] for each, start in ((ends, first), (more_ends, begin)))
            self._moments.insert(recent, moments, more_recent)
        self.ends = (np.array(ends) + more_ends).tolist()
        self._read.resize(self.ends[-1])
        self._words.resize(self.ends[-1])

    def part(self, number: int) -> tuple[Any, Any, Any, Any]:
        """Of one file: the places of its samples, the words that end their keys, values and moments."""
        (start, end), (begin, stop) = self._span(number), self._moments_span(number)
        places = (self._pairs.now[start:end].ravel() - self._firsts[number]).astype(self._np.int32)
        return places, self._keywords.now[start:end].copy(), self.values[start:end].copy(), self.moments[begin:stop].copy()

    def _span(self, number: int) -> tuple[int, int]:
        return self.ends[number - 1] if number else 0, self.ends[number]

    def _moments_span(self, number: int) -> tuple[int, int]:
        first = len(self.values) - len(self.moments)
        start, end = self._span(number)
        return max(0, start - first), max(0, end - first)
