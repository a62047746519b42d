"""The value class that stands in for `prometheus_client.values.ValueClass`: one double in the mapped file of this process's slot.

An increment is one statement on a memoryview of doubles, which the GIL makes whole: no lock, no system call. A value without a
file (no slot yet, a fork, a full disk) has a view that refuses access, and takes the slow path through `store`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from prometheus_client.mmap_dict import mmap_key

from . import locks
from .store import store

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Any access raises IndexError, which sends the writer to the slow path.
DETACHED: memoryview[float] = memoryview(bytearray()).cast("d")
_DETACHED_ERRORS = (IndexError, ValueError)


class Value:
    """A float of this process; `Value(typ, ...)` gives the class that fits the type and gauge mode.

    Continues what the slot's former holder left (counters, histograms, summaries). Writing never raises for lack of space: the
    observation is refused and counted in `multiproc_dropped_observations_total`.
    """

    _multiprocess: ClassVar[bool] = True
    #: Whether the series shows before its first write, as upstream's does.
    eager: ClassVar[bool] = True
    __slots__ = ("__weakref__", "_i", "_view", "group", "key", "prefix")

    def __new__(cls, typ: str, *_args: Any, multiprocess_mode: str = "", **_kwargs: Any) -> Value:  # noqa: PYI034 - it dispatches
        kind = _BY_MODE.get(multiprocess_mode, Value) if typ == "gauge" else Value
        return object.__new__(_locked(kind) if _FREE_THREADED else kind)

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_kwargs: Any,
    ) -> None:
        self._view = DETACHED
        self._i = 0
        self.prefix = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self.key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        self.group: list[Value] = [self]
        store.created(self)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        if type(amount) is not float:
            amount = float(amount)
        try:
            self._view[self._i] += amount
        except _DETACHED_ERRORS:
            store.write(self, self.inc, amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value of this slot."""
        try:
            self._view[self._i] = float(value)
        except _DETACHED_ERRORS:
            store.write(self, self.set, value, timestamp)

    def get(self) -> float:
        """The value of this slot; 0 before the first write."""
        try:
            return self._view[self._i]
        except _DETACHED_ERRORS:
            return 0.0

    def set_exemplar(self, exemplar: object) -> None:
        """Exemplars are not kept in multiprocess mode, as upstream."""

    def get_exemplar(self) -> None:
        """See `set_exemplar`."""
        return

    @property
    def attached(self) -> bool:
        """Whether a write goes straight to the file."""
        try:
            self._view[self._i]
        except _DETACHED_ERRORS:
            return False
        return True

    def attach(self, view: memoryview[float], index: int, found: tuple[float, float] | None) -> None:  # noqa: ARG002 - for gauges
        """Write to `view[index]` from now on; `found` is what the slot's former holder left there, if anything."""
        self._i = index
        self._view = view


class DirectGauge(Value):
    """Modes all, liveall, livemin, livemax: the value itself, in a file that every holder begins anew; unset until set."""

    eager = False
    __slots__ = ()


class SumGauge(Value):
    """Mode sum: what the former holders left plus the holder's own."""

    __slots__ = ("base",)

    def attach(self, view: memoryview[float], index: int, found: tuple[float, float] | None) -> None:
        self.base = found[0] if found else 0.0
        super().attach(view, index, found)

    def set(self, value: float, timestamp: float | None = None) -> None:
        try:
            self._view[self._i] = self.base + float(value)
        except (*_DETACHED_ERRORS, AttributeError):
            store.write(self, self.set, value, timestamp)

    def get(self) -> float:
        try:
            return self._view[self._i] - self.base
        except (*_DETACHED_ERRORS, AttributeError):
            return 0.0


class ExtremeGauge(Value):
    """Modes max and min: the greater or smaller of what the former holders left and the holder's own; unset until set."""

    eager = False
    __slots__ = ("base", "own")
    greater: ClassVar[bool] = True

    def attach(self, view: memoryview[float], index: int, found: tuple[float, float] | None) -> None:
        self.base = found[0] if found else None
        self.own = 0.0
        super().attach(view, index, found)

    def inc(self, amount: float) -> None:
        self._put(amount, add=True)

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - upstream's signature
        self._put(value, add=False)

    def get(self) -> float:
        return self.own if self.attached else 0.0

    def _put(self, amount: float, *, add: bool) -> None:
        amount = float(amount)
        if not self.attached:
            store.write(self, self.inc if add else self.set, amount)
            return
        # From here on no call: other threads cannot come between these statements.
        own = self.own + amount if add else amount
        self.own = own
        base = self.base
        if base is not None and (base > own if self.greater else base < own):
            own = base
        self._view[self._i] = own


class MinGauge(ExtremeGauge):
    """Mode min."""

    greater = False
    __slots__ = ()


class RecentGauge(Value):
    """Modes mostrecent and livemostrecent: a value and the moment at which it was set."""

    eager = False
    __slots__ = ()

    def set(self, value: float, timestamp: float | None = None) -> None:
        value, at = float(value), float(timestamp or 0.0)
        try:
            self._view[self._i] = value
            self._view[self._i + 1] = at
        except _DETACHED_ERRORS:
            store.write(self, self.set, value, timestamp)


_BY_MODE: dict[str, type[Value]] = {
    "all": DirectGauge,
    "liveall": DirectGauge,
    "livemin": DirectGauge,
    "livemax": DirectGauge,
    "sum": SumGauge,
    "max": ExtremeGauge,
    "min": MinGauge,
    "mostrecent": RecentGauge,
    "livemostrecent": RecentGauge,
}
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
_locked_kinds: dict[type[Value], type[Value]] = {}


def _locked(kind: type[Value]) -> type[Value]:
    """On a free-threaded build one statement is not whole: the same class with a lock around its writes."""

    def inc(self: Value, amount: float) -> None:
        with locks.mutex:
            kind.inc(self, amount)

    def set_(self: Value, value: float, timestamp: float | None = None) -> None:
        with locks.mutex:
            kind.set(self, value, timestamp)

    if kind not in _locked_kinds:
        _locked_kinds[kind] = type(kind.__name__, (kind,), {"__slots__": (), "inc": inc, "set": set_})
    return _locked_kinds[kind]
