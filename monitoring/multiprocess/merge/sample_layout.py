"""The layout of the merged result: families in order of name, and a numbered line for each of their samples.

A key is placed once; a new series appends. The rules of merging are prometheus_client's own; on top of them a family's newest
declaration decides which samples count, and old histogram bounds go to the smallest current bound that is not below them.
"""

from __future__ import annotations

from bisect import bisect_left
from math import isnan
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric

from monitoring.multiprocess import text_format
from monitoring.multiprocess.storage.record_format import removed

from .family_lines import FamilyLines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from monitoring.multiprocess.storage.declarations import Family

    from .family_lines import Kind, Labels
    from .key_table import Key, Keys
    from .source import Source
    from .vectors import PlainVectors

#: Why a sample is left out of the merge. Its line is the reason's position here, counted from -1 downwards.
REASONS = ("bucket", "mode", "name", "type")
_BUCKET, _MODE, _NAME, _TYPE = (-1 - place for place in range(len(REASONS)))


class Layout:
    """The lines of every family. The merged values are a vector with an entry for each line."""

    def __init__(self, keys: Keys, declared: Mapping[str, Family], vectors: PlainVectors) -> None:
        self.families: dict[str, FamilyLines] = {}
        #: A bound appeared within a block: another layout is needed.
        self.stale = False
        self._keys = keys
        self._vectors = vectors
        # By line. Lists of their own and not of tuples, which the garbage collector would look through.
        self._owners: list[FamilyLines] = []
        self._places: list[int] = []
        self._names: list[str] = []
        self._labels: list[Labels] = []
        self._prefixes: list[str] = []
        self._tables: dict[tuple[Kind, str], _Lines] = {}
        self._order: list[FamilyLines] = []
        self._rows: dict[tuple[str, int], list[int]] = {}
        self._matrices: dict[tuple[str, int], tuple[int, Any]] = {}
        self._declared: dict[str, Family] = {}
        self.declare(declared)

    @property
    def size(self) -> int:
        """The number of lines."""
        return len(self._owners)

    def declare(self, declared: Mapping[str, Family]) -> None:
        """Add declarations. One that changed, or came after its samples, makes the layout stale."""
        for name, family in declared.items():
            if self._declared.get(name) == family:
                continue
            if name in self.families:
                self.stale = True
                return
            self._declared[name] = family
            self._new_family(name, family.stored_as, family.help, family)
        self.stale = self.stale or not self._declared.keys() <= declared.keys()

    def place(self, samples: Sequence[tuple[Source, list[int]]]) -> list[Any]:
        """Return the lines of samples with these keys in these sources, or why they have none, as one vector for each source.

        A list of keys that sources share is looked at once.
        """
        tables = [self._table(source) for source, _ in samples]
        fresh: dict[Kind, dict[int, None]] = {}
        looked_at: set[int] = set()
        for (source, keys), table in zip(samples, tables, strict=True):
            if source.type == "histogram" and id(keys) not in looked_at:
                looked_at.add(id(keys))
                fresh.setdefault((source.type, source.mode), {}).update((number, None) for number in keys if number not in table)
        self._learn(fresh)
        found: dict[tuple[int, int], Any] = {}
        for (_, keys), table in zip(samples, tables, strict=True):
            if (id(table), id(keys)) not in found:
                found[id(table), id(keys)] = self._vectors.indexes([table[key] for key in keys])
        return [found[id(table), id(keys)] for (_, keys), table in zip(samples, tables, strict=True)]

    def finish(self, totals: Any, stamps: Any) -> None:
        """Turn merged values into those that are shown: buckets become cumulative, an Info or Enum keeps only the state set last."""
        for at, starts in self._rows.items():
            count, rows = self._matrices.get(at, (0, None))
            if count != len(starts):
                rows = self._vectors.rows(starts, at[1])
                self._matrices[at] = (len(starts), rows)
            self._vectors.cumulate(totals, rows)
        for family in self._order:
            for lines in family.groups.values():
                newest = max(stamps[line] for line in lines)
                for line in lines:
                    if stamps[line] < newest:
                        totals[line] = -0.0

    def write(self, lines: list[int], numbers: list[float]) -> None:
        """Render the lines whose number changed."""
        owners, places, prefixes, low, high = self._owners, self._places, self._prefixes, -text_format.EXPONENT, text_format.EXPONENT
        for line, value in zip(lines, numbers, strict=True):
            family = owners[line]
            if low < value < high:
                text = f"{prefixes[line]}{value!r}\n" if value or not removed(value) else ""
            else:
                text = f"{prefixes[line]}{text_format.number(value)}\n"
            family.line_texts[places[line]] = text
            if family.texts:
                family.texts = {}

    def texts(self, *, openmetrics: bool) -> Iterator[tuple[str, bytes]]:
        """Yield the name and exposition of each family, in order of name."""
        for family in self._order:
            yield family.name, family.text(openmetrics=openmetrics)

    def names(self) -> Iterator[tuple[str, str]]:
        """Return the name and type of each family."""
        return ((family.name, family.type) for family in self._order if family.lines or family.declared)

    def metrics(self, shown: Any) -> Iterator[Metric]:
        """Yield the families as prometheus_client's objects, with the numbers shown."""
        for family in self._order:
            metric = Metric(family.name, family.help, family.type)
            for line in family.lines:
                value = float(shown[line])
                if not removed(value):
                    metric.add_sample(self._names[line], dict(self._labels[line]), value)
            if metric.samples or family.declared:
                yield metric

    def place_key(self, number: int, kind: Kind, own: str) -> int:
        """Return the line of a key in a file of this kind, or why it has none. `own` is the file's identifier if each has its own line."""
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
        line = family.by_identity.get(key.identity)
        if line is not None:
            return line
        if kind[0] == "histogram":
            return self._place_in_histogram(family, key)
        return self._line(family, key.name, key.labels, key.prefix, exact=key.identity is key.prefix)

    def _learn(self, fresh: dict[Kind, dict[int, None]]) -> None:
        """Lay out label sets of histograms that are not declared, once all their bounds in all files are known."""
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

    def _table(self, source: Source) -> _Lines:
        kind = (source.type, source.mode)
        # Only in these modes each file has its own line.
        at = (kind, source.identifier if source.mode.removeprefix("live") == "all" else "")
        found = self._tables.get(at)
        if found is None:
            found = self._tables[at] = _Lines(self, kind, at[1])
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
        """Add the lines of one label set of a histogram, together and in prometheus_client's order: sum, buckets, count."""
        name, texts = f"{family.name}_sum", [text_format.pair(pair) for pair in labels]
        exact = text_format.exact(family.name, (label for label, _ in labels))
        self._line(family, name, labels, text_format.line(name, ",".join(texts)), exact=exact)
        start, name, at = self.size, f"{family.name}_bucket", bisect_left(labels, ("le",))
        family.blocks[labels] = (start, bounds)
        for bound in bounds:
            le, text = text_format.le(bound)
            self._add(family, name, (*labels, le), text_format.line(name, ",".join([*texts[:at], text, *texts[at:]])), exact=exact)
        # The count always follows the buckets: it is their last sum.
        name = f"{family.name}_count"
        self._add(family, name, labels, text_format.line(name, ",".join(texts)), exact=exact)
        self._rows.setdefault((family.name, len(bounds)), []).append(start)

    def _line(self, family: FamilyLines, name: str, labels: Labels, prefix: str, *, exact: bool) -> int:
        line = family.by_identity.get(prefix if exact else text_format.identity(name, labels, prefix, exact=False))
        if line is None:
            line = self._add(family, name, labels, prefix, exact=exact)
        if family.described and family.declared:
            own = set(family.declared.labels)
            lines = family.groups.setdefault(tuple(pair for pair in labels if pair[0] in own), [])
            if line not in lines:
                lines.append(line)
        return line

    def _add(self, family: FamilyLines, name: str, labels: Labels, prefix: str, *, exact: bool) -> int:
        line = family.by_identity[text_format.identity(name, labels, prefix, exact=exact)] = len(self._owners)
        self._owners.append(family)
        self._places.append(len(family.line_texts))
        self._names.append(name)
        self._labels.append(labels)
        self._prefixes.append(prefix)
        family.line_texts.append("")
        family.lines.append(line)
        return line


class _Lines(dict[int, int]):
    """The line of each key in files of one kind, found at its first use."""

    def __init__(self, layout: Layout, kind: Kind, own: str) -> None:
        self._place = layout.place_key
        self._kind = kind
        self._own = own

    def __missing__(self, number: int) -> int:
        line = self[number] = self._place(number, self._kind, self._own)
        return line


def _bound(key: Key) -> float | None:
    try:
        bound = next(float(text) for label, text in key.labels if label == "le")
    except (StopIteration, ValueError):
        return None
    return None if isnan(bound) else bound


def _without(labels: Labels, name: str) -> Labels:
    return tuple(pair for pair in labels if pair[0] != name)
