"""The files that make up nearly all of a scrape, read and merged in a few steps for all of them together.

These are the good files of slots. That they are still the same files is told by the directory's listing, and their mappings are read
as one memory. Where a file is no longer what it was, it is handed back to be read by itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import mapped, regular
from .vectors import NO_VALUE, NO_VALUE_BITS, NumpyVectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .layout import Layout
    from .reader import Source
    from .vectors import PlainVectors

_RULES = {"": "sum", "sum": "sum", "all": "all", "max": "max", "min": "min", "mostrecent": "recent"}
#: In this order the sources of a bulk stand.
_ORDER = ("sum", "all", "max", "min", "recent")


def fits(source: Source) -> bool:
    """Whether a source, read and placed, may be read in bulk from now on."""
    usual = _rule(source) == "sum" or not source.placed.repeats
    return usual and source.slot is not None and not source.trouble and not source.carried and bool(source.keys)


def bulk_of(vectors: PlainVectors, layout: Layout, sources: Sequence[Source], listing: Mapping[str, int], room: Room) -> Bulk | None:
    """A bulk of these sources, in the memory of one that has ended; None without numpy, or where there are none."""
    return Bulk(vectors, layout, sources, listing, room) if isinstance(vectors, NumpyVectors) and sources else None


def _rule(source: Source) -> str:
    return _RULES[source.mode.removeprefix("live")]


class Room:
    """Memory for the great vectors of one bulk after the other: to get it anew from the system costs as much as to fill it."""

    def __init__(self) -> None:
        self._vectors: dict[str, Any] = {}

    def of(self, np: Any, name: str, size: int, dtype: Any) -> Any:
        """A vector of this size, with anything in it."""
        if len(self._vectors.get(name, ())) < size:
            self._vectors[name] = np.empty(size + size // 8, dtype=dtype)
        return self._vectors[name][:size]


class Bulk:
    """Sources that were read after `listing` was, placed in `layout`; `read` looks at them again, `totals` merges them."""

    def __init__(self, vectors: NumpyVectors, layout: Layout, sources: Sequence[Source], listing: Mapping[str, int], room: Room) -> None:
        np = vectors.numpy
        self.layout = layout
        #: As they were given, which tells whether they are still the same.
        self.given = list(sources)
        by_rule: dict[str, list[Source]] = {rule: [] for rule in _ORDER}
        for source in sources:
            by_rule[_rule(source)].append(source)
        self.sources = [source for group in by_rule.values() for source in group]
        self.known = frozenset(map(id, sources))
        self._np = np
        self._ends = np.cumsum([len(source.keys) for source in self.sources]).tolist()
        size = self._ends[-1]
        self._values, self._spare = (room.of(np, name, size, np.float64) for name in ("values", "spare"))
        np.concatenate([source.values for source in self.sources], out=self._values)
        recent = [source.moments for source in by_rule["recent"]]
        self._moments = np.concatenate(recent) if recent else np.empty(0)
        looks = [source.mapped for source in self.sources]
        self._used = [look.used for look in looks]
        self._last = np.array(self._ends, dtype=np.intp) - 1
        self._last_moments = self._last[len(self._last) - len(recent) :] - (len(self._values) - len(self._moments))
        self._names = [os.path.basename(source.path) for source in self.sources]
        # As the listing says, which need not be what a look at the file says. Mapped files keep theirs to themselves.
        self._inodes = [listing.get(name) for name in self._names]
        self._keywords = np.concatenate([look.keywords for look in looks], out=room.of(np, "keywords", size, np.int64))
        self._heads = np.array([look.head for look in looks], dtype=np.int64)
        memory, starts = mapped.span([look.mapping for look in looks])
        self._mappings = [look.mapping for look in looks]
        self._memory = vectors.words(memory)
        # Where to read: of each sample the word that ends its key and its value; the moments; of each file its first word.
        heads = np.array(starts, dtype=np.intp) >> 3
        count = 2 * size + len(self._moments) + len(heads)
        self._places, self._words = room.of(np, "places", count, np.intp), room.of(np, "words", count, np.int64)
        pairs, moments = self._places[: 2 * size], self._places[2 * size : -len(heads)]
        np.concatenate([look.places for look in looks], out=pairs)
        pairs += heads.repeat([len(look.places) for look in looks])
        moments[:] = pairs[2 * (size - len(moments)) + 1 :: 2] + 1
        self._places[-len(heads) :] = heads
        self._groups: dict[str, _Group] = {}
        end = 0
        for rule, group in by_rule.items():
            self._groups[rule] = _Group(vectors, rule, group, end)
            end = self._groups[rule].span.stop
        for source in self.sources:
            source.values = ()  # until they are handed back

    def read(self, listing: Mapping[str, int]) -> tuple[list[Source], list[Source]]:
        """Read all values again. Gives the sources that have to be looked at by themselves, and those that only have more samples now.

        Where there are any, all sources are handed back with the values read last, and this bulk has ended.
        `listing` has the inodes of the directory's files by name, found before this call.
        """
        if not mapped.guarded() and self._cut(range(len(self.sources))):
            # To read beyond a file's end would be the end of this process.
            self.close()
            return self.sources, []
        inodes = list(map(listing.get, self._names))
        stale = {number for number, inode in enumerate(inodes) if inode != self._inodes[number]} if inodes != self._inodes else set()
        self._memory.take(self._places, out=self._words, mode="clip")
        pairs = 2 * len(self._values)
        grown = (self._words[-len(self._heads) :] != self._heads).nonzero()[0].tolist()
        differ = self._words[:pairs:2] != self._keywords
        if differ.any():
            stale.update(self._np.logical_or.reduceat(differ, [0, *self._ends[:-1]]).nonzero()[0].tolist())
        values = self._spare.view(self._words.dtype)
        values[:] = self._words[1:pairs:2]
        moments = self._words[pairs : pairs + len(self._moments)].copy()
        # A file that is cut off behind its last key has lost a value, or a moment, and looks like one that changed.
        last = values[self._last] != self._values.view(values.dtype)[self._last]
        last[len(last) - len(self._last_moments) :] |= moments[self._last_moments] != self._moments.view(values.dtype)[self._last_moments]
        stale.update(self._cut(last.nonzero()[0].tolist()))
        values, moments = values.view(self._np.float64), moments.view(self._np.float64)
        if stale or grown:
            self._hand_back(values, moments, stale)
        self._values, self._spare, self._moments = values, self._values, moments
        return [self.sources[number] for number in sorted(stale)], [self.sources[number] for number in grown if number not in stale]

    def totals(self, size: int) -> tuple[Any, Any]:
        """What the files have in each cell, no value where none has one that was not removed; and since when, for most recent gauges."""
        totals, stamps = self._groups["sum"].summed(self._values, size), self._np.full(size, NO_VALUE)
        for rule in ("all", "max", "min"):
            self._groups[rule].merge(self._values, totals)
        self._groups["recent"].newest(self._values, self._moments, totals, stamps)
        return totals, stamps

    def _cut(self, numbers: Iterable[int]) -> list[int]:
        """Which of these files end before what is read of them."""
        found = ((number, regular.inode_and_size(self.sources[number].path)) for number in numbers)
        return [number for number, look in found if isinstance(look, tuple) and look[1] < self._used[number]]

    def close(self) -> None:
        """Give every source its values, for whoever reads it by itself from now on."""
        self._hand_back(self._values, self._moments, set())

    def _hand_back(self, values: Any, moments: Any, stale: set[int]) -> None:
        start = 0
        first = len(values) - len(moments)
        for number, (source, end) in enumerate(zip(self.sources, self._ends, strict=True)):
            source.values = (self._values if number in stale else values)[start:end].copy()
            if start >= first:
                source.moments = (self._moments if number in stale else moments)[start - first : end - first].copy()
            start = end


class _Group:
    """All values of one rule, which stand together in the bulk's, from `start` on."""

    def __init__(self, vectors: NumpyVectors, rule: str, sources: Sequence[Source], start: int) -> None:
        np = vectors.numpy
        self._np, self._vectors, self._rule = np, vectors, rule
        cells = np.concatenate([np.empty(0, dtype=np.intp), *(source.placed.cells for source in sources)])
        #: Its values, and those of them that have a cell.
        self.span = slice(start, start + len(cells))
        self._use: Any = slice(None) if (cells >= 0).all() else (cells >= 0).nonzero()[0]
        self._cells = cells[self._use]
        self._counts = np.zeros(0)
        if rule in ("max", "min", "recent"):
            self._order = self._cells.argsort(kind="stable")
            self._distinct, self._starts = np.unique(self._cells[self._order], return_index=True)

    def summed(self, values: Any, size: int) -> Any:
        """The sum of each cell."""
        np = self._np
        if not len(self._cells):
            return np.full(size, NO_VALUE)  # bincount would count in integers
        values = values[self.span][self._use]
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
        values = values[self.span][self._use]
        if self._rule == "all":
            totals[self._cells] = values
        elif np.isnan(values).any() or (values.view(np.int64) == NO_VALUE_BITS).any():
            # Which number comes first matters for these: one after the other.
            self._vectors.one_by_one.extreme(totals, self._cells, values, greater=self._rule == "max")
        else:
            choose = np.maximum if self._rule == "max" else np.minimum
            totals[self._distinct] = choose.reduceat(values[self._order], self._starts)

    def newest(self, values: Any, moments: Any, totals: Any, stamps: Any) -> None:
        """The value set last of each cell, the first of those set at the same moment; what was never set or was removed has none."""
        np = self._np
        if not len(self._cells):
            return
        values, moments = values[self.span][self._use][self._order], moments[self._use][self._order]
        moments = np.where((moments > 0.0) & (values.view(np.int64) != NO_VALUE_BITS), moments, 0.0)
        last = np.maximum.reduceat(moments, self._starts)
        chosen = ((moments == np.repeat(last, np.diff(self._starts, append=len(moments)))) & (moments > 0.0)).nonzero()[0][::-1]
        cells = self._cells[self._order[chosen]]
        totals[cells], stamps[cells] = values[chosen], moments[chosen]
