"""Workers simulated in one process: each has a store, a lease and values of its own, and can die without a word."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.linux import file_lock
from monitoring.multiprocess.linux.hooks import Hooks
from monitoring.multiprocess.patches.series_limit import Cap
from monitoring.multiprocess.patches.series_removal import overwrite
from monitoring.multiprocess.storage import run
from monitoring.multiprocess.storage.series_log import identity
from monitoring.multiprocess.worker import value as values
from monitoring.multiprocess.worker.slot_store import Phase, SlotStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from monitoring.multiprocess import MergedCollector

HELP = "help text"


class Worker:
    """One simulated worker process of the run in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.store = SlotStore()
        self.store.directory = directory
        self._values: dict[Any, values.Value] = {}
        assert self.store.acquire()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Values created and written within belong to this worker."""
        others, values.Value.owner = values.Value.owner, self.store
        try:
            yield
        finally:
            values.Value.owner = others

    def value(self, typ: str, family: str, name: str, mode: str = "", **labels: str) -> values.Value:
        key = (typ, name, mode, tuple(labels.items()))
        if key not in self._values:
            with self.running():
                self._values[key] = values.Value(typ, family, name, tuple(labels), tuple(labels.values()), HELP, multiprocess_mode=mode)
        return self._values[key]

    def kill(self) -> None:
        """What the kernel does for a process that is gone: its locks are free, its files stay as they are."""
        assert self.store._lease is not None
        self.store._lease.release()
        self.store.forget()


class Capped:
    """A labelled counter of one simulated worker under the cap: what `labels()` and `remove()` of a stock one do."""

    def __init__(self, worker: Worker, name: str, max_series: int) -> None:
        self._worker = worker
        self._name, self._labelnames, self._labelvalues = name, ("label",), ()
        self._metrics: dict[tuple[str, ...], values.Value] = {}
        assert worker.store.directory is not None
        self.cap = Cap(worker.store.directory, max_series, lambda _: None)
        self.cap.adopt(self)

    def labels(self, label: str) -> tuple[str, values.Value]:
        """The label that was given, and the child."""
        with self._worker.running():
            child = self.cap.child(self, (label,), self._make)
        return next(key[0] for key, each in self._metrics.items() if each is child), child

    def remove(self, label: str | None) -> None:
        """For all workers; None clears."""
        labels = {} if label is None else {"label": label}
        for key in [key for key in self._metrics if label in (None, key[0])]:
            del self._metrics[key]
        assert self._worker.store.directory is not None
        overwrite(self._worker.store.directory, self._name, labels, noting=lambda found: self.cap.removing(self, labels, found))

    def known(self) -> set[int]:
        """What is counted against the cap, as this worker sees it."""
        self.cap.follow()
        return self.cap.log.known.get(identity(self._name), set())

    def _make(self, _: Any, label: str) -> values.Value:
        child = values.Value("counter", self._name, f"{self._name}_total", self._labelnames, (label,), HELP)
        self._metrics[label,] = child
        return child


class Run:
    """A run that some process has joined; `end` is that process's death."""

    def __init__(self, directory: Path) -> None:
        self.address = run.join(directory)

    def end(self) -> None:
        file_lock.drop(self.address)


def samples(collector: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a collector by name and sorted labels; a sample that comes twice fails."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for metric in collector.collect():
        for sample in metric.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} is exposed twice"
            found[key] = sample.value
    return found


def own(collector: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As `samples`, without the library's own families."""
    return {key: value for key, value in samples(collector).items() if not key[0].startswith("multiproc_")}


def count(worker: Worker, amount: float, **labels: str) -> None:
    with worker.running():
        worker.value("counter", "c", "c_total", **labels).inc(amount)


def level(worker: Worker, mode: str, *said: float) -> values.Value:
    """The worker's gauge of this mode, set to what is said: a number and perhaps a moment."""
    value = worker.value("gauge", f"g_{mode}", f"g_{mode}", mode)
    if said:
        with worker.running():
            value.set(*said)
    return value


def same_as_a_new_one(kept: MergedCollector, directory: Path, make: Callable[[Path], MergedCollector]) -> dict[Any, float]:
    """What a view that remembers says is what one says that has just begun; both texts too, but for the order of lines."""
    found, fresh = own(kept), make(directory)
    assert found == own(fresh)
    for openmetrics in (False, True):
        lines = [sorted(line for line in text.render(openmetrics).splitlines() if b"multiproc_" not in line) for text in (kept, fresh)]
        assert lines[0] == lines[1]
    return found


def no_lease(directory: Path | None) -> Any:
    """A store that knows its directory and never takes a lease."""
    return SimpleNamespace(directory=directory, acquire=lambda: True, hooks=Hooks(Phase))
