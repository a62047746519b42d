"""The library's own families that are in no value file: the state of the directory at the time of a scrape."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.metrics_core import Metric

from monitoring.multiprocess import text_format
from monitoring.multiprocess.storage import library_families as families
from monitoring.multiprocess.storage import paths

from . import sample_layout

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
    """The families of one scrape. A directory without a lock file shows only its bad files; `held` is None where it is not known."""

    def __init__(
        self, path: Path, held: set[int] | frozenset[int] | None, troubles: Mapping[str, int], mixed: Counter[str], usage: Usage
    ) -> None:
        reasons = [({"reason": reason}, float(troubles.get(reason, 0))) for reason in _TROUBLES]
        self._families: list[tuple[families.LibraryFamily, tuple[tuple[dict[str, str], float], ...]]] = []
        ours = os.path.exists(f"{path}/{paths.LOCK}")
        if ours or troubles:
            self._add(families.BAD_FILES, *reasons)
        if ours:
            self._add(families.BYTES, ({}, float(usage.bytes)))
            self._add(families.DROPPED, *(({"reason": reason}, 0.0) for reason in families.DROPPED_REASONS))
            self._add(families.FILES, ({}, float(usage.files)))
            self._add(families.FREE_BYTES, *_free(path))
        if ours or mixed:
            parts = [({"reason": reason}, float(mixed[reason])) for reason in sample_layout.REASONS]
            self._add(families.MIXED_SAMPLES, *parts)
        if ours and held is not None:
            self._add(families.WORKERS, ({}, float(len(held))))

    def metrics(self) -> Iterator[Metric]:
        """The families as prometheus_client's objects, in order of name."""
        for family, samples in self._families:
            metric = Metric(family.name, family.help, family.type)
            for labels, value in samples:
                metric.add_sample(family.sample, labels, value)
            yield metric

    def texts(self, *, openmetrics: bool) -> Iterator[tuple[str, str]]:
        """Name and exposition of each family."""
        for family, samples in self._families:
            head = text_format.head(family.name, family.type, family.help, openmetrics=openmetrics)
            lines = [f"{text_format.prefix(family.sample, labels.items())}{text_format.number(value)}\n" for labels, value in samples]
            yield family.name, head + "".join(lines)

    def _add(self, family: families.LibraryFamily, *samples: tuple[dict[str, str], float]) -> None:
        self._families.append((family, samples))


def _free(path: Path) -> list[tuple[dict[str, str], float]]:
    try:
        found = os.statvfs(path)
    except OSError:
        return []
    return [({}, float(found.f_bavail * found.f_frsize))]
