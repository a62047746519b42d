"""The kit's own families that stand in no value file: what a view knows of the directory at the moment of a scrape."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import Metric

from monitoring.multiprocess import text_format
from monitoring.multiprocess.storage import library_families, paths

from . import source_cells

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TROUBLES = ("corrupt", "empty", "foreign", "missing", "not_regular", "truncated", "unreadable")


class Usage(NamedTuple):
    """Value files in the directory, and their bytes."""

    files: int
    bytes: int


class Inventory:
    """The families of one scrape. A directory that is not ours shows only what is wrong in it; `held` is None where it is unknown."""

    def __init__(
        self, path: Path, held: set[int] | frozenset[int] | None, troubles: Mapping[str, int], mixed: Counter[str], usage: Usage
    ) -> None:
        reasons = [({"reason": reason}, float(troubles.get(reason, 0))) for reason in _TROUBLES]
        self._families = []
        ours = os.path.exists(f"{path}/{paths.LOCK}")
        if ours or troubles:
            self._gauge("multiproc_bad_files", "Value files skipped, or kept at their last good values.", *reasons)
        if ours:
            self._gauge("multiproc_bytes", "Size of the value files in the metrics directory.", ({}, float(usage.bytes)))
            dropped = library_families.DROPPED
            self._families.append(
                (
                    dropped.name,
                    dropped.type,
                    dropped.help,
                    [(f"{dropped.name}_total", {"reason": reason}, 0.0) for reason in library_families.DROPPED_REASONS],
                )
            )
            self._gauge("multiproc_files", "Value files in the metrics directory.", ({}, float(usage.files)))
            self._gauge("multiproc_free_bytes", "Space left on the file system of the metrics directory.", *_free(path))
        if ours or mixed:
            parts = [({"reason": reason}, float(mixed[reason])) for reason in source_cells.REASONS]
            self._gauge("multiproc_mixed_samples", "Samples of an older type or mode, left out.", *parts)
        if ours and held is not None:
            self._gauge("multiproc_workers", "Processes that hold a slot.", ({}, float(len(held))))

    def metrics(self) -> Iterator[Metric]:
        """The families as prometheus_client's objects, in order of name."""
        for name, kind, text, samples in self._families:
            metric = Metric(name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric

    def texts(self, *, openmetrics: bool) -> Iterator[tuple[str, str]]:
        """Name and exposition of each family."""
        for name, kind, text, samples in self._families:
            lines = [f"{text_format.prefix(sample, labels.items())}{text_format.number(value)}\n" for sample, labels, value in samples]
            yield name, text_format.head(name, kind, text, openmetrics=openmetrics) + "".join(lines)

    def _gauge(self, name: str, text: str, *samples: tuple[dict[str, str], float]) -> None:
        self._families.append((name, "gauge", text, [(name, labels, value) for labels, value in samples]))


def _free(path: Path) -> list[tuple[dict[str, str], float]]:
    try:
        found = os.statvfs(path)
    except OSError:
        return []
    return [({}, float(found.f_bavail * found.f_frsize))]
