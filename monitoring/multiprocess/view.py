"""The merged view: one collector that reads the metrics directory of all processes and answers as one.

It remembers: a scrape reads doubles, adds them up by places found once, and renders only the lines whose number changed. It never
raises for what a file holds, and shows a cold start as one step: files are read between two looks at the run's generation, and again
where that changed meanwhile.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import collected, families, files, inventory, lease, reader, render, run
from .keys import Keys
from .layout import Layout
from .scrapes import Scrapes
from .vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry

_ATTEMPTS = 50
_FEWEST_KEYS = 1000
_log = logging.getLogger(__name__)
_views: weakref.WeakSet[MergedCollector] = weakref.WeakSet()


class MergedCollector:
    """Drop-in for prometheus_client's MultiProcessCollector that tolerates bad files and knows slots, runs and declarations.

    Registers itself with `registry` where one is given. `path` defaults to PROMETHEUS_MULTIPROC_DIR; ValueError where it is no
    directory. Fit for any process and thread; keep it, since what it has parsed is what makes the next scrape cheap.
    """

    def __init__(self, registry: CollectorRegistry | None, path: str | None = None) -> None:
        path = path or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not path or not os.path.isdir(path):
            message = f"PROMETHEUS_MULTIPROC_DIR is not set or not a directory: {path!r}; create it or pass path="
            raise ValueError(message)
        self._path = Path(path)
        self._families_path = os.path.join(path, families.FAMILIES_FILE)
        self._vectors = vectors()
        self._sources: dict[str, reader.Source]
        self._families: bytes
        self._declared: Mapping[str, families.Family]
        self._keys: Keys
        self._most_keys: int
        self._layout: Layout
        self._shown: Any
        self._forget()
        _views.add(self)
        if registry:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Every family of the directory, sorted by name, then the kit's own."""
        with self._lock:
            extra = self._merge()
            found = {metric.name: metric for metric in self._layout.metrics(self._shown)}
            for metric in (*self._collected.beside(self._layout.names()), *extra.metrics()):
                found.setdefault(metric.name, metric)
        yield from found.values()

    def render(self, openmetrics: bool = False) -> bytes:
        """The text exposition of `collect()`, classic or OpenMetrics, without the detour over objects."""
        with self._lock:
            extra = self._merge()
            texts = {name: text for name, text in self._layout.texts(openmetrics=openmetrics) if text}
            for metric in self._collected.beside(self._layout.names()):
                texts.setdefault(metric.name, self._collected.text(metric, openmetrics=openmetrics))
            for name, text in extra.texts(openmetrics=openmetrics):
                texts.setdefault(name, text)
        if openmetrics:
            texts[""] = render.EOF_LINE
        return "".join(texts.values()).encode()

    def _merge(self) -> inventory.Inventory:
        """Bring `_shown` and the lines up to date with the directory; gives the families that stand in no value file."""
        began = time.perf_counter()
        collecting = gc.isenabled()
        gc.disable()  # nothing here is garbage in cycles, and much is new: collections cost up to a third of a cold merge
        try:
            return self._merged(began)
        finally:
            if collecting:
                gc.enable()

    def _merged(self, began: float) -> inventory.Inventory:
        state = self._read()
        if len(self._keys) > self._most_keys:
            self._drop_keys()
        layout = self._laid_out(state)
        vectors = self._vectors
        totals, stamps = vectors.blank(layout.size), vectors.blank(layout.size)
        mixed: Counter[str] = Counter()
        with vectors.quiet():
            for source in state.shown:
                self._add(source, totals, stamps)
                mixed += source.placed.mixed
            layout.finish(totals, stamps)
            layout.write(*vectors.changed(totals, vectors.grown(self._shown, layout.size)))
        self._shown = totals
        self._scrapes.done(time.perf_counter() - began)
        return inventory.Inventory(self._path, state.held, state.troubles, mixed, state.usage)

    def _laid_out(self, state: _State) -> Layout:
        layout = self._layout
        layout.declare(state.declared)
        if not layout.stale:
            layout.place(state.shown)
        if layout.stale:
            layout = self._lay_out_anew(state.declared)
            layout.place(state.shown)
        return layout

    def _lay_out_anew(self, declared: Mapping[str, families.Family]) -> Layout:
        self._layout = Layout(self._keys, declared, self._vectors)
        self._shown = self._vectors.blank(0)
        return self._layout

    def _add(self, source: reader.Source, totals: Any, stamps: Any) -> None:
        """Merge one file's samples into the cells, by the rule of its mode."""
        vectors, placed, values = self._vectors, source.placed, source.values
        cells, moments = placed.cells, source.moments
        if placed.use is not None:
            cells, values = vectors.take(cells, placed.use), vectors.take(values, placed.use)
            moments = vectors.take(moments, placed.use) if len(moments) else moments
        rule = vectors.one_by_one if placed.repeats else vectors
        mode = source.mode.removeprefix("live")
        if mode in ("", "sum"):
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
            self._report("", f"metrics directory {self._path} cannot be read at the moment: {error}; the last values are shown")
        else:
            self._reported.discard("")
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
            held, clean = lease.living_slots(self._path)
            self._collected.read(clean)
            troubles += self._collected.troubles
            if run.read(self._path) == before:
                shown = [source for source in self._sources.values() if not source.live or source.slot is None or source.slot in clean]
                return _State(shown, troubles, self._declared, held, usage)
        return _State()

    def _refresh(self) -> tuple[Counter[str], inventory.Usage]:
        troubles: Counter[str] = Counter()
        try:
            names = sorted(os.listdir(self._path))
        except OSError as error:
            self._report(
                str(self._path),
                f"metrics directory {self._path} cannot be listed: {error}; the last values are kept",
            )
            names = []
        usage = inventory.Usage(0, 0)
        for name in names:
            if not name.endswith(".db"):
                continue
            source = self._sources.get(name) or reader.source(os.path.join(self._path, name), self._vectors)
            if source is None:
                troubles["foreign"] += 1
                self._report(name, f"{self._path / name} is not named as a value file is; it is left out")
                continue
            self._sources[name] = source
            source.refresh(self._keys)
            usage = inventory.Usage(usage.files + 1, usage.bytes + source.size)
        present = set(names)
        for name, source in list(self._sources.items()):
            if name not in present:
                source.lost("missing")
            if source.trouble == "missing" and not len(source.values):
                del self._sources[name]
            elif source.trouble:
                troubles[source.trouble] += 1
                self._report(
                    name,
                    f"{source.path} is {source.trouble}; its last good values ({len(source.keys)} samples) are kept",
                )
            else:
                self._reported.discard(name)
        return troubles, usage

    def _read_declared(self) -> None:
        found = files.read_regular(self._families_path)
        content = b"{}" if isinstance(found, str) else found[0]
        if content != self._families:
            declared = families.parse(content)
            if declared is None:
                self._report(families.FAMILIES_FILE, f"{self._path / families.FAMILIES_FILE} is damaged; the last declarations are kept")
                return
            self._families, self._declared = content, declared
            self._reported.discard(families.FAMILIES_FILE)

    def _drop_keys(self) -> None:
        """Forget keys that no file has any more: removed series must not fill a view for ever."""
        used = {key for source in self._sources.values() for key in (*source.keys, *source.carried)}
        if len(used) <= len(self._keys) // 2:
            self._keys, renumbered = self._keys.kept(used)
            for source in self._sources.values():
                source.renumber(renumbered)
            self._lay_out_anew(self._declared)
        self._most_keys = max(_FEWEST_KEYS, 2 * len(self._keys))

    def _report(self, name: str, message: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            _log.warning("%s", message)

    def _begin(self, generation: int) -> None:
        """With nothing: of another run, or in a forked child, whose parent may have been half way through a change."""
        self._generation = generation
        self._state = _State()
        self._sources = {}
        self._families, self._declared = b"", {}
        self._keys, self._most_keys = Keys(), _FEWEST_KEYS
        self._lay_out_anew({})

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._reported: set[str] = set()
        self._scrapes = Scrapes(self._path)
        self._collected = collected.Snapshots(self._path)
        self._begin(-1)


class _State(NamedTuple):
    """What one reading of the directory found."""

    shown: Sequence[reader.Source] = ()
    troubles: Mapping[str, int] = MappingProxyType({})
    declared: Mapping[str, families.Family] = MappingProxyType({})
    held: set[int] | frozenset[int] = frozenset()
    usage: inventory.Usage = inventory.Usage(0, 0)


def _forget_all() -> None:
    for view in list(_views):
        view._forget()


os.register_at_fork(after_in_child=_forget_all)
