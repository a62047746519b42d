"""All value files of a directory, as a view knows them: which there are, what is wrong with them, and which are read in bulk."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from monitoring.multiprocess.storage import paths

from . import batch, directory_metrics, template_parser
from . import source as reader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .key_table import Keys
    from .sample_layout import Layout
    from .source import Source
    from .vectors import PlainVectors

_log = logging.getLogger(__name__)


class Reports:
    """What is wrong, each said once in the log until it has been right again."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, about: str, message: str) -> None:
        """Log a message unless something was said about this already."""
        if about not in self._said:
            self._said.add(about)
            _log.warning("%s", message)

    def right(self, about: str) -> None:
        """Let the next message be said again."""
        self._said.discard(about)


class Sources:
    """The sources of one run, by file name; `refresh` looks at the directory again."""

    def __init__(self, path: Path, vectors: PlainVectors, reports: Reports) -> None:
        self._path = path
        self._vectors = vectors
        self._reports = reports
        self._sources: dict[str, Source] = {}
        self._bulk: batch.Bulk | None = None
        self._patterns = template_parser.Patterns(vectors)
        #: The value files of the directory, and their inodes as the listing says.
        self._listing: dict[str, int] = {}

    def shown(self, clean_slots: set[int]) -> list[Source]:
        """Every source but those whose values ended with their writer."""
        return [source for source in self._sources.values() if not source.live or source.slot is None or source.slot in clean_slots]

    def refresh(self, keys: Keys) -> tuple[Counter[str], directory_metrics.Usage]:
        """Look at every file; gives how many are in trouble, by reason, and what all of them take."""
        self._listing = self._listed()
        known = self._refresh_bulk(keys)
        troubles: Counter[str] = Counter()
        files = size = 0
        for name in self._listing:
            source = self._sources.get(name) or reader.source(os.path.join(self._path, name), self._vectors, self._patterns)
            if source is None:
                troubles["foreign"] += 1
                self._reports.say(name, f"{self._path / name} is not named as a value file is; it is left out")
                continue
            if id(source) not in known:
                self._sources[name] = source
                source.refresh(keys)
            files, size = files + 1, size + source.size
        self._patterns.clear()
        self._keep_order()
        if len(self._sources) != files:
            for name in self._sources.keys() - self._listing.keys():
                self._sources[name].lost("missing")
        for name in [name for name, source in self._sources.items() if source.trouble == "missing" and not len(source.values)]:
            del self._sources[name]
        for name, source in self._sources.items():
            if source.trouble:
                troubles[source.trouble] += 1
                kept = f"its last good values ({len(source.keys)} samples) are kept"
                self._reports.say(name, f"{source.path} is {source.trouble}; {kept}")
            else:
                self._reports.right(name)
        return troubles, directory_metrics.Usage(files, size)

    def in_bulk(self, layout: Layout, shown: Sequence[Source]) -> tuple[batch.Bulk | None, list[Source]]:
        """What is added up in bulk, and the rest of the sources shown, all of them read and placed."""
        fitting = [source for source in shown if batch.fits(source)]
        if self._bulk is None or self._bulk.layout is not layout or self._bulk.given != fitting:
            self.end_bulk()
            self._bulk = batch.bulk_of(self._vectors, layout, fitting, self._listing)
        if self._bulk is None:
            return None, list(shown)
        self._bulk.settle()
        return self._bulk, [source for source in shown if id(source) not in self._bulk.known]

    def unplaced(self, layout: Layout, shown: Sequence[Source]) -> list[Source]:
        """The sources shown that may have samples without a place in this layout."""
        if self._bulk is None or self._bulk.layout is not layout:
            return list(shown)
        open_ = frozenset(map(id, self._bulk.unsettled()))
        return [source for source in shown if id(source) not in self._bulk.known or id(source) in open_]

    def end_bulk(self) -> None:
        """Read every source by itself again: their places, or the layout, are about to change."""
        if self._bulk is not None:
            self._bulk.close()
            self._bulk = None

    def kept_keys(self) -> set[int]:
        """The numbers of all keys that a source has."""
        return set().union(*(keys for source in self._sources.values() for keys in (source.keys, source.carried)))

    def renumber(self, numbers: dict[int, int]) -> None:
        """Follow a table of keys that was made anew."""
        self.end_bulk()
        for source in self._sources.values():
            source.renumber(numbers)

    def _keep_order(self) -> None:
        """Add files in the order of their slots, then other files by name, however the directory lists them.

        In another order a sum of floats may differ in its last bit, and a sum that falls reads as a counter that was reset.
        """
        ordered = sorted(self._sources.items(), key=lambda item: (item[1].slot is None, item[1].slot or 0, item[0]))
        if list(self._sources) != [name for name, _ in ordered]:
            self._sources = dict(ordered)

    def _refresh_bulk(self, keys: Keys) -> frozenset[int]:
        """Read what is in bulk; the sources, by identity, that need no other look in this scrape."""
        if self._bulk is None:
            return frozenset()
        known, others = self._bulk.known, self._bulk.read(self._listing, keys)
        if others:
            self._bulk = None
            for source in others:
                source.refresh(keys)
        return known

    def _listed(self) -> dict[str, int]:
        try:
            with os.scandir(self._path) as entries:
                return {entry.name: entry.inode() for entry in entries if paths.is_value_file(entry.name)}
        except OSError as error:
            self._reports.say(
                str(self._path),
                f"metrics directory {self._path} cannot be listed: {error}; the last values are kept",
            )
            return {}
