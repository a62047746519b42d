"""Custom collectors of the default registry: called in one elected process for all, or in each worker after `per_worker()`.

All workers of a service register the same collectors, so any of them can represent all. The worker with the role `collectors` calls
them in its sampling thread and replaces the snapshot that views show. When it dies, the snapshot stays until that of its successor.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector

from monitoring.log_once import LogOnce
from monitoring.multiprocess import options
from monitoring.multiprocess.linux import file_owner, fork
from monitoring.multiprocess.storage import collector_snapshot, paths
from monitoring.multiprocess.worker.election import Election

from .job_runner import Job
from .process_metrics import standard

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from monitoring.multiprocess.worker.slot_store import SlotStore

    from .sampler import Sampler

ROLE = "collectors"
#: Number of ticks for which the role must be vacant before a process without collectors removes the shared snapshot.
_TICKS_BEFORE_RETIRING = 5
_NOT_CUSTOM = (metrics.MetricWrapperBase, MultiProcessCollector, GCCollector, PlatformCollector)
_log = logging.getLogger(__name__)


class _Collector:
    """A registered collector and its last families."""

    def __init__(self, collector: Any, store: SlotStore) -> None:
        self._store = store
        self.families: list[Metric] = []
        self.per_worker = options.is_per_worker(collector)
        self._collector = collector
        self._problems = LogOnce(_log)
        self.begin()

    def begin(self) -> None:
        self.families = []
        self.job = Job(f"collector {type(self._collector).__name__}", self._collect, self._end)

    def _collect(self) -> None:
        found: dict[str, Metric] = {}
        for metric in self._collector.collect():
            try:
                sound = collector_snapshot.checked(_for_worker(metric, self._store.slot) if self.per_worker else metric)
            except (ValueError, TypeError, AttributeError) as error:
                self._problems.warn(f"family {getattr(metric, 'name', metric)!r:.200} of {self.job.name} is left out: {error}")
                continue
            if found.setdefault(sound.name, sound) is not sound:
                self._problems.warn(f"family {sound.name!r} comes twice from {self.job.name}. The first one is shown")
        self.families = list(found.values())

    def _end(self) -> None:
        self.families = []


class Collectors:
    """The custom collectors of this process; the sampler calls their jobs and publishes their snapshots."""

    def __init__(self, store: SlotStore, sampler: Sampler) -> None:
        self._store, self._sampler = store, sampler
        self._collectors: dict[int, _Collector] = {}
        self._election = Election(ROLE)
        self._written: dict[str, bytes] = {}
        self._vacant_ticks = 0
        for collector in list(prometheus_client.REGISTRY._collector_to_names):
            if custom(collector):
                self.add(collector)
        sampler.sources.append(self._jobs)
        sampler.finish.append(self._publish)
        fork.forget_in_child(self._forget)

    def add(self, collector: Any) -> None:
        """Call a collector that was registered."""
        with fork.mutex:
            self._collectors[id(collector)] = _Collector(collector, self._store)
        self._sampler.wake()

    def discard(self, collector: Any) -> None:
        """Stop calling a collector that was unregistered. The next snapshot is without its families."""
        with fork.mutex:
            self._collectors.pop(id(collector), None)

    def _registered(self, *, per_worker: bool) -> list[_Collector]:
        with fork.mutex:
            return [collector for collector in self._collectors.values() if collector.per_worker is per_worker]

    def _jobs(self) -> list[Job]:
        called = self._registered(per_worker=True)
        shared = self._registered(per_worker=False)
        if shared and self._election.try_hold():
            called += shared
        return [collector.job for collector in called]

    def _publish(self) -> None:
        own = self._registered(per_worker=True)
        if self._store.slot is not None and (own or paths.own_snapshot(self._store.slot) in self._written):
            self._write(paths.own_snapshot(self._store.slot), own)
        shared = self._registered(per_worker=False)
        if self._election.held:
            self._write(paths.SHARED_SNAPSHOT, shared)
        elif not shared:
            self._retire()

    def _write(self, name: str, collectors: list[_Collector]) -> None:
        """Replace a snapshot if it changed. A new holder of the role waits until each of its collectors has answered or failed."""
        if self._store.directory is None or not all(collector.job.settled for collector in collectors):
            return
        path = self._store.directory / name
        data = collector_snapshot.encode(metric for collector in collectors for metric in collector.families)
        if self._written.get(name) == data and path.exists():
            return
        file_owner.replace(path, paths.temporary(path), data)
        self._written[name] = data

    def _retire(self) -> None:
        """Remove the shared snapshot after a deploy without collectors: this process has none, and those that had some are gone."""
        if self._store.directory is None or not (self._store.directory / paths.SHARED_SNAPSHOT).exists() or not self._election.vacant():
            self._vacant_ticks = 0
            return
        self._vacant_ticks += 1
        if self._vacant_ticks >= _TICKS_BEFORE_RETIRING and self._election.try_hold():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._store.directory / paths.SHARED_SNAPSHOT)
            self._election.release()

    def _forget(self) -> None:
        self._written, self._vacant_ticks = {}, 0
        for collector in self._collectors.values():
            collector.begin()


def custom(collector: object) -> bool:
    """Return whether a collector is the application's own: neither a metric nor a collector of prometheus_client."""
    return not (isinstance(collector, _NOT_CUSTOM) or standard(collector))


def _for_worker(metric: Metric, slot: int | None) -> Metric:
    labelled = type(metric).__new__(type(metric))
    labelled.__dict__.update(metric.__dict__)
    labelled.samples = [
        sample._replace(labels={**{("exported_worker" if k == "worker" else k): v for k, v in sample.labels.items()}, "worker": f"s{slot}"})
        for sample in metric.samples
    ]
    return labelled
