"""The families of all collector snapshots of a directory.

Any bytes are answered: a bad file leaves the last good families in place and is named in `troubles`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric

from monitoring.log_once import LogOnce
from monitoring.multiprocess import text_format
from monitoring.multiprocess.linux import regular_file
from monitoring.multiprocess.storage import paths
from monitoring.multiprocess.storage.collector_snapshot import decode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_MOST_BYTES = 64 << 20
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
_log = logging.getLogger(__name__)


class Snapshots:
    """The collected families of a directory; keep it, since a file that has not changed is not read again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, tuple[tuple[int, ...], list[Metric]]] = {}
        self._merged: list[Metric] = []
        self._texts: dict[tuple[str, bool], str] = {}
        self._problems = LogOnce(_log)
        #: How many files are bad, by reason.
        self.troubles: Counter[str] = Counter()

    def read(self, clean_slots: Collection[int]) -> list[Metric]:
        """Return the families, sorted by name: none where no slot is clean. It is the same list while nothing has changed."""
        self.troubles = Counter()
        names = [paths.SHARED_SNAPSHOT, *(paths.own_snapshot(slot) for slot in sorted(clean_slots))] if clean_slots else []
        found = {name: entry for name in names if (entry := self._look(name)) is not None}
        if found != self._files:
            self._files = found
            self._merged, self._texts = _merge(families for _, families in found.values()), {}
        return self._merged

    def beside(self, taken: Iterable[tuple[str, str]]) -> list[Metric]:
        """Return the families without those whose names `taken` (name and type) has: these are logged once."""
        if not self._merged:
            return []
        names = {name for family in taken for name in _names(*family)}
        clashing = {metric.name for metric in self._merged if not names.isdisjoint(_names(metric.name, metric.type))}
        for name in sorted(clashing):
            self._problems.warn(f"collected family {name} is left out: a metric of the same name is declared; rename one of them")
        return [metric for metric in self._merged if metric.name not in clashing]

    def text(self, metric: Metric, *, openmetrics: bool) -> str:
        """Return the exposition of one of these families, rendered once."""
        key = (metric.name, openmetrics)
        if key not in self._texts:
            self._texts[key] = text_format.family(metric, openmetrics=openmetrics)
        return self._texts[key]

    def _look(self, name: str) -> tuple[tuple[int, ...], list[Metric]] | None:
        path = f"{self._directory}/{name}"
        former = self._files.get(name)
        try:
            info = os.lstat(path)
        except OSError:
            return None
        stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
        if former and former[0] == stamp:
            return former
        content = "corrupt" if info.st_size > _MOST_BYTES else regular_file.read(path)
        if content == "missing":
            return None
        if not isinstance(content, str):
            try:
                return stamp, decode(content[0])
            except ValueError:
                content = "corrupt"
        self.troubles[content] += 1
        self._problems.warn(f"{path} is {content}; the families that it held last are kept")
        return ((), former[1]) if former else None


def _merge(contents: Iterable[list[Metric]]) -> list[Metric]:
    """Merge families of equal names: the first one's type, and each series once."""
    merged: dict[str, Metric] = {}
    seen: set[Any] = set()
    for families in contents:
        for metric in families:
            whole = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit))
            if whole.type != metric.type:
                continue
            for sample in metric.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())), repr(sample.timestamp))
                if key not in seen:
                    seen.add(key)
                    whole.samples.append(sample)
    return [merged[name] for name in sorted(merged)]


def _names(name: str, kind: str) -> list[str]:
    return [name, *(name + suffix for suffix in _SUFFIXES.get(kind, ()))]
