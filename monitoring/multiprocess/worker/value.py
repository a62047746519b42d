"""The value class that stands in for `prometheus_client.values.ValueClass`: one double in the mapped file of this process's slot.

An increment is one statement on a memoryview of doubles, which the GIL makes atomic: no lock, no system call. A value without a
file (no slot yet, a fork, a full disk, a file being rewritten) has a view that refuses access, and takes the slow path through its
`owner`. Removing a series stores -0.0 in its values. Since -0.0 + x == x, the next increment starts from 0. Writes of this class never
store -0.0.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from prometheus_client.mmap_dict import mmap_key

from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.storage.record_format import removed

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Sequence

#: Any access raises IndexError, which sends the writer to the slow path.
DETACHED: memoryview[float] = memoryview(bytearray()).cast("d")
_DETACHED_ERRORS = (IndexError, ValueError)

#: The index of the mode among the arguments after the type, where a caller names none of them.
_MODE = 5


class ValueOwner(Protocol):
    """The part of the store that its values use."""

    def created(self, value: Value) -> None:
        """Attach a new value to a file, now or later."""

    def write(self, value: Value, operation: Callable[..., None], *arguments: Any) -> None:
        """Do `operation` once `value` is attached."""


class Value:
    """A float of this process; `Value(typ, ...)` creates an object of the class for the type and gauge mode.

    Continues the value of the slot's former holder (counters, histograms, summaries). Writing never raises for lack of space: the
    observation is refused and counted in `multiproc_dropped_observations_total`.
    """

    #: The store of this process.
    owner: ClassVar[ValueOwner]
    _multiprocess: ClassVar[bool] = True
    #: Whether the series is shown before its first write, as upstream's is.
    eager: ClassVar[bool] = True
    __slots__ = ("__weakref__", "_group", "_i", "_view", "key", "prefix")

    def __new__(cls, typ: str, *args: Any, multiprocess_mode: str = "", **_kwargs: Any) -> Value:
        multiprocess_mode = multiprocess_mode or (args[_MODE] if len(args) > _MODE else "")
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
        self._group: list[weakref.ref[Value]] = []
        self.owner.created(self)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        if type(amount) is not float:
            amount = float(amount)
        try:
            self._view[self._i] += amount
        except _DETACHED_ERRORS:
            self.owner.write(self, self.inc, amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value of this slot."""
        try:
            self._view[self._i] = float(value) + 0.0
        except _DETACHED_ERRORS:
            self.owner.write(self, self.set, value, timestamp)

    def get(self) -> float:
        """Return the value of this slot; 0 before the first write."""
        try:
            return self._own()
        except _DETACHED_ERRORS:
            with fork.mutex:  # its file may be about to be rewritten
                return self._own() if self.attached else 0.0

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing: exemplars are not kept in multiprocess mode, as upstream."""

    def get_exemplar(self) -> None:
        """See `set_exemplar`."""
        return

    @property
    def group(self) -> list[Value]:
        """The values that are attached together with this one, which is among them."""
        return [value for reference in self._group if (value := reference()) is not None] or [self]

    def join(self, group: list[weakref.ref[Value]]) -> None:
        """Attach this value together with these. They are not kept alive: a removed child goes with its last reference."""
        self._group = group

    @property
    def attached(self) -> bool:
        """Whether a write goes straight to the file."""
        try:
            self._view[self._i]
        except _DETACHED_ERRORS:
            return False
        return True

    def attach(self, view: memoryview[float], index: int) -> None:
        """Write to `view[index]` from now on."""
        self.move(view, index)

    def move(self, view: memoryview[float], index: int) -> None:
        """Follow a rewritten file: the same sample is at `view[index]` now."""
        self._i = index
        self._view = view

    def revive(self) -> None:
        """Show a removed series as 0 again, if series of this class are shown before their first write."""
        if self.eager and removed(self._view[self._i]):
            self._view[self._i] = 0.0

    def withdraw(self) -> None:
        """Hide the value of this worker; those of former holders stay. The caller holds `fork.mutex`."""
        self.set(0.0)

    def _own(self) -> float:
        return self._view[self._i] + 0.0


class DirectGauge(Value):
    """Modes all, liveall, livemin, livemax: the value itself, in a file that every holder starts empty; unset until set."""

    eager = False
    __slots__ = ()

    def withdraw(self) -> None:
        _end(self)


class SumGauge(Value):
    """Mode sum: the total of former holders, which the timestamp keeps, plus the holder's own value."""

    __slots__ = ()

    def set(self, value: float, timestamp: float | None = None) -> None:
        try:
            value = float(value)
            self._view[self._i] = self._view[self._i + 1] + value + 0.0
        except _DETACHED_ERRORS:
            self.owner.write(self, self.set, value, timestamp)

    def _own(self) -> float:
        return self._view[self._i] - self._view[self._i + 1]


