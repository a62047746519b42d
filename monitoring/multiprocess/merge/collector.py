"""The merged view: one collector that reads the metrics directory of all processes and answers as one.

It remembers: a scrape reads doubles, adds them up by places found once, and renders only the lines whose number changed. It never
raises for what a file holds, and shows a cold start as one step: files are read between two looks at the run's generation, and again
where that changed meanwhile.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.multiprocess import MultiProcessCollector

from monitoring.multiprocess import text_format
from monitoring.multiprocess.linux import fork, regular_file
from monitoring.multiprocess.storage import declarations, location, paths, run, slot_lease

from . import batch, directory_metrics, merge_rules
from . import source as reader
from .key_table import Keys
from .sample_layout import Layout
from .scrape_metrics import Scrapes
from .snapshots import Snapshots
from .source_set import Reports, Sources
from .vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

_ATTEMPTS = 50
_FEWEST_KEYS = 1000
_FORMER_VARIABLE = "prometheus_multiproc_dir"


class MergedCollector(MultiProcessCollector):
    """Drop-in for prometheus_client's MultiProcessCollector that tolerates bad files and knows slots, runs and declarations.

    Registers itself with `registry` where one is given. `path` defaults to PROMETHEUS_MULTIPROC_DIR; ValueError where it is no
    directory. Fit for any process and thread; keep it, since what it has parsed is what makes the next scrape cheap. Its `merge()`, for
    files of a list, is upstream's own.

    `given()` is asked at each scrape for families that this process knows by itself: they stand for those of the same names in the
    directory. It must not raise, nor give a name twice, and scrapes wait for it.
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
        self._sources: Sources
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
        """Every family of the directory, sorted by name, then the kit's own."""
        with self._lock:
            extra, given = self._merge(), list(self._given())
            found = {metric.name: metric for metric in (*self._layout.metrics(self._shown), *given)}
            for metric in (*self._beside(given), *extra.metrics()):
                found.setdefault(metric.name, metric)
        yield from found.values()

    def render(self, openmetrics: bool = False) -> bytes:
        """The text exposition of `collect()`, classic or OpenMetrics, without the detour over objects."""
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
        """What custom collectors said, without the names that others have."""
        return self._collected.beside([*self._layout.names(), *((metric.name, metric.type) for metric in given)])

    def _merge(self) -> directory_metrics.Inventory:
        """Bring `_shown` and the lines up to date with the directory; gives the families that stand in no value file."""
        began = time.perf_counter()
        collecting = gc.isenabled()
        gc.disable()  # nothing here is garbage in cycles, and much is new: collections cost up to a third of a cold merge
        try:
            return self._merged(began)
        finally:
            if collecting:
                gc.enable()

    def _merged(self, began: float) -> directory_metrics.Inventory:
        state = self._read()
        if len(self._keys) > self._most_keys:
            self._drop_keys()
        layout = self._laid_out(state)
        vectors, size = self._vectors, layout.size
        together, others = self._sources.in_bulk(layout, state.shown)
        mixed: Counter[str] = Counter()
        with vectors.quiet():
            if together:
                totals, stamps = together.totals(size, self._between(state.shown, together) if others else ())
                others = [source for source in others if not _is_summed(source)]
            else:
                totals, stamps = vectors.blank(size), vectors.blank(size)
            for source in others:
                self._add(source, totals, stamps)
            layout.finish(totals, stamps)
            layout.write(*vectors.changed(totals, vectors.grown(self._shown, size)))
        for source in state.shown:
            if source.placed.mixed:
                mixed += source.placed.mixed
        self._shown = totals
        self._scrapes.done(time.perf_counter() - began)
        return directory_metrics.Inventory(self._path, state.held, state.troubles, mixed, state.usage)

    def _laid_out(self, state: _State) -> Layout:
        layout = self._layout
        if state.declared is not self._laid_declared:
            layout.declare(state.declared)
            self._laid_declared = state.declared
        if not layout.stale:
            layout.place(self._sources.unplaced(layout, state.shown))
        if layout.stale:
            layout = self._lay_out_anew(state.declared)
            layout.place(state.shown)
        return layout

    def _lay_out_anew(self, declared: Mapping[str, declarations.Family]) -> Layout:
        self._layout = Layout(self._keys, declared, self._vectors)
        self._laid_declared = declared
        self._shown = self._vectors.blank(0)
        return self._layout

    def _between(self, shown: Sequence[reader.Source], together: batch.Bulk) -> list[batch.Summands]:
        """What is added up of files that are not in bulk, each in its place among those that are."""
        found, before, vectors = [], 0, self._vectors
        for source in filter(_is_summed, shown):
            if id(source) in together.known:
                before += 1
                continue
            found.append(batch.Summands(before, *self._used(source)))
            if source.carried:
                cells, amounts = self._layout.carried(source)
                found.append(batch.Summands(before, vectors.indexes(cells), vectors.numbers(amounts)))
        return found

    def _used(self, source: reader.Source) -> tuple[Any, Any]:
        """The cells of one file's samples, and the values of those that have one."""
        cells, values, use = source.placed.cells, source.values, source.placed.use
        return (cells, values) if use is None else (self._vectors.take(cells, use), self._vectors.take(values, use))

    def _add(self, source: reader.Source, totals: Any, stamps: Any) -> None:
        """Merge one file's samples into the cells, by the rule of its mode."""
        vectors, placed, moments = self._vectors, source.placed, source.moments
        cells, values = self._used(source)
        if placed.use is not None and len(moments):
            moments = vectors.take(moments, placed.use)
        rule = vectors.one_by_one if placed.repeats else vectors
        mode = source.mode.removeprefix("live")
        if _is_summed(source):
            rule.add(totals, cells, values)
            if source.carried:
                vectors.one_by_one.add(totals, *self._layout.carried(source))
        elif mode in ("min", "max"):
            rule.extreme(totals, cells, values, greater=mode == "max")
        elif mode == "mostrecent":
            rule.recent(totals, stamps, cells, values, moments)
        else:
            rule.put(totals, cells, values)

    def _read(self) -> _State:
        """What the directory says; where this process lacks descriptors or memory to look, what it said last."""
        try:
            self._state = self._look()
        except OSError as error:
            self._reports.say("", f"metrics directory {self._path} cannot be read at the moment: {error}; the last values are shown")
        else:
            self._reports.right("")
        return self._state

    def _look(self) -> _State:
        """What the directory says between two looks at the run that agree; nothing while it is being cleared."""
        for _ in range(_ATTEMPTS):
            before = run.read(self._path)
            if before.generation != self._generation:
                self._begin(before.generation)
            if before.clearing:
                self._collected.read(())
                break
            self._scrapes.opened(before.generation)
            troubles, usage = self._refresh()
            self._read_declared()
            held, clean = self._living_slots()
            self._collected.read(clean)
            troubles += self._collected.troubles
            if held is None:
                troubles["unreadable"] += 1
            if run.read(self._path) == before:
                return _State(self._sources.shown(clean), troubles, self._declared, held, usage)
        return _State()

    def _living_slots(self) -> tuple[set[int] | None, set[int]]:
        """As `lease.living_slots`, but None and no slot where this user may not know: nothing is shown then that may be a dead one's."""
        try:
            found = slot_lease.living_slots(self._path)
        except PermissionError:
            self._reports.say(
                paths.LOCK,
                f"{self._path / paths.LOCK} is not readable for user {os.geteuid()}, so who is alive cannot be known: live "
                "gauges, custom collectors and multiproc_workers are left out; run this as the service's user, or as one who may read that "
                "file",
            )
            return None, set()
        self._reports.right(paths.LOCK)
        return found

    def _refresh(self) -> tuple[Counter[str], directory_metrics.Usage]:
        return self._sources.refresh(self._keys)

    def _read_declared(self) -> None:
        found = regular_file.read(self._families_path)
        content = b"{}" if isinstance(found, str) else found[0]
        if content != self._families:
            declared = declarations.parse(content)
            if declared is None:
                self._reports.say("families", f"{self._families_path} is damaged; the last declarations are kept")
                return
            self._families, self._declared = content, declared
            self._reports.right("families")

    def _drop_keys(self) -> None:
        """Forget keys that no file has any more: removed series must not fill a view for ever."""
        used = self._sources.kept_keys()
        if len(used) <= len(self._keys) // 2:
            self._keys, renumbered = self._keys.kept(used)
            self._sources.renumber(renumbered)
            self._lay_out_anew(self._declared)
        self._most_keys = max(_FEWEST_KEYS, 2 * len(self._keys))

    def _begin(self, generation: int) -> None:
        """With nothing: of another run, or in a forked child, whose parent may have been half way through a change."""
        self._generation = generation
        self._state = _State()
        self._sources = Sources(self._path, self._vectors, self._reports)
        self._families, self._declared = b"", {}
        self._keys, self._most_keys = Keys(), _FEWEST_KEYS
        self._lay_out_anew({})

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._reports = Reports()
        self._scrapes = Scrapes(self._path)
        self._collected = Snapshots(self._path)
        self._begin(-1)


class _State(NamedTuple):
    """What one reading of the directory found."""

    shown: Sequence[reader.Source] = ()
    troubles: Mapping[str, int] = MappingProxyType({})
    declared: Mapping[str, declarations.Family] = MappingProxyType({})
    held: set[int] | frozenset[int] | None = frozenset()
    usage: directory_metrics.Usage = directory_metrics.Usage(0, 0)


def _is_summed(source: reader.Source) -> bool:
    return merge_rules.rule_of(source.mode) == "sum"


def _given_directory() -> str | None:
    """The directory of the environment; upstream still takes the variable's former name, and warns."""
    if _FORMER_VARIABLE in os.environ and location.VARIABLE not in os.environ:
        os.environ[location.VARIABLE] = os.environ[_FORMER_VARIABLE]
        warnings.warn(f"{_FORMER_VARIABLE} is deprecated, set {location.VARIABLE}", DeprecationWarning, stacklevel=3)
    return os.environ.get(location.VARIABLE)
