"""The files that make up nearly all of a scrape, read and added up in a few steps for all of them together.

These are the good files of slots whose samples are summed. A file costs one look at its inode and size and one pass over its values;
everything else is done once for all. Where a file is no longer what it was, it is handed back to be read by itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .vectors import NO_VALUE, NO_VALUE_BITS, NumpyVectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .layout import Layout
    from .reader import Source
    from .vectors import PlainVectors


def fits(source: Source) -> bool:
    """Whether a source may be read in bulk."""
    summed = source.mode.removeprefix("live") in ("", "sum")
    return summed and source.slot is not None and not source.trouble and not source.carried and bool(source.keys)


class Bulk:
    """Sources that were read just now, placed in `layout`; `read` looks at them again, `totals` adds them up."""

    def __init__(self, numpy: Any, layout: Layout, sources: Sequence[Source]) -> None:
        self.layout = layout
        self.sources = list(sources)
        self._np = numpy
        self._values = numpy.concatenate([source.values for source in sources])
        cells = numpy.concatenate([source.placed.cells for source in sources])
        given = cells >= 0
        self._use = None if given.all() else given.nonzero()[0]
        self._cells = cells if self._use is None else cells[self._use]
        self._counts = numpy.zeros(0)
        self._files: list[tuple[Any, ...]] = []
        self._words = numpy.empty(2 * len(self._values), dtype=numpy.int64)
        self._expected = numpy.concatenate([source.mapped.keywords for source in sources])
        end = 0
        for source in sources:
            start, end = end, end + 2 * len(source.keys)
            at = source.mapped
            self._files.append((source.path, at.inode, at.used, at.head, at.words, at.places, self._words[start:end]))

    def read(self) -> list[Source]:
        """Read all values again; the sources that have to be looked at by themselves, in which case all of them are handed back."""
        stale = []
        lstat = os.lstat
        for number, (path, inode, used, head, words, places, out) in enumerate(self._files):
            try:
                found = lstat(path)
            except OSError:
                stale.append(number)
                continue
            if found.st_ino != inode or found.st_size < used or words.item(0) != head:
                stale.append(number)
            else:
                words.take(places, out=out, mode="clip")
        differ = self._words[::2] != self._expected
        if differ.any():
            ends = self._np.cumsum([len(source.keys) for source in self.sources])
            others = self._np.unique(self._np.searchsorted(ends, differ.nonzero()[0], side="right"))
            stale = sorted({*stale, *others.tolist()})
        values = self._words[1::2].copy().view(self._np.float64)
        if stale:
            self._hand_back(values, frozenset(stale))
            return [self.sources[number] for number in stale]
        self._values = values
        return []

    def totals(self, size: int) -> Any:
        """The sum of each cell; no value where no file has one that was not removed."""
        np = self._np
        if len(self._counts) != size:
            self._counts = np.bincount(self._cells, minlength=size)
        values = self._values if self._use is None else self._values[self._use]
        totals = np.bincount(self._cells, weights=values, minlength=size)
        removed = (values.view(np.int64) == NO_VALUE_BITS).nonzero()[0]
        blank = np.bincount(self._cells[removed], minlength=size) == self._counts if len(removed) else self._counts == 0
        totals[blank] = NO_VALUE
        return totals

    def close(self) -> None:
        """Give every source its values, for whoever reads it by itself from now on."""
        self._hand_back(self._values, frozenset())

    def _hand_back(self, values: Any, stale: frozenset[int]) -> None:
        end = 0
        for number, source in enumerate(self.sources):
            start, end = end, end + len(source.keys)
            source.values = (self._values if number in stale else values)[start:end].copy()


def bulk_of(vectors: PlainVectors, layout: Layout, sources: Sequence[Source]) -> Bulk | None:
    """A bulk of these sources; None without numpy, or where there are none."""
    return Bulk(vectors.numpy, layout, sources) if isinstance(vectors, NumpyVectors) and sources else None
