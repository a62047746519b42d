"""`process_*`, `python_gc_*` and `python_info` of each process that holds a slot, under the label `worker` (`s3`).

The values are those of prometheus_client's own collectors, as long as these are in the default registry. A counter continues from the
former holder of the slot; a gauge is shown while its process holds the slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import prometheus_client

from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.storage.declarations import Family
from monitoring.multiprocess.worker.slot_store import Phase
from monitoring.multiprocess.worker.value import DirectGauge, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

    from monitoring.multiprocess.worker.slot_store import SlotStore

Series = tuple[str, tuple[tuple[str, str], ...]]
_MODE = "livemax"


class _Counter(Value):
    """A counter that is shown from its first write: a forked child never writes those of its parent."""

    eager = False
    __slots__ = ()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Counter:
        return object.__new__(cls)


class ProcessMetrics:
    """The metrics of this process, written to its slot; `sample` costs a few reads of /proc."""

    def __init__(self, store: SlotStore) -> None:
        self._store = store
        self._cells: dict[Series, Value] = {}
        self._last: dict[Series, float] = {}
        store.hooks.add(Phase.RENEWED, self._relabel)
        fork.forget_in_child(self._forget)

    def sample(self) -> None:
        """Write the values that have changed; nothing to do where no slot is held."""
        slot = self._store.slot
        if slot is None:
            return
        for collector in _collectors():
            for metric in collector.collect():
                for sample in metric.samples:
                    self._write(metric, sample, slot)

    def _write(self, metric: Metric, sample: Sample, slot: int) -> None:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        counter = metric.type == "counter"
        cell = self._cells.get(series)
        if cell is None:
            labels = {"worker": f"s{slot}", **sample.labels}
            self._store.declare(Family(metric.name, metric.type, metric.documentation, "" if counter else _MODE, tuple(labels)))
            kind = _Counter if counter else DirectGauge
            described = (metric.type, metric.name, sample.name, tuple(labels), tuple(map(str, labels.values())), metric.documentation)
            cell = self._cells[series] = kind(*described, multiprocess_mode=_MODE)
        if not counter:
            cell.set(sample.value)
            return
        more = sample.value - self._last.get(series, 0.0)
        if more >= 0.0:
            cell.inc(more)
        self._last[series] = sample.value

    def _relabel(self) -> None:
        """Start again with other labels: the slot, which is in the label, may be another one."""
        self._cells = {}

    def _forget(self) -> None:
        """In a forked child: it has used no time yet, but inherits the count of garbage collections, which its parent reports."""
        self._cells = {}
        self._last = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for metric in prometheus_client.GC_COLLECTOR.collect()
            for sample in metric.samples
        }


def standard(collector: object) -> bool:
    """Return whether it is one of the collectors that prometheus_client itself puts into the default registry."""
    return collector in (prometheus_client.PROCESS_COLLECTOR, prometheus_client.GC_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR)


def _collectors() -> Iterator[Any]:
    registered = prometheus_client.REGISTRY._collector_to_names
    return (collector for collector in list(registered) if standard(collector))
