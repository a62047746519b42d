"""The cap on the series of a family: past it, `labels()` returns the child whose labels are all `_other`, and counts that.

Distinct label sets are counted over all workers. For a label set that this process knows, the check of other workers is one load.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

from prometheus_client import metrics

from monitoring.log_once import LogOnce
from monitoring.multiprocess import options
from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.storage.declarations import Family
from monitoring.multiprocess.storage.library_families import REFUSED_SERIES
from monitoring.multiprocess.storage.series_log import GONE, OTHER, SeriesLog, identity, label_set
from monitoring.multiprocess.worker.slot_store import Phase, store
from monitoring.multiprocess.worker.value import Value
from monitoring.retry_later import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_UNLIMITED = 1 << 62
_log = logging.getLogger(__name__)


class Cap:
    """The cap in this process; `forget` is called with each child that another process has removed."""

    def __init__(self, directory: Path, max_series: int, forget: Callable[[Any], None]) -> None:
        self.log = SeriesLog(directory)
        self._max_series = max_series
        self._forget = forget
        self._parents: dict[int, weakref.WeakSet[Any]] = {}
        self._refused: dict[str, Value] = {}
        self._log_pause = Pause()
        self._problems = LogOnce(_log)

    def adopt(self, metric: Any) -> None:
        """Follow the label sets of a labelled metric; those that it has already stay, whatever the cap."""
        if not metric._labelnames or metric._labelvalues:
            return
        with fork.mutex:
            metric._by_hash = {}
            self._parents.setdefault(identity(metric._name), weakref.WeakSet()).add(metric)
            for key in list(metric._metrics):
                self._admit(metric, key, _UNLIMITED)

    def child(self, metric: Any, key: tuple[str, ...], make: Callable[..., Any]) -> Any:
        """Return the child with these label values, made by `make` where it is new; past the cap, the overflow child."""
        with fork.mutex:
            self.follow()
            known = metric._metrics.get(key)
            if known is not None:
                return known
            other = (OTHER,) * len(key)
            if key != other and not self._admit(metric, key, options.series_limit(metric._name, self._max_series)):
                self._refuse(metric._name)
                key = other
            return make(metric, *key)

    def follow(self) -> None:
        """Drop the children whose series other processes have removed. Never raises."""
        if not self.log.busy and self._log_pause.over:
            with self._tolerant():
                self._let_go(self.log.follow())

    @contextlib.contextmanager
    def removing(self, metric: Any, labels: dict[str, str], found: Iterable[frozenset[tuple[str, str]]]) -> Iterator[None]:
        """Note the removal of series of `metric` with `labels`: all of the family, one label set, or those `found`."""
        hashes: set[int] | None = None
        if len(labels) == len(metric._labelnames):
            hashes = {label_set(labels)}
        elif labels:
            hashes = {label_set(dict(pairs)) for pairs in found}
            hashes |= {
                each for each, key in metric._by_hash.items() if labels.items() <= dict(zip(metric._labelnames, key, strict=True)).items()
            }
        with contextlib.ExitStack() as stack:
            with self._tolerant():
                self._let_go(stack.enter_context(self.log.removing(identity(metric._name), hashes)))
            for each in list(metric._by_hash) if hashes is None else hashes:
                metric._by_hash.pop(each, None)
            yield

    def _admit(self, metric: Any, key: tuple[str, ...], cap: int) -> bool:
        if self.log.busy or not self._log_pause.over:
            return False
        each = label_set(dict(zip(metric._labelnames, key, strict=True)))
        with self._tolerant():
            admitted, gone = self.log.add(identity(metric._name), each, cap)
            self._let_go(gone)
            if admitted:
                metric._by_hash[each] = key
            else:
                message = f"metric {metric._name} has reached its cap of {cap} series. New label sets go to {OTHER}"
                self._problems.warn(message, about=metric._name)
            return admitted
        return False

    def _refuse(self, family: str) -> None:
        counter = self._refused.get(family)
        if counter is None:
            counter = self._refused[family] = Value(*REFUSED_SERIES.value(family))
        counter.inc(1.0)

    def _let_go(self, gone: list[tuple[int, int]]) -> None:
        for family, each in gone:
            for metric in list(self._parents.get(family, ())):
                key = metric._by_hash.pop(each, None)
                child = metric._metrics.pop(key, None)
                if child is not None:
                    self._forget(child)

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Refuse new series while the log cannot be read or written, without waiting for it each time."""
        try:
            yield
        except OSError as error:
            self._log_pause.begin(error)
            self._problems.warn(f"series cannot be counted in {store.directory}: {error}. Until they can, new label sets go to {OTHER}")


def patch(cap: Cap) -> None:
    """Put the cap into `labels()` of prometheus_client's classes. Once, from `install()`."""
    log, make = cap.log, metrics.MetricWrapperBase.labels

    def labels(self: Any, *labelvalues: Any, **labelkwargs: Any) -> Any:
        """Return the child for these label values; past the cap, the one whose labels are all `_other`."""
        try:
            found = tuple([labelkwargs[name] for name in self._labelnames]) if labelkwargs else labelvalues
            child = self._metrics[found]
            if log.words[GONE] == log.removals and len(labelkwargs) in (0, len(found)) and not (labelkwargs and labelvalues):
                for value in found:
                    if value.__class__ is not str:  # equal to a string is not the same text
                        break
                else:
                    return child
        except (AttributeError, LookupError, TypeError, ValueError):
            pass
        return cap.child(self, _checked(self, labelvalues, labelkwargs), make)

    metrics.MetricWrapperBase.labels = labels  # type: ignore[method-assign]
    store.declare(Family(*REFUSED_SERIES))
    store.hooks.add(Phase.TAKEN, cap.follow)


def _checked(metric: Any, labelvalues: tuple[Any, ...], labelkwargs: dict[str, Any]) -> tuple[str, ...]:
    """Return the label values as upstream accepts them, with its errors."""
    message = ""
    if not metric._labelnames:
        message = f"No label names were set when constructing {metric}"
    elif metric._labelvalues:
        labels = dict(zip(metric._labelnames, metric._labelvalues, strict=True))
        message = f"{metric} already has labels set ({labels}); can not chain calls to .labels()"
    elif labelvalues and labelkwargs:
        message = "Can't pass both *args and **kwargs"
    elif labelkwargs and sorted(labelkwargs) != sorted(metric._labelnames):
        message = "Incorrect label names"
    elif not labelkwargs and len(labelvalues) != len(metric._labelnames):
        message = "Incorrect label count"
    if message:
        raise ValueError(message)
    return tuple(str(labelkwargs[name]) for name in metric._labelnames) if labelkwargs else tuple(map(str, labelvalues))
