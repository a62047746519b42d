"""All value files of a directory: the good ones, the bad ones and why, and the batch of their samples."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING

from monitoring.log_once import LogOnce
from monitoring.multiprocess.linux import regular_file
from monitoring.multiprocess.storage import paths

from . import directory_metrics, template_parser
from .batch import Batch
from .source import new_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .key_table import Keys
    from .samples import Samples
    from .source import Source
    from .vectors import PlainVectors

_log = logging.getLogger(__name__)


class SourceSet:
    """The sources of one run, and the batch of their samples; `refresh` looks at the directory again."""

    def __init__(self, path: Path, vectors: PlainVectors) -> None:
        self._path = path
        self._vectors = vectors
        self._problems = LogOnce(_log)
        self._sources: dict[str, Source] = {}
        self._templates = template_parser.Templates(vectors)
        self.batch = Batch(vectors, (), None)

    def refresh(self, keys: Keys) -> tuple[Counter[str], directory_metrics.Usage]:
        """Look at every file. Return how many are in trouble, by reason, and what all of them take."""
        problems: dict[str, str] = {}
        listing = self._listed(problems)
        changed = self.batch.read(listing, keys)
        found: dict[str, Samples] = {}
        troubles: Counter[str] = Counter()
        try:
            for name in listing:
                source = self._sources.get(name) or new_source(os.path.join(self._path, name))
                if source is None:
                    troubles["foreign"] += 1
                    problems[name] = f"{self._path / name} is not named as a value file is; it is left out"
                elif source.trouble or name in changed or source not in self.batch:
                    self._sources[name] = source
                    samples = source.read(self.batch.samples(source), keys, self._templates, self._vectors)
                    if samples is not None:
                        found[name] = samples._replace(inode=listing[name])
            for name in self._sources.keys() - listing.keys():
                self._sources[name].lost("missing")
        finally:
            # Also where this process lacked the means to read them all: the sources that were read have changed.
            self._templates.clear()
            self._replace_batch(found)
        here = [source for name, source in self._sources.items() if name in listing]
        for name, source in self._sources.items():
            if source.trouble:
                troubles[source.trouble] += 1
                kept = f"its last good values ({self.batch.count(source)} samples) are kept"
                problems[name] = f"{source.path} is {source.trouble}; {kept}"
        self._problems.clear(but=problems)
        for name, problem in problems.items():
            self._problems.warn(problem, name)
        return troubles, directory_metrics.Usage(len(here), sum(source.size for source in here))

    def used_keys(self) -> set[int]:
        """Return the numbers of all keys that a source has."""
        return self.batch.used_keys().union(*(source.used_keys() for source in self._sources.values()))

    def renumber(self, numbers: dict[int, int]) -> None:
        """Use the numbers of another key table."""
        self.batch.renumber(numbers)
        for source in self._sources.values():
            source.renumber(numbers)

    def _replace_batch(self, found: Mapping[str, Samples]) -> None:
        """Make a new batch where samples were read by themselves, or the samples of a file that cannot be read are to stay."""
        batch, vectors = self.batch, self._vectors
        for name in [name for name, source in self._sources.items() if source.trouble == "missing"]:
            if not (self._sources[name].cumulative and batch.count(self._sources[name])):
                del self._sources[name]
        known = [source for name, source in self._sources.items() if name in found or source in batch]
        damaged = [source for source in known if source.trouble and not batch.is_copy(source)]
        if not (found or damaged) and len(known) == len(batch.sources):
            return
        files = []
        for source in known:
            samples = found.get(source.name) or batch.samples(source)
            assert samples is not None
            files.append((source, samples.copied(vectors) if source in damaged else samples))
        self.batch = Batch(vectors, files, batch.layout)

    def _listed(self, problems: dict[str, str]) -> dict[str, int]:
        """Return the value files of the directory, and their inodes in its listing."""
        try:
            with os.scandir(self._path) as entries:
                return {entry.name: entry.inode() for entry in entries if paths.is_value_file(entry.name)}
        except OSError as error:
            if error.errno in regular_file.LACKING:
                raise
            problems[""] = f"metrics directory {self._path} cannot be listed: {error}; the last values are kept"
            return {}
