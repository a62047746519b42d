"""The merged view: one collector that reads the metrics directory of all processes and answers as one.

It only reads, never raises for what a file holds, and shows a cold start as one step: files are read between two looks at the
run's generation, and again where that changed meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import exposition
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from . import families, lease, locks, merge, reader, run
from .store import DROPPED, REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.registry import CollectorRegistry

_ATTEMPTS = 50
_TROUBLES = ("corrupt", "empty", "foreign", "missing", "not_regular", "truncated", "unreadable")
_MIXED = ("bucket", "mode", "name", "type")
_log = logging.getLogger(__name__)
_views: weakref.WeakSet[MergedCollector] = weakref.WeakSet()


class MergedCollector:
    """Drop-in for prometheus_client's MultiProcessCollector that tolerates bad files and knows slots, runs and declarations.

    Registers itself with `registry` where one is given. `path` defaults to PROMETHEUS_MULTIPROC_DIR; ValueError where it is no
    directory. Fit for any process and thread.
    """

    def __init__(self, registry: CollectorRegistry | None, path: str | None = None) -> None:
        path = path or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not path or not os.path.isdir(path):
            message = f"PROMETHEUS_MULTIPROC_DIR is not set or not a directory: {path!r}; create it or pass path="
            raise ValueError(message)
        self._path = Path(path)
        self._generation = -1
        self._forget()
        _views.add(self)
        if registry:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Every family of the directory, sorted by name, then the kit's own."""
        with self._lock:
            yield from self._collect()

    def render(self, openmetrics: bool = False) -> bytes:
        """The text exposition of `collect()`, classic or OpenMetrics."""
        if openmetrics:
            return openmetrics_exposition.generate_latest(self)  # type: ignore[no-untyped-call,no-any-return]
        return exposition.generate_latest(self)

    def _collect(self) -> list[Metric]:
        sources, troubles, declared, (held, _) = self._read()
        mixed: Counter[str] = Counter()
        found: dict[str, Metric] = {}
        for name, family in sorted(merge.group(sources, declared, mixed).items()):
            try:
                found[name] = merge.merge(family, mixed)
            except ValueError:
                mixed["name"] += len(family.entries)
        ours = (self._path / locks.LOCK_FILE).exists()
        for metric in _kit(held, troubles, mixed, ours=ours):
            found.setdefault(metric.name, metric)
        return list(found.values())

    def _read(
        self,
    ) -> tuple[list[reader.Source], Counter[str], dict[str, families.Family], tuple[set[int], set[int]]]:
        for _ in range(_ATTEMPTS):
            before = run.read(self._path)
            if before.generation != self._generation:
                self._sources.clear()
                self._generation = before.generation
            if before.clearing:
                break
            troubles = self._refresh()
            declared = families.read(self._path)
            living = lease.living_slots(self._path)
            if run.read(self._path) == before:
                shown = [source for source in self._sources.values() if not source.live or source.slot is None or source.slot in living[1]]
                return shown, troubles, declared, living
        return [], Counter(), {}, (set(), set())

    def _refresh(self) -> Counter[str]:
        troubles: Counter[str] = Counter()
        try:
            names = sorted(name for name in os.listdir(self._path) if name.endswith(".db"))
        except OSError as error:
            self._report(
                str(self._path),
                f"metrics directory {self._path} cannot be listed: {error}; the last values are kept",
            )
            names = []
        for name in names:
            source = self._sources.get(name) or reader.source(os.path.join(self._path, name))
            if source is None:
                troubles["foreign"] += 1
                self._report(name, f"{self._path / name} is not named as a value file is; it is left out")
                continue
            self._sources[name] = source
            source.refresh(self._parsed)
        present = set(names)
        for name, source in list(self._sources.items()):
            if name not in present:
                source.lost("missing")
            if source.trouble == "missing" and not source.samples:
                del self._sources[name]
            elif source.trouble:
                troubles[source.trouble] += 1
                self._report(
                    name,
                    f"{source.path} is {source.trouble}; its last good values ({len(source.samples)} samples) are kept",
                )
            else:
                self._reported.discard(name)
        return troubles

    def _report(self, name: str, message: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            _log.warning("%s", message)

    def _forget(self) -> None:
        """A view begins empty, and so does a forked child's: its parent's may have been half way through a change."""
        self._lock = threading.Lock()
        self._generation = -1
        self._sources: dict[str, reader.Source] = {}
        self._parsed: dict[bytes, reader.Key | None] = {}
        self._reported: set[str] = set()


def _kit(held: set[int], troubles: Counter[str], mixed: Counter[str], *, ours: bool) -> list[Metric]:
    """What the view itself knows. A directory that is not ours and in order shows nothing beyond its own samples."""
    bad = GaugeMetricFamily(
        "multiproc_bad_files",
        "Value files skipped, or kept at their last good values.",
        labels=["reason"],
    )
    for reason in _TROUBLES:
        bad.add_metric([reason], troubles[reason])
    lost = GaugeMetricFamily("multiproc_mixed_samples", "Samples of an older type or mode, left out.", labels=["reason"])
    for reason in _MIXED:
        lost.add_metric([reason], mixed[reason])
    if not ours:
        return [metric for metric, count in ((bad, troubles), (lost, mixed)) if count.total()]
    workers = GaugeMetricFamily("multiproc_workers", "Processes that hold a slot.", value=len(held))
    dropped = CounterMetricFamily(DROPPED, "Observations refused for lack of space or of a slot.", labels=["reason"])
    for reason in REASONS:
        dropped.add_metric([reason], 0.0)
    return [bad, dropped, lost, workers]


def _forget_all() -> None:
    for view in list(_views):
        view._forget()


os.register_at_fork(after_in_child=_forget_all)
