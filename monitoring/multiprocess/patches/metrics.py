"""Methods of prometheus_client's stock classes, patched in place: names that others imported earlier keep working.

What changes: values live in slots; every family is declared; a histogram's series are made together; Info and Enum are exported;
a removal concerns all workers; most recent gauges take `inc()`; the default registry collects the merged view.
"""

from __future__ import annotations

import functools
import gc
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from prometheus_client import metrics, values
from prometheus_client.utils import floatToGoString

from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.storage import paths
from monitoring.multiprocess.storage.declarations import Family
from monitoring.multiprocess.worker.slot_store import Phase, store
from monitoring.multiprocess.worker.value import Value

from . import series_limit, series_removal
from .series_limit import Cap

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring.multiprocess.sampling.gauge_functions import GaugeFunctions

_pending: weakref.WeakSet[Any] = weakref.WeakSet()


def patch(directory: Path, functions: GaugeFunctions, max_series: int) -> None:
    """Patch once per process; metrics that exist already keep the values that they have counted so far."""
    existing = [thing for thing in gc.get_objects() if isinstance(thing, metrics.MetricWrapperBase)]
    _end_upstream_files(directory)
    values.ValueClass = Value
    _wrap_declaration()
    for kind in (metrics.Histogram, metrics.Summary):
        _wrap_together(kind)
    _wrap_info()
    _wrap_enum()
    _allow_recent_additions()

    def forget(child: Any) -> None:
        """Do not write a removed child again."""
        _pending.discard(child)
        functions.forget(child)

    capped = Cap(directory, max_series, forget) if max_series else None
    series_removal.patch(forget, capped)
    store.hooks.add(Phase.ATTACHED, _write_pending)
    functions.patch()
    for metric in existing:
        _rebind(metric, functions)
    if capped:
        _wrap_cap(capped, existing)


def _family(metric: Any) -> Family:
    buckets = tuple(floatToGoString(bound) for bound in getattr(metric, "_upper_bounds", ()))  # type: ignore[no-untyped-call]
    mode = metric._multiprocess_mode if metric._type == "gauge" else ""
    return Family(metric._name, metric._type, metric._documentation, mode, tuple(metric._labelnames), buckets)


def _wrap_declaration() -> None:
    original = metrics.MetricWrapperBase.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _share_lock(self)
        if not self._labelvalues:
            store.declare(_family(self))

    metrics.MetricWrapperBase.__init__ = __init__  # type: ignore[method-assign]


def _wrap_cap(capped: Cap, existing: list[Any]) -> None:
    original = metrics.MetricWrapperBase.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        capped.adopt(self)

    metrics.MetricWrapperBase.__init__ = __init__  # type: ignore[method-assign]
    for metric in existing:
        capped.adopt(metric)
    series_limit.patch(capped)
    fork.forget_in_child(capped.log.forget)


def _wrap_together(kind: Any) -> None:
    original = kind._metric_init

    @functools.wraps(original)
    def _metric_init(self: Any) -> None:
        with store.together():
            original(self)

    kind._metric_init = _metric_init


def _wrap_info() -> None:
    original_init, original_info = metrics.Info._metric_init, metrics.Info.info

    @functools.wraps(original_init)
    def _metric_init(self: Any) -> None:
        original_init(self)  # type: ignore[no-untyped-call]
        self._cells = {}

    @functools.wraps(original_info)
    def info(self: Any, val: dict[str, str]) -> None:
        original_info(self, val)
        _remember(self)

    metrics.Info._metric_init, metrics.Info.info = _metric_init, info  # type: ignore[method-assign]


def _wrap_enum() -> None:
    original_new, original_init, original_state = metrics.Enum.__init__, metrics.Enum._metric_init, metrics.Enum.state

    @functools.wraps(original_new)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original_new(self, *args, **kwargs)
        # Its states are known only now. The first one is the default of a process that never sets one: older than any that is set.
        if self._is_observable():
            _remember(self, at=1.0)

    @functools.wraps(original_init)
    def _metric_init(self: Any) -> None:
        original_init(self)
        self._cells = {}

    @functools.wraps(original_state)
    def state(self: Any, state: str) -> None:
        original_state(self, state)
        _remember(self)

    metrics.Enum.__init__ = __init__  # type: ignore[method-assign]
    metrics.Enum._metric_init, metrics.Enum.state = _metric_init, state  # type: ignore[method-assign]


def _allow_recent_additions() -> None:
    """Let most recent gauges take `inc()` and `dec()`: the new value is the one that this worker set last, plus the amount."""

    def inc(self: Any, amount: float = 1) -> None:
        """Increment gauge by the given amount."""
        self._raise_if_not_observable()
        self._value.inc(amount)

    def dec(self: Any, amount: float = 1) -> None:
        """Decrement gauge by the given amount."""
        self._raise_if_not_observable()
        self._value.inc(-amount or 0.0)

    metrics.Gauge.inc, metrics.Gauge.dec = inc, dec  # type: ignore[method-assign]


def _remember(metric: Any, at: float | None = None) -> None:
    metric._set_at = at or time.time()
    _pending.add(metric)
    if store.slot is not None:
        _write_described(metric)


def _write_pending() -> None:
    for metric in list(_pending):
        _write_described(metric)


def _write_described(metric: Any) -> None:
    """Write the samples of an Info or Enum as most recent gauges. A forked child does this again: `_pending` is never emptied."""
    for suffix, labels, value, *_ in metric._child_samples():
        key = tuple(sorted(labels.items()))
        cell = metric._cells.get(key)
        if cell is None:
            names = (*metric._labelnames, *labels)
            texts = (*metric._labelvalues, *(str(text) for text in labels.values()))
            cell = metric._cells[key] = Value(
                "gauge",
                metric._name,
                metric._name + suffix,
                names,
                texts,
                metric._documentation,
                multiprocess_mode="mostrecent",
            )
        cell.set(value, metric._set_at)


def _end_upstream_files(directory: Path) -> None:
    """Remove the files that upstream's multiprocess mode has made for this process: their values are carried over."""
    if getattr(values.ValueClass, "_multiprocess", False):
        for path in directory.iterdir():
            file = paths.parse_value_file(path.name)
            if file is not None and file.identifier == str(os.getpid()):
                path.unlink(missing_ok=True)


def _rebind(metric: Any, functions: GaugeFunctions) -> None:
    cells = _cells(metric)
    before = [(cell.get() if not isinstance(cell, Value) else 0.0) for cell in cells]
    described = isinstance(metric, metrics.Info | metrics.Enum)
    kept = getattr(metric, "_value", None) if described else None
    _share_lock(metric)
    if metric._is_observable():
        metric._metric_init()
        _share_lock(metric)
        for cell, value in zip(_cells(metric), before, strict=True):
            if value and metric._type == "gauge":
                cell.set(value, time.time())
            elif value:
                cell.inc(value)
        if described and kept:
            metric._value = kept
            _remember(metric)
        elif isinstance(metric, metrics.Enum):
            _remember(metric, at=1.0)
        functions.adopt(metric)
    if not metric._labelvalues:
        store.declare(_family(metric))


def _share_lock(metric: Any) -> None:
    """Let a metric use the mutex: another thread could hold a lock of its own during a fork, and the child would never get it."""
    if hasattr(metric, "_lock"):
        metric._lock = fork.mutex


def _cells(metric: Any) -> list[Any]:
    single = [getattr(metric, name) for name in ("_count", "_sum", "_value") if hasattr(metric, name)]
    found = [*single, *getattr(metric, "_buckets", ())]
    return [cell for cell in found if hasattr(cell, "get_exemplar")]
