"""All samples of many mapped files in a few long vectors, file after file, so that one gather reads them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import mapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .reader import Lent
    from .vectors import NumpyVectors


class Look(NamedTuple):
    """What the files say now, and which of them, by number, have other keys than they had, or another last value or moment."""

    values: Any
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
        memory, starts = mapped.span(self._mappings)
        self._memory = vectors.words(memory)
        self._firsts = np.array(starts, dtype=np.intp) >> 3
        self.values = np.concatenate([file.values for file in lent])
        self.moments = np.concatenate([np.empty(0), *(file.moments for file in lent[len(lent) - recent :])])
        self._keywords = np.concatenate([file.keywords for file in lent])
        pairs = np.concatenate([file.places for file in lent], dtype=np.intp)
        pairs += self._firsts.repeat([len(file.places) for file in lent])
        self._arrange(pairs.reshape(-1, 2), np.cumsum([len(file.values) for file in lent]).tolist())

    def look(self) -> Look:
        """Read all samples again. What is kept is still what they said before: `keep` the look to have it count."""
        np, size, pairs = self._np, len(self.values), 2 * len(self.values)
        words = self._words
        self._memory.take(self._places, out=words, mode="clip")
        heads = words[-len(self._firsts) :].copy()
        changed = words[:pairs:2] != self._keywords
        differ = np.logical_or.reduceat(changed, [0, *self.ends[:-1]]).nonzero()[0].tolist() if changed.any() else []
        values = self._spare.view(words.dtype)
        values[:] = words[1:pairs:2]
        moments = words[pairs : pairs + len(self.moments)].copy()
        last = np.array(self.ends, dtype=np.intp) - 1
        touched = values[last] != self.values.view(words.dtype)[last]
        last = last[len(last) - self._recent :] - (size - len(moments))
        touched[len(touched) - self._recent :] |= moments[last] != self.moments.view(words.dtype)[last]
        return Look(values.view(np.float64), moments.view(np.float64), heads, differ, touched.nonzero()[0].tolist())

    def keep(self, look: Look, but: Iterable[int] = ()) -> None:
        """Take what was read last for what the files say, but for these; the next look is written where the former one stood."""
        first = len(self.values) - len(self.moments)
        for number in but:
            start, end = self.ends[number - 1] if number else 0, self.ends[number]
            look.values[start:end] = self.values[start:end]
            look.moments[max(0, start - first) : max(0, end - first)] = self.moments[max(0, start - first) : max(0, end - first)]
        self.values, self._spare, self.moments = look.values, self.values, look.moments

    def extend(self, more: Sequence[Sequence[int]]) -> None:
        """Have the records that each file has more of behind its last one: the bytes of the file at which they end."""
        np, former, first = self._np, self.ends, len(self.values) - len(self.moments)
        counts = np.array([len(ends) for ends in more], dtype=np.intp)
        pairs = self._vectors.places([end for ends in more for end in ends]).astype(np.intp)
        pairs += self._firsts.repeat(2 * counts)
        pairs = pairs.reshape(-1, 2)
        bounds = counts.cumsum().tolist()
        words = self._memory.take(pairs)
        self.values = spliced(np, self.values, former, words[:, 1].view(np.float64), bounds)
        self._keywords = spliced(np, self._keywords, former, words[:, 0], bounds)
        if self._recent:
            skipped = bounds[-self._recent] - len(more[-self._recent])
            moments = self._memory.take(pairs[skipped:, 1] + 1).view(np.float64)
            ends = [end - first for end in former[-self._recent :]]
            self.moments = spliced(np, self.moments, ends, moments, [bound - skipped for bound in bounds[-self._recent :]])
        ends = (np.array(former) + bounds).tolist()
        self._arrange(spliced(np, self._pairs, former, pairs, bounds), ends)

    def part(self, number: int) -> tuple[Any, Any, Any, Any]:
        """Of one file: the places of its samples, the words that end their keys, values and moments."""
        start, end = self.ends[number - 1] if number else 0, self.ends[number]
        first = len(self.values) - len(self.moments)
        places = (self._pairs[start:end].ravel() - self._firsts[number]).astype(self._np.int32)
        moments = self.moments[max(0, start - first) : max(0, end - first)].copy()
        return places, self._keywords[start:end].copy(), self.values[start:end].copy(), moments

    def _arrange(self, pairs: Any, ends: list[int]) -> None:
        """Know where to read: of each sample the word that ends its key and its value; the moments; of each file its first word."""
        np, size = self._np, len(pairs)
        #: Where each file's samples end.
        self.ends = ends
        moments = pairs[size - len(self.moments) :, 1] + 1
        self._places = np.concatenate((pairs.ravel(), moments, self._firsts))
        self._pairs = self._places[: 2 * size].reshape(-1, 2)
        self._words, self._spare = np.empty(len(self._places), dtype=np.int64), np.empty(size)


def spliced(np: Any, first: Any, first_ends: Sequence[int], second: Any, second_ends: Sequence[int]) -> Any:
    """Both vectors in one: of each file what the first has of it, then what the second has."""
    parts: list[Any] = []
    start = begin = 0
    for end, stop in zip(first_ends, second_ends, strict=True):
        parts += (first[start:end], second[begin:stop]) if stop > begin else (first[start:end],)
        start, begin = end, stop
    return np.concatenate(parts)
