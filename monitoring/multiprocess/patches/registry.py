"""The default registry after `install()`: its samples are those of all processes, each family once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client.registry import CollectorRegistry

from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.sampling.custom_collectors import custom

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from monitoring.multiprocess.merge.collector import MergedCollector
    from monitoring.multiprocess.sampling.custom_collectors import Collectors


def patch(directory: Path, collectors: Collectors) -> None:
    """Make the default registry a merged one. Once, from `install()`."""
    merged: Any = prometheus_client.REGISTRY
    merged.directory, merged.collectors, merged._view = directory, collectors, None
    merged.__class__ = MergedRegistry
    merged._lock = fork.mutex


class MergedRegistry(CollectorRegistry):
    """The default registry after `install()`: its samples are those of all processes, each family once."""

    directory: Path
    collectors: Collectors
    _view: MergedCollector | None

    def register(self, collector: Any) -> None:
        """Add a collector. A custom one is not called here, also where it cannot describe itself: its names are seen when sampled."""
        if custom(collector) and not hasattr(collector, "describe"):
            with self._lock:
                self._collector_to_names[collector] = []
        else:
            super().register(collector)
        if custom(collector):
            self.collectors.add(collector)

    def unregister(self, collector: Any) -> None:
        """Remove a collector; the families of a custom one go with the next sample."""
        super().unregister(collector)
        self.collectors.discard(collector)

    def collect(self) -> Iterator[Metric]:
        """The merged families, target_info first where it is set."""
        if self.get_target_info():
            yield self._target_info_metric()  # type: ignore[no-untyped-call]
        if self._view is None:
            # Only now: a worker whose metrics an exporter serves never merges, and never pays for what merging needs.
            from monitoring.multiprocess.merge.collector import MergedCollector

            self._view = MergedCollector(None, str(self.directory))
        yield from self._view.collect()

    def restricted_registry(self, names: Iterable[str]) -> Any:
        """A registry of the samples with these names."""
        return _Restricted(self, frozenset(names))


class _Restricted:
    def __init__(self, whole: MergedRegistry, names: frozenset[str]) -> None:
        self._whole, self._names = whole, names

    def collect(self) -> Iterator[Metric]:
        for metric in self._whole.collect():
            part = metric._restricted_metric(self._names)  # type: ignore[no-untyped-call]
            if part:
                yield part
