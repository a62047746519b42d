"""The collector that merges the value files of all processes.

It keeps its state between scrapes: a scrape reads doubles, adds them up by known positions, and renders only the lines whose number
changed. It never raises for the content of a file, and shows a cold start as one step: files are read between two looks at the
run's generation, and again where that changed in between.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.log_once import LogOnce
from monitoring.multiprocess import text_format
from monitoring.multiprocess.linux import fork, regular_file
from monitoring.multiprocess.storage import declarations, location, paths, run, slot_lease

from . import directory_metrics
from .key_table import Keys
from .sample_layout import Layout
from .scrape_metrics import Scrapes
from .snapshots import Snapshots
from .source_set import SourceSet
from .vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

_log = logging.getLogger(__name__)
_ATTEMPTS = 50
_FEWEST_KEYS = 1000
_FORMER_VARIABLE = "prometheus_multiproc_dir"


class MergedCollector(MultiProcessCollector):
    """Drop-in for prometheus_client's MultiProcessCollector that tolerates bad files and knows slots, runs and declarations.

    It registers itself with `registry` where one is given. `path` defaults to PROMETHEUS_MULTIPROC_DIR. ValueError where it is not a
    directory. Any process and thread may use it. Keep it: the next scrape is cheap because it remembers what this one parsed. Its
    `merge()`, for a list of files, is prometheus_client's own.

    Each scrape calls `given()` for families of this process's own, which replace those of the same names in the directory. It must not
    raise or return a name twice, and scrapes wait for it.
    """

    def __init__(
        self, registry: CollectorRegistry | None, path: str | None = None, *, given: Callable[[], Iterable[Metric]] = tuple
    ) -> None:
        path = path or _given_directory()
        if not path or not os.path.isdir(path):
            message = f"PROMETHEUS_MULTIPROC_DIR is not set or not a directory: {path!r}; create it or pass path="
            raise ValueError(message)
        self._path = Path(path)
        self._given = given
        self._families_path = os.path.join(path, paths.FAMILIES)
        self._vectors = vectors()
        self._sources: SourceSet
        self._families: bytes
        self._declared: Mapping[str, declarations.Family]
        self._keys: Keys
        self._most_keys: int
        self._layout: Layout
        self._laid_declared: Mapping[str, declarations.Family]
        self._shown: Any
        self._forget()
        fork.forget_in_child(self._forget)
        if registry:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the directory, sorted by name, then the library's own."""
        with self._lock:
            extra, given = self._merge(), list(self._given())
            found = {metric.name: metric for metric in (*self._layout.metrics(self._shown), *given)}
            for metric in (*self._beside(given), *extra.metrics()):
                found.setdefault(metric.name, metric)
        yield from found.values()

    def render(self, openmetrics: bool = False) -> bytes:
        """Return the text exposition of `collect()`, classic or OpenMetrics, without the detour over objects."""
        with self._lock:
            extra, given = self._merge(), list(self._given())
            texts = {name: text for name, text in self._layout.texts(openmetrics=openmetrics) if text}
            for metric in given:
                texts[metric.name] = text_format.family(metric, openmetrics=openmetrics).encode()
            for metric in self._beside(given):
                texts.setdefault(metric.name, self._collected.text(metric, openmetrics=openmetrics).encode())
            for name, text in extra.texts(openmetrics=openmetrics):
                texts.setdefault(name, text.encode())
        if openmetrics:
            texts[""] = text_format.EOF_LINE
        return b"".join(texts.values())

    def _beside(self, given: Iterable[Metric]) -> list[Metric]:
        """Return the families of custom collectors, without names that other families have."""
        return self._collected.beside([*self._layout.names(), *((metric.name, metric.type) for metric in given)])

    def _merge(self) -> directory_metrics.Inventory:
        """Bring `_shown` and the lines up to date with the directory. Return the families that are in no value file."""
        began = time.perf_counter()
        collecting = gc.isenabled()
        gc.disable()  # many new objects and no cycles: collections would cost up to a third of a cold merge
        try:
            return self._merged(began)
        finally:
            if collecting:
                gc.enable()

    def _merged(self, began: float) -> directory_metrics.Inventory:
        state = self._read()
        if len(self._keys) > self._most_keys:
            self._drop_keys()
        layout, vectors = self._laid_out(state), self._vectors
        with vectors.quiet():
            totals, stamps = self._sources.batch.totals(layout.size)
            layout.finish(totals, stamps)
            layout.write(*vectors.changed(totals, vectors.grown(self._shown, layout.size)))
        self._shown = totals
        self._scrapes.done(time.perf_counter() - began)
        return directory_metrics.Inventory(self._path, state.held, state.troubles, self._sources.batch.mixed, state.usage)

    def _laid_out(self, state: _State) -> Layout:
        """Bring the layout up to date, with a line for each sample that is shown."""
        if state.declared is not self._laid_declared:
            self._layout.declare(state.declared)
            self._laid_declared = state.declared
        if not self._layout.stale:
            self._sources.batch.place(self._layout, state.clean)
        if self._layout.stale:
            self._start_layout(state.declared)
            self._sources.batch.place(self._layout, state.clean)
        return self._layout

    def _start_layout(self, declared: Mapping[str, declarations.Family]) -> None:
        self._layout = Layout(self._keys, declared, self._vectors)
        self._laid_declared = declared
        self._shown = self._vectors.blank(0)

    def _read(self) -> _State:
        """Return the state of the directory: the last one where this process lacks descriptors or memory to look."""
        try:
            self._state = self._look()
        except OSError as error:
            self._problems.warn(f"metrics directory {self._path} cannot be read at the moment: {error}; the last values are shown", "")
        else:
            self._problems.over("")
        return self._state

    def _look(self) -> _State:
        """Read the directory between two looks at the run that agree. There is nothing while it is being cleared."""
        for _ in range(_ATTEMPTS):
            before = run.read(self._path)
            if before.generation != self._generation:
                self._begin(before.generation)
            if before.clearing:
                self._collected.read(())
                break
            self._scrapes.opened(before.generation)
            troubles, usage = self._sources.refresh(self._keys)
            self._read_declared()
            held, clean = self._living_slots()
            self._collected.read(clean)
            troubles += self._collected.troubles
            if held is None:
                troubles["unreadable"] += 1
            if run.read(self._path) == before:
                return _State(clean, troubles, self._declared, held, usage)
        return _State()

    def _living_slots(self) -> tuple[set[int] | None, set[int]]:
        """Return `slot_lease.living_slots`, or None and no slot where this user may not read them: live gauges are hidden then."""
        try:
            found = slot_lease.living_slots(self._path)
        except PermissionError:
            self._problems.warn(
                f"{self._path / paths.LOCK} is not readable for user {os.geteuid()}: live gauges, custom collectors and multiproc_workers "
                "are left out, since the living workers are not known. Run this as a user who may read the file",
                paths.LOCK,
            )
            return None, set()
        self._problems.over(paths.LOCK)
        return found

    def _read_declared(self) -> None:
        found = regular_file.read(self._families_path)
        content = b"{}" if isinstance(found, str) else found[0]
        if content != self._families:
            declared = declarations.parse(content)
            if declared is None:
                self._problems.warn(f"{self._families_path} is damaged; the last declarations are kept", "families")
                return
            self._families, self._declared = content, declared
            self._problems.over("families")

    def _drop_keys(self) -> None:
        """Forget keys that no file has any more: removed series must not take memory for ever."""
        used = self._sources.used_keys()
        if len(used) <= len(self._keys) // 2:
            self._keys, renumbered = self._keys.kept(used)
            self._sources.renumber(renumbered)
            self._start_layout(self._declared)
        self._most_keys = max(_FEWEST_KEYS, 2 * len(self._keys))

    def _begin(self, generation: int) -> None:
        """Start with no files: for another run, or in a forked child, whose parent may have been half way through a change."""
        self._generation = generation
        self._state = _State()
        self._sources = SourceSet(self._path, self._vectors)
        self._families, self._declared = b"", {}
        self._keys, self._most_keys = Keys(), _FEWEST_KEYS
        self._start_layout({})

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._problems = LogOnce(_log)
        self._scrapes = Scrapes(self._path)
        self._collected = Snapshots(self._path)
        self._begin(-1)


class _State(NamedTuple):
    """The result of one reading of the directory."""

    #: The slots whose live gauges are shown; None for nothing to show at all.
    clean: set[int] | None = None
    troubles: Mapping[str, int] = MappingProxyType({})
    declared: Mapping[str, declarations.Family] = MappingProxyType({})
    held: set[int] | frozenset[int] | None = frozenset()
    usage: directory_metrics.Usage = directory_metrics.Usage(0, 0)


def _given_directory() -> str | None:
    """Return the directory of the environment. As in prometheus_client, the variable's former name still works, with a warning."""
    if _FORMER_VARIABLE in os.environ and location.VARIABLE not in os.environ:
        os.environ[location.VARIABLE] = os.environ[_FORMER_VARIABLE]
        warnings.warn(f"{_FORMER_VARIABLE} is deprecated, set {location.VARIABLE}", DeprecationWarning, stacklevel=3)
    return os.environ.get(location.VARIABLE)
