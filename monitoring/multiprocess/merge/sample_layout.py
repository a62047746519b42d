"""Where each sample of the merged view stands: families in order of name, a line for each sample, a cell of one vector for each line.

A key is placed once; a new series appends. The rules of merging are prometheus_client's own; on top of them a family's newest
declaration decides which samples count, and old histogram bounds go to the smallest current bound that is not below them.
"""

from __future__ import annotations

from bisect import bisect_left
from math import isnan
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric

from monitoring.multiprocess import text_format

from .family_lines import FamilyLines
from .source_cells import REASONS, Placed
from .vectors import is_no_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from monitoring.multiprocess.storage.declarations import Family

    from .family_lines import Kind, Labels
    from .key_table import Key, Keys
    from .source import Source
    from .vectors import PlainVectors

_BUCKET, _MODE, _NAME, _TYPE = (-1 - place for place in range(len(REASONS)))


class Layout:
    """The lines of every family, and the places of every source's samples in them."""

    def __init__(self, keys: Keys, declared: Mapping[str, Family], vectors: PlainVectors) -> None:
        self.families: dict[str, FamilyLines] = {}
        #: A bound appeared within a block: everything is to be laid out anew.
        self.stale = False
        self._keys = keys
        self._vectors = vectors
        # By cell. Lists of their own and not of tuples, which the garbage collector would look through.
        self._owners: list[FamilyLines] = []
        self._places: list[int] = []
        self._names: list[str] = []
        self._labels: list[Labels] = []
        self._prefixes: list[str] = []
        self._cells: dict[tuple[Kind, str], _Cells] = {}
        self._order: list[FamilyLines] = []
        self._rows: dict[tuple[str, int], list[int]] = {}
        self._matrices: dict[tuple[str, int], tuple[int, Any]] = {}
        self._declared: dict[str, Family] = {}
        self.declare(declared)

    @property
    def size(self) -> int:
        """The number of lines, and of cells."""
        return len(self._owners)

    def declare(self, declared: Mapping[str, Family]) -> None:
        """Take in declarations; one that changed, or came after its samples, makes the layout stale."""
        for name, family in declared.items():
            if self._declared.get(name) == family:
                continue
            if name in self.families:
                self.stale = True
                return
            self._declared[name] = family
            self._new_family(name, family.stored_as, family.help, family)
        self.stale = self.stale or not self._declared.keys() <= declared.keys()

    def place(self, sources: Sequence[Source]) -> None:
        """Give every sample of the sources its place; only keys that came since the last time are looked at."""
        grown = [source for source in sources if self._placed(source).count < len(source.keys)]
        fresh: dict[Kind, dict[int, None]] = {}
        looked_at: set[int] = set()
        for source in grown:
            if source.type == "histogram" and id(source.keys) not in looked_at:
                looked_at.add(id(source.keys))
                placed = source.placed
                fresh.setdefault((source.type, source.mode), {}).update(
                    (number, None) for number in source.keys[placed.count :] if number not in placed.table
                )
        self._learn(fresh)
        alike: dict[tuple[int, int], Placed] = {}
        for source in grown:
            placed, table, keys = source.placed, source.placed.table, source.keys
            if placed.count:
                placed.add([table[key] for key in keys[placed.count :]])
                continue
            same = alike.setdefault((id(table), id(keys)), placed)
            if same is placed:
                placed.add([table[key] for key in keys])
            else:
                placed.add_same(same)

    def _placed(self, source: Source) -> Placed:
        placed: Placed | None = source.placed
        if placed is None or placed.layout is not self:
            placed = source.placed = Placed(self, self._cells_of(source), self._vectors)
        return placed

    def carried(self, source: Source) -> tuple[list[int], list[float]]:
        """Cells and amounts of what a source has lost and still counts."""
        cells = self._placed(source).table
        self._learn({(source.type, source.mode): dict.fromkeys(number for number in source.carried if number not in cells)})
        pairs = [(cells[key], amount) for key, amount in source.carried.items()]
        return [cell for cell, _ in pairs if cell >= 0], [amount for cell, amount in pairs if cell >= 0]

    def finish(self, totals: Any, stamps: Any) -> None:
        """From merged cells to what is shown: buckets become cumulative, an Info or Enum keeps only what was said last."""
        for at, starts in self._rows.items():
            count, rows = self._matrices.get(at, (0, None))
            if count != len(starts):
                rows = self._vectors.rows(starts, at[1])
                self._matrices[at] = (len(starts), rows)
            self._vectors.cumulate(totals, rows)
        for family in self._order:
            for cells in family.groups.values():
                newest = max(stamps[cell] for cell in cells)
                for cell in cells:
                    if stamps[cell] < newest:
                        totals[cell] = -0.0

    def write(self, cells: list[int], numbers: list[float]) -> None:
        """Render the lines whose number changed."""
        owners, places, prefixes, low, high = self._owners, self._places, self._prefixes, -text_format.EXPONENT, text_format.EXPONENT
        for cell, value in zip(cells, numbers, strict=True):
            family = owners[cell]
            if low < value < high:
                line = f"{prefixes[cell]}{value!r}\n" if value or not is_no_value(value) else ""
            else:
                line = f"{prefixes[cell]}{text_format.number(value)}\n"
            family.lines[places[cell]] = line
            if family.texts:
                family.texts = {}

    def texts(self, *, openmetrics: bool) -> Iterator[tuple[str, bytes]]:
        """Name and exposition of each family, in order of name."""
        for family in self._order:
            yield family.name, family.text(openmetrics=openmetrics)

    def names(self) -> Iterator[tuple[str, str]]:
        """Name and type of each family."""
        return ((family.name, family.type) for family in self._order if family.cells or family.declared)

    def metrics(self, shown: Any) -> Iterator[Metric]:
        """The families as prometheus_client's objects, with the numbers shown."""
        for family in self._order:
            metric = Metric(family.name, family.help, family.type)
            for cell in family.cells:
                value = float(shown[cell])
                if not is_no_value(value):
                    metric.add_sample(self._names[cell], dict(self._labels[cell]), value)
            if metric.samples or family.declared:
                yield metric

    def place_key(self, number: int, kind: Kind, own: str) -> int:
        """The cell of one key in a file of this kind, or why it has none; `own` is the file's identifier where it shows by itself."""
        key = self._keys.parsed[number]
        family = self._family_of(key, kind)
        if key is None or family is None:
            return _NAME
        if family.stored_as != kind:
            return _TYPE if family.stored_as[0] != kind[0] else _MODE
        if own or (kind[0] == "gauge" and 'pid="' in key.prefix):
            labels = tuple(pair for pair in key.labels if pair[0] != "pid")
            labels = (*labels, ("pid", own)) if own else labels
            return self._line(family, key.name, labels, text_format.prefix(key.name, labels), exact=key.identity is key.prefix)
        cell = family.by_identity.get(key.identity)
        if cell is not None:
            return cell
        if kind[0] == "histogram":
            return self._place_in_histogram(family, key)
        return self._line(family, key.name, key.labels, key.prefix, exact=key.identity is key.prefix)

    def _learn(self, fresh: dict[Kind, dict[int, None]]) -> None:
        """Lay out label sets of histograms that nobody declared: all their bounds, of all files, have to be known first."""
        found: dict[tuple[str, Labels], set[float]] = {}
        for kind, numbers in fresh.items():
            for number in numbers:
                key = self._keys.parsed[number]
                family = self._family_of(key, kind)
                if key is None or family is None or family.declared or family.stored_as != kind:
                    continue
                bound = _bound(key)
                if bound is not None:
                    found.setdefault((family.name, _without(key.labels, "le")), set()).add(bound)
        for (name, labels), bounds in found.items():
            family = self.families[name]
            if labels not in family.blocks:
                self._new_block(family, labels, sorted(bounds))

    def _cells_of(self, source: Source) -> _Cells:
        kind = (source.type, source.mode)
        # Only these modes show each file by itself.
        at = (kind, source.identifier if source.mode.removeprefix("live") == "all" else "")
        found = self._cells.get(at)
        if found is None:
            found = self._cells[at] = _Cells(self, kind, at[1])
        return found

    def _family_of(self, key: Key | None, kind: Kind) -> FamilyLines | None:
        if key is None:
            return None
        family = self.families.get(key.family)
        return family or self._new_family(key.family, kind, key.help, None)

    def _new_family(self, name: str, stored_as: Kind, text: str, declared: Family | None) -> FamilyLines | None:
        try:
            Metric(name, text, declared.type if declared else stored_as[0])
            family = FamilyLines(name, stored_as, text, declared)
        except ValueError:
            return None
        self.families[name] = family
        self._order = sorted(self.families.values(), key=lambda each: each.name)
        return family

    def _place_in_histogram(self, family: FamilyLines, key: Key) -> int:
        if not any(label == "le" for label, _ in key.labels):
            block = family.blocks.get(key.labels)
            if block is None and family.bounds and key.name == f"{family.name}_sum":
                self._new_block(family, key.labels, family.bounds)
            return self._line(family, key.name, key.labels, key.prefix, exact=key.identity is key.prefix)
        bound = _bound(key)
        if bound is None:
            return _BUCKET
        labels = _without(key.labels, "le")
        if labels not in family.blocks:
            self._new_block(family, labels, family.bounds or [bound])
        start, bounds = family.blocks[labels]
        at = bisect_left(bounds, bound)
        if not family.declared and (at == len(bounds) or bounds[at] != bound):
            self.stale = True
            return _BUCKET
        return start + min(at, len(bounds) - 1)

    def _new_block(self, family: FamilyLines, labels: Labels, bounds: list[float]) -> None:
        """The lines of one label set of a histogram, together and in upstream's order: sum, buckets, count."""
        name, texts = f"{family.name}_sum", [text_format.pair(pair) for pair in labels]
        exact = text_format.exact(family.name, (label for label, _ in labels))
        self._line(family, name, labels, text_format.line(name, ",".join(texts)), exact=exact)
        start, name, at = self.size, f"{family.name}_bucket", bisect_left(labels, ("le",))
        family.blocks[labels] = (start, bounds)
        for bound in bounds:
            le, text = text_format.le(bound)
            self._add(family, name, (*labels, le), text_format.line(name, ",".join([*texts[:at], text, *texts[at:]])), exact=exact)
        # The count stands behind the buckets, always: it is their last sum.
        name = f"{family.name}_count"
        self._add(family, name, labels, text_format.line(name, ",".join(texts)), exact=exact)
        self._rows.setdefault((family.name, len(bounds)), []).append(start)

    def _line(self, family: FamilyLines, name: str, labels: Labels, prefix: str, *, exact: bool) -> int:
        cell = family.by_identity.get(prefix if exact else text_format.identity(name, labels, prefix, exact=False))
        if cell is None:
            cell = self._add(family, name, labels, prefix, exact=exact)
        if family.described and family.declared:
            own = set(family.declared.labels)
            cells = family.groups.setdefault(tuple(pair for pair in labels if pair[0] in own), [])
            if cell not in cells:
                cells.append(cell)
        return cell

    def _add(self, family: FamilyLines, name: str, labels: Labels, prefix: str, *, exact: bool) -> int:
        cell = family.by_identity[text_format.identity(name, labels, prefix, exact=exact)] = len(self._owners)
        self._owners.append(family)
        self._places.append(len(family.lines))
        self._names.append(name)
        self._labels.append(labels)
        self._prefixes.append(prefix)
        family.lines.append("")
        family.cells.append(cell)
        return cell


class _Cells(dict[int, int]):
    """The cell of each key in files of one kind, found at its first use."""

    def __init__(self, layout: Layout, kind: Kind, own: str) -> None:
        self._place = layout.place_key
        self._kind = kind
        self._own = own

    def __missing__(self, number: int) -> int:
        cell = self[number] = self._place(number, self._kind, self._own)
        return cell


def _bound(key: Key) -> float | None:
    try:
        bound = next(float(text) for label, text in key.labels if label == "le")
    except (StopIteration, ValueError):
        return None
    return None if isnan(bound) else bound


def _without(labels: Labels, name: str) -> Labels:
    return tuple(pair for pair in labels if pair[0] != name)
