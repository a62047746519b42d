"""What `install()` sets up in a process: the objects of which there is one, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .patches import metrics, registry
from .sampling.custom_collectors import Collectors
from .sampling.gauge_functions import GaugeFunctions
from .sampling.process_metrics import ProcessMetrics
from .sampling.sampler import Sampler
from .storage import run
from .worker import lease_recovery, worker_metrics
from .worker.slot_store import store

if TYPE_CHECKING:
    from pathlib import Path


class Installation:
    """The library in this process and those it forks. OSError where the directory cannot be used."""

    def __init__(self, directory: Path, sample_seconds: float, max_series: int) -> None:
        run.join(directory)
        self.directory = directory
        self.store = store
        store.directory = directory
        worker_metrics.prepare()
        self.sampler = Sampler(store, sample_seconds)
        self.sampler.own += [lease_recovery.check, ProcessMetrics(store).sample]
        self.functions = GaugeFunctions(self.sampler)
        metrics.patch(directory, self.functions, max_series)
        self.collectors = Collectors(store, self.sampler)
        registry.patch(directory, self.collectors)
