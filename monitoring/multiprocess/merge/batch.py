"""The files that make up nearly all of a scrape, read and merged in a few steps for all of them together.

These are the good files of slots. That they are still the same files is told by the directory's listing, and their mappings are read
as one memory. What they have more of is taken in; where a file is no longer what it was, all are handed back to be read by themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from monitoring.multiprocess.linux import regular_file, sigbus_guard
from monitoring.multiprocess.storage.record_format import Lineage

from .batch_columns import Column, Columns
from .merge_rules import ORDER, Group, rule_of
from .record_parser import parse
from .vectors import NO_VALUE, NumpyVectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .batch_columns import Look
    from .key_table import Keys
    from .record_parser import Parsed
    from .sample_layout import Layout
    from .source import Source
    from .vectors import PlainVectors


def fits(source: Source) -> bool:
    """Whether a source that was read may be read in bulk from now on."""
    return source.slot is not None and not source.trouble and not source.carried and bool(source.keys)


def bulk_of(vectors: PlainVectors, layout: Layout, sources: Sequence[Source], listing: Mapping[str, int]) -> Bulk | None:
    """A bulk of these sources; None without numpy, or where there are none."""
    return Bulk(vectors, layout, sources, listing) if isinstance(vectors, NumpyVectors) and sources else None


class Summands(NamedTuple):
    """What another file adds to sums: so many of the bulk's files that are added up stand before it."""

    before: int
    cells: Any
    values: Any


