"""The files that make up nearly all of a scrape, read and merged in a few steps for all of them together.

These are the good files of slots, but for the most recent modes. A file costs one look at its inode and size and one pass over its
values; everything else is done once for all. Where a file is no longer what it was, it is handed back to be read by itself.
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

_RULES = {"": "sum", "sum": "sum", "max": "max", "min": "min", "all": "all"}


def fits(source: Source) -> bool:
    """Whether a source, read and placed, may be read in bulk from now on."""
    rule = _RULES.get(source.mode.removeprefix("live"))
    usual = rule == "sum" or (rule is not None and not source.placed.repeats)
    return usual and source.slot is not None and not source.trouble and not source.carried and bool(source.keys)


def bulk_of(vectors: PlainVectors, layout: Layout, sources: Sequence[Source]) -> Bulk | None:
    """A bulk of these sources; None without numpy, or where there are none."""
    return Bulk(vectors, layout, sources) if isinstance(vectors, NumpyVectors) and sources else None


class Bulk:
    """Sources that were read just now, placed in `layout`; `read` looks at them again, `totals` merges them."""

    def __init__(self, vectors: NumpyVectors, layout: Layout, sources: Sequence[Source]) -> None:
        np = vectors.numpy
        self.layout = layout
        #: As they were given, which tells whether they are still the same.
        self.given = list(sources)
        self.sources = sorted(sources, key=lambda source: _RULES[source.mode.removeprefix("live")])
        self._np = np
        self._values = np.concatenate([source.values for source in self.sources])
        self._words = np.empty(2 * len(self._values), dtype=np.int64)
        self._expected = np.concatenate([source.mapped.keywords for source in self.sources])
        self._files: list[tuple[Any, ...]] = []
        self._ends: list[int] = []
        end = 0
        for source in self.sources:
            start, end = end, end + len(source.keys)
            at = source.mapped
            self._ends.append(end)
            self._files.append((source.path, at.inode, at.used, at.head, at.words, at.places, self._words[2 * start : 2 * end]))
        self._groups = [_Group(vectors, rule, self.sources) for rule in ("sum", "all", "max", "min")]

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
            others = self._np.logical_or.reduceat(differ, [0, *self._ends[:-1]]).nonzero()[0]
            stale = sorted({*stale, *others.tolist()})
        values = self._words[1::2].copy().view(self._np.float64)
        if stale:
            self._hand_back(values, frozenset(stale))
            return [self.sources[number] for number in stale]
        self._values = values
        return []

    def totals(self, size: int) -> Any:
        """What the files have in each cell; no value where none has one that was not removed."""
        totals = self._groups[0].summed(self._values, size)
        for group in self._groups[1:]:
            group.merge(self._values, totals)
        return totals

    def close(self) -> None:
        """Give every source its values, for whoever reads it by itself from now on."""
        self._hand_back(self._values, frozenset())

    def _hand_back(self, values: Any, stale: frozenset[int]) -> None:
        start = 0
        for number, (source, end) in enumerate(zip(self.sources, self._ends, strict=True)):
            source.values = (self._values if number in stale else values)[start:end].copy()
            start = end


class _Group:
    """All values of one rule, which stand together in the bulk's."""

    def __init__(self, vectors: NumpyVectors, rule: str, sources: Sequence[Source]) -> None:
        np = vectors.numpy
        self._np, self._vectors, self._rule = np, vectors, rule
        start = end = 0
        cells = [np.empty(0, dtype=np.intp)]
        for source in sources:
            mine = _RULES[source.mode.removeprefix("live")] == rule
            if mine:
                cells.append(source.placed.cells)
            if mine or len(cells) == 1:
                end += len(source.keys)
                start = start if mine else end
        cells = np.concatenate(cells)
        self._use = (cells >= 0).nonzero()[0] + start
        self._cells = cells[cells >= 0]
        if len(self._use) == end - start:
            self._use = slice(start, end)
        self._counts = np.zeros(0)
        if rule in ("max", "min"):
            self._order = self._cells.argsort(kind="stable")
            self._distinct, self._starts = np.unique(self._cells[self._order], return_index=True)

    def summed(self, values: Any, size: int) -> Any:
        """The sum of each cell."""
        np = self._np
        values = values[self._use]
        if len(self._counts) != size:
            self._counts = np.bincount(self._cells, minlength=size)
        totals = np.bincount(self._cells, weights=values, minlength=size)
        removed = (values.view(np.int64) == NO_VALUE_BITS).nonzero()[0]
        blank = np.bincount(self._cells[removed], minlength=size) == self._counts if len(removed) else self._counts == 0
        totals[blank] = NO_VALUE
        return totals

    def merge(self, values: Any, totals: Any) -> None:
        """Each file's own value, or the greatest or smallest of a cell."""
        np = self._np
        if not len(self._cells):
            return
        values = values[self._use]
        if self._rule == "all":
            totals[self._cells] = values
        elif np.isnan(values).any() or (values.view(np.int64) == NO_VALUE_BITS).any():
            # Which number comes first matters for these: one after the other.
            self._vectors.one_by_one.extreme(totals, self._cells, values, greater=self._rule == "max")
        else:
            choose = np.maximum if self._rule == "max" else np.minimum
            totals[self._distinct] = choose.reduceat(values[self._order], self._starts)