class _OwnGauge(Value):
    """Modes that may show a value other than the one this worker set, which is `own`; unset until set."""

    eager = False
    __slots__ = ("own",)

    def attach(self, view: memoryview[float], index: int) -> None:
        self.own = 0.0
        super().attach(view, index)

    def inc(self, amount: float) -> None:
        self._begin(float(amount), time.time(), add=True)

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._begin(float(value) + 0.0, float(timestamp or 0.0), add=False)

    def withdraw(self) -> None:
        self.own = 0.0
        _end(self)

    def _own(self) -> float:
        return 0.0 if removed(self._view[self._i]) else self.own

    def _begin(self, amount: float, at: float, *, add: bool) -> None:
        try:
            now = self._view[self._i]
            if not now and removed(now):
                with fork.mutex:
                    if removed(self._view[self._i]):
                        self._forget()
                    self._put(amount, at, add=add)
            else:
                self._put(amount, at, add=add)
        except _DETACHED_ERRORS:
            self.owner.write(self, self._begin_again, amount, at, add)

    def _begin_again(self, amount: float, at: float, add: bool) -> None:
        self._begin(amount, at, add=add)

    def _forget(self) -> None:
        """Forget the value: the series was removed."""
        self.own = 0.0

    def _put(self, amount: float, at: float, *, add: bool) -> None:
        """Write, without a call: other threads cannot run between these statements."""
        raise NotImplementedError


class ExtremeGauge(_OwnGauge):
    """Modes max and min: the greater or smaller of the former holders' value, which the timestamp keeps, and the holder's own."""

    greater: ClassVar[bool] = True
    __slots__ = ()

    def withdraw(self) -> None:
        self.own = 0.0
        if self.attached and not removed(self._view[self._i]):
            base = self._view[self._i + 1]
            self._view[self._i] = -0.0 if math.isnan(base) else base

    def _forget(self) -> None:
        super()._forget()
        self._view[self._i + 1] = math.nan

    def _put(self, amount: float, at: float, *, add: bool) -> None:
        view, i = self._view, self._i
        base = view[i + 1]  # NaN where former holders left no value; every comparison with NaN is false
        own = self.own + amount if add else amount
        self.own = own
        if base > own if self.greater else base < own:
            own = base
        view[i] = own + 0.0


class MinGauge(ExtremeGauge):
    """Mode min."""

    greater = False
    __slots__ = ()


class RecentGauge(_OwnGauge):
    """Modes mostrecent and livemostrecent: a value and its timestamp. `inc` adds to the value that this worker set last."""

    __slots__ = ()

    def _put(self, amount: float, at: float, *, add: bool) -> None:
        view, i = self._view, self._i
        own = self.own + amount if add else amount
        view[i] = own + 0.0
        view[i + 1] = at
        self.own = own


def _end(value: Value) -> None:
    """Mark the sample of this slot as removed, by -0.0."""
    if value.attached:
        value._view[value._i] = -0.0


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
    """Return the same class with a lock around its writes: on a free-threaded build one statement is not atomic."""

    def inc(self: Value, amount: float) -> None:
        with fork.mutex:
            kind.inc(self, amount)

    def set_(self: Value, value: float, timestamp: float | None = None) -> None:
        with fork.mutex:
            kind.set(self, value, timestamp)

    if kind not in _locked_kinds:
        _locked_kinds[kind] = type(kind.__name__, (kind,), {"__slots__": (), "inc": inc, "set": set_})
    return _locked_kinds[kind]


def direct(values: Sequence[object]) -> tuple[memoryview[float], list[int]] | None:
    """Return the doubles of the file of these values, and the index of each, so that a caller can add to them without a call for each.

    Access raises IndexError while a value has no file, and ValueError once the process forked or the file was rewritten: write
    through the values then, and ask again. None for values of another class, which cannot be written this way.
    """
    plain = [value for value in values if type(value) is Value]
    if len(plain) < len(values):
        return None
    with fork.mutex:
        if not all(value.attached for value in plain):
            return DETACHED, [0] * len(plain)
        # A file that grew is mapped once more: the newest mapping shows all of it.
        return max((value._view for value in plain), key=len), [value._i for value in plain]