class Bulk:
    """Sources that were read after `listing` was, placed in `layout`; `read` looks at them again, `totals` merges them.

    It has their vectors until it hands them back.
    """

    def __init__(self, vectors: NumpyVectors, layout: Layout, sources: Sequence[Source], listing: Mapping[str, int]) -> None:
        np = vectors.numpy
        self.layout = layout
        #: As they were given, which tells whether they are still the same.
        self.given = list(sources)
        self.sources = sorted(sources, key=lambda source: ORDER.index(rule_of(source.mode)))
        self.known = frozenset(map(id, sources))
        self._np, self._vectors = np, vectors
        self._rules = [rule_of(source.mode) for source in self.sources]
        self._names = [os.path.basename(source.path) for source in self.sources]
        # As the listing says, which need not be what a look at the file says. Mapped files keep theirs to themselves.
        self._inodes = [listing.get(name) for name in self._names]
        lent = [source.lend() for source in self.sources]
        self._mappings = [file.mapping for file in lent]
        self._used = [file.used for file in lent]
        self._heads = np.array([file.head for file in lent], dtype=np.int64)
        self._columns = Columns(vectors, lent, self._rules.count("recent"))
        self._placed = [source.placed for source in self.sources]
        #: Where each source's cells end: they are fewer than its samples between `read` and `settle`.
        self._cell_ends = self._columns.ends
        self._cells = Column(np, np.concatenate([placed.lend() for placed in self._placed]))
        self._group()

    def read(self, listing: Mapping[str, int], keys: Keys) -> list[Source]:
        """Read all values again, and what the files have more of. Gives the sources that have to be looked at by themselves.

        Where there are any, all sources are handed back with the values read last, and this bulk has ended.
        `listing` has the inodes of the directory's files by name, found before this call.
        """
        guarded = sigbus_guard.active()
        if not guarded and self._cut(range(len(self.sources))):
            # To read beyond a file's end would be the end of this process.
            self.close()
            return self.sources
        inodes = list(map(listing.get, self._names))
        stale = {number for number, inode in enumerate(inodes) if inode != self._inodes[number]} if inodes != self._inodes else set()
        look = self._columns.look()
        stale.update(look.differ)
        # A file that is cut off behind its last key has lost a value, or a moment, and looks like one that changed.
        stale.update(self._cut(look.touched))
        grown = (look.heads != self._heads).nonzero()[0].tolist()
        more = self._more(grown, look, keys) if guarded and not stale else {}
        if stale or len(more) < len(grown):
            self._columns.keep(look, but=stale)
            self.close()
            return [self.sources[number] for number in sorted(stale.union(grown))]
        self._columns.keep(look)
        if more:
            self._take_in(more, look)
        return []

    def unsettled(self) -> list[Source]:
        """The sources that have samples for which there is no cell yet."""
        if self._cell_ends == self._columns.ends:
            return []
        return [source for source, placed in zip(self.sources, self._placed, strict=True) if placed.count < len(source.keys)]

    def settle(self) -> None:
        """Take over the places that the layout gave to new samples."""
        ends = self._columns.ends
        if self._cell_ends == ends:
            return
        np, more = self._np, [placed.take_more() for placed in self._placed]
        fresh = np.array([cell for cells in more for cell in cells], dtype=np.intp)
        self._cells.insert(self._cell_ends, fresh, np.cumsum([len(cells) for cells in more]).tolist())
        self._cell_ends = ends
        self._group()

    def totals(self, size: int, between: Sequence[Summands] = ()) -> tuple[Any, Any]:
        """What the files have in each cell, no value where none has one that was not removed; and since when, for most recent gauges.

        Sums have in them what is `between` the files, in its place.
        """
        values, groups = self._columns.values, self._groups
        starts = (0, *self._cell_ends)
        others = [(starts[each.before], each.cells, each.values) for each in between]
        totals, stamps = groups["sum"].summed(values, size, others), self._np.full(size, NO_VALUE)
        for rule in ("all", "max", "min"):
            groups[rule].merge(values, totals)
        groups["recent"].newest(values, self._columns.moments, totals, stamps)
        return totals, stamps

    def close(self) -> None:
        """Give every source its vectors, for whoever reads it by itself from now on."""
        for number, (source, placed) in enumerate(zip(self.sources, self._placed, strict=True)):
            source.take_back(*self._columns.part(number))
            placed.take_back(self._cells_of(number).copy())

    def _cut(self, numbers: Iterable[int]) -> list[int]:
        """Which of these files end before what is read of them."""
        found = ((number, regular_file.inode_and_size(self.sources[number].path)) for number in numbers)
        return [number for number, look in found if isinstance(look, tuple) and look[1] < self._used[number]]

    def _more(self, grown: Sequence[int], look: Look, keys: Keys) -> dict[int, Parsed]:
        """The records that these files have behind those that are known; none at all where there is anything else in one of them."""
        found = {}
        used = look.heads.view(self._np.int32)[::2].tolist()
        for number in grown:
            start, end, mapping = self._used[number], used[number], self._mappings[number]
            if not start < end <= mapping.size:
                return {}
            # A copy: parsing is not done on what may change.
            records = parse(bytes(mapping.memory[start:end]), start, end, keys)
            if records.damage:
                return {}
            found[number] = records
        return found

    def _take_in(self, more: Mapping[int, Parsed], look: Look) -> None:
        """Have these records, by the number of the file."""
        self._heads = look.heads
        self._used = look.heads.view(self._np.int32)[::2].tolist()
        lineages = look.heads.view(self._np.uint32)[1::2].tolist()
        for number, records in more.items():
            self.sources[number].gained(records.keys, self._used[number], Lineage.of(lineages[number]))
        self._columns.extend([more[number].ends if number in more else [] for number in range(len(self.sources))])

    def _group(self) -> None:
        """Merge by these cells from now on."""
        cells = self._cells.now
        self._groups: dict[str, Group] = {}
        count = start = 0
        for rule in ORDER:
            count += self._rules.count(rule)
            end = self._cell_ends[count - 1] if count else 0
            self._groups[rule] = Group(self._vectors, rule, cells[start:end], start)
            start = end

    def _cells_of(self, number: int) -> Any:
        return self._cells.now[self._cell_ends[number - 1] if number else 0 : self._cell_ends[number]]
