"""The samples of all files of a directory, read and merged in a few steps for all of them together.

The directory's listing shows whether they are still the same files, and their mappings are read as one memory. Appended records
are added. A file that differs from before is read again on its own (`Source.read`), and a new batch is made with its samples. The
samples of a file that cannot be read stay as they are, in a copy.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.linux import regular_file, sigbus_guard

from .batch_columns import Columns
from .merge_rules import ORDER, Group, group, rule_of
from .record_parser import parse
from .sample_layout import REASONS
from .samples import Copy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .batch_columns import Look
    from .key_table import Keys
    from .sample_layout import Layout
    from .samples import Samples
    from .source import Source
    from .vectors import PlainVectors

_HIDDEN = -1 - len(REASONS)
_USED = struct.Struct("i4x")


class Batch:
    """The samples of these sources. Those that are placed have their lines in `layout`."""

    def __init__(self, vectors: PlainVectors, files: Iterable[tuple[Source, Samples]], layout: Layout | None) -> None:
        # Sums of floats depend on the order in which files are added: it must not change while they stay.
        files = sorted(files, key=lambda file: (ORDER.index(rule_of(file[0].mode)), file[0].order))
        self.layout = layout
        self.sources = [source for source, _ in files]
        #: How many of the shown samples are left out of the merge, by reason.
        self.mixed: Counter[str] = Counter()
        self._vectors = vectors
        self._numbers = {source: number for number, source in enumerate(self.sources)}
        self._rules = [rule_of(source.mode) for source in self.sources]
        # Of the listing, where it may be another one than `stat` returns.
        self._inodes = [samples.inode for _, samples in files]
        self._memories = [samples.memory for _, samples in files]
        self._keys = [samples.keys for _, samples in files]
        #: The files whose list of keys no other file shares.
        self._own_keys: set[int] = set()
        self._heads = [samples.head for _, samples in files]
        self._placed = [samples.placed for _, samples in files]
        self._columns = Columns(vectors, [samples for _, samples in files], self._rules.count("recent"))
        self._shown: list[bool] = []
        self._groups: list[Group] = []

    def __contains__(self, source: Source) -> bool:
        return source in self._numbers

    def samples(self, source: Source) -> Samples | None:
        """Return the samples of one source as they were read last; None where it has none."""
        number = self._numbers.get(source)
        if number is None:
            return None
        samples = self._columns.samples(number, self._keys[number], self._heads[number])
        return samples._replace(placed=self._placed[number], inode=self._inodes[number])

    def count(self, source: Source) -> int:
        """Return how many samples a source has."""
        return len(self._keys[self._numbers[source]]) if source in self else 0

    def is_copy(self, source: Source) -> bool:
        """Whether the samples of a source are read from a copy, and stay as they are."""
        return isinstance(self._memories[self._numbers[source]], Copy)

    def read(self, listing: Mapping[str, int], keys: Keys) -> set[str]:
        """Read all files again, and records that were appended. Return the names of files to be read on their own.

        `listing` has the inodes of the directory's files by name, found before this call.
        """
        guarded = sigbus_guard.active()
        if not guarded and self._cut_off(range(len(self.sources))):
            # To read beyond a file's end would end this process.
            return {source.name for source in self.sources}
        stale = {number for number, source in enumerate(self.sources) if listing.get(source.name) != self._inodes[number]}
        look = self._columns.look()
        lacking = {number for number, source in enumerate(self.sources) if source.carried and not source.trouble}
        stale |= look.differ
        # A file that was cut off behind its last key reads as if its last value or timestamp had changed.
        stale.update(self._cut_off({*look.touched, *lacking}))
        grown = {number for number, (head, before) in enumerate(zip(look.heads, self._heads, strict=True)) if head != before}
        more = self._appended(grown - stale, look, keys) if guarded else {}
        stale |= grown - more.keys()
        self._columns.keep(look, but=stale)
        self._correct(lacking - stale)
        if more:
            self._take_in(more, look)
        return {self.sources[number].name for number in stale}

    def place(self, layout: Layout, clean_slots: set[int] | None) -> None:
        """Give all samples that are shown their lines in the layout. Repeat it with another layout where this one became stale.

        Live gauges are shown while their slot is clean; nothing is shown where `clean_slots` is None.
        """
        if layout is not self.layout:
            self.layout, self._placed = layout, [0] * len(self.sources)
            self._groups = []
        writing = {None, *(clean_slots or ())}
        shown = [clean_slots is not None and (not source.live or source.slot in writing) for source in self.sources]
        new = [number for number, keys in enumerate(self._keys) if shown[number] and self._placed[number] < len(keys)]
        found = layout.place([(self.sources[number], self._unplaced(number)) for number in new])
        for number, lines in zip(new, found, strict=True):
            start, end = self._columns.span(number)
            self._columns.lines[start + self._placed[number] : end] = lines
            self._placed[number] = len(self._keys[number])
        if new or shown != self._shown or not self._groups:
            self._shown = shown
            self._group()

    def totals(self, size: int) -> tuple[Any, Any]:
        """Return the merged value of each line (no value where no file has one), and its timestamp for most recent gauges."""
        totals, stamps = self._vectors.blank(size), self._vectors.blank(size)
        for each in self._groups:
            each.merge(self._columns.values, self._columns.moments, totals, stamps)
        return totals, stamps

    def used_keys(self) -> set[int]:
        """Return the numbers of all keys."""
        return set().union(*self._keys)

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Use the numbers of another key table."""
        self._keys = [[numbers[key] for key in keys] for keys in self._keys]

    def _unplaced(self, number: int) -> list[int]:
        """Return the keys of a file's samples that have no line yet: the list that files share, where it is all of them."""
        keys, placed = self._keys[number], self._placed[number]
        return keys[placed:] if placed else keys

    def _cut_off(self, numbers: Iterable[int]) -> list[int]:
        """Which of these files end before the last record that is read of them."""
        cut = []
        for number in numbers:
            found = None if isinstance(self._memories[number], Copy) else regular_file.inode_and_size(self.sources[number].path)
            if isinstance(found, tuple) and found[1] < _used(self._heads[number]):
                cut.append(number)
        return cut

    def _appended(self, grown: Iterable[int], look: Look, keys: Keys) -> dict[int, tuple[list[int], list[int]]]:
        """Return the keys and ends of the records that these files have behind the known ones. Files with damage there are left out."""
        found = {}
        for number in grown:
            start, end, memory = _used(self._heads[number]), _used(look.heads[number]), self._memories[number]
            if start < end <= memory.size:
                # A copy: memory that may change is not parsed.
                records = parse(bytes(memory.memory[start:end]), start, end, keys)
                if not records.damage:
                    found[number] = records.keys, records.ends
        return found

    def _take_in(self, more: Mapping[int, tuple[list[int], list[int]]], look: Look) -> None:
        for number, (keys, _) in more.items():
            if number in self._own_keys:
                self._keys[number] += keys
            else:
                self._keys[number] = self._keys[number] + keys
                self._own_keys.add(number)
            self._heads[number] = look.heads[number]
        self._columns.extend([more[number][1] if number in more else [] for number in range(len(self.sources))])
        self._correct(())
        self._groups = []

    def _correct(self, lacking: Iterable[int]) -> None:
        """Correct the values: -0.0 in files of other writers is a number, and lost amounts are added."""
        for number, source in enumerate(self.sources):
            if source.slot is None:
                self._vectors.show_zeros(self._columns.values, *self._columns.span(number))
        for number in lacking:
            self.sources[number].add_lost(self._columns.values, self._columns.span(number)[0])

    def _group(self) -> None:
        """Group the samples that are shown by the rule of merging."""
        lines, ends = self._columns.lines, [0, *self._columns.ends]
        if not all(self._shown):
            lines = self._vectors.joined([lines])
            for number, shown in enumerate(self._shown):
                if not shown:
                    self._vectors.fill(lines, *self._columns.span(number), _HIDDEN)
        self.mixed = Counter(REASONS[-1 - line] for line in self._vectors.left_out(lines) if line != _HIDDEN)
        self._groups, first = [], 0
        for rule in ORDER:
            last = first + self._rules.count(rule)
            self._groups.append(group(self._vectors, rule, lines[ends[first] : ends[last]], ends[first]))
            first = last


def _used(head: int) -> int:
    """How many bytes of a file are in use, by its first word."""
    used: int = _USED.unpack(head.to_bytes(8, sys.byteorder, signed=True))[0]
    return used or 8
