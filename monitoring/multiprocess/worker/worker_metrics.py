"""Metrics that each worker reports about itself: `multiproc_workers_started_total` and `multiproc_elected{role}`.

They are ordinary values of the worker's slot, merged like any other.
"""

from __future__ import annotations

from monitoring.multiprocess.storage.declarations import Family
from monitoring.multiprocess.storage.library_families import ELECTED, WORKERS_STARTED

from .slot_store import Phase, store
from .value import Value

_started: list[Value] = []


def prepare() -> None:
    """Declare the families, and count this process and those it forks whenever one takes a slot. Once, from `install()`."""
    store.declare(Family(*WORKERS_STARTED))
    store.declare(Family(*ELECTED))
    _started.append(Value(*WORKERS_STARTED.value()))
    store.hooks.add(Phase.ATTACHED, _count_start)


def elected(role: str) -> Value:
    """Create the value that shows whether this process holds `role`."""
    return Value(*ELECTED.value(role))


def _count_start() -> None:
    for value in _started:
        value.inc(1.0)
