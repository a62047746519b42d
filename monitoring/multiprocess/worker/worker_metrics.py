"""What each process says of itself: `multiproc_workers_started_total` and `multiproc_elected{role}`.

They are ordinary values of this process's slot, merged as any other.
"""

from __future__ import annotations

from monitoring.multiprocess.storage.declarations import Family

from .slot_store import Phase, store
from .value import Value

_STARTED = Family("multiproc_workers_started", "counter", "Processes that took a slot, since the run began.")
_ELECTED = Family("multiproc_elected", "gauge", "1 while a process holds the role, 0 while none does.", "livemax", ("role",))
_started: list[Value] = []


def prepare() -> None:
    """Declare the families, and count this process and those it forks whenever one takes a slot. Once, from `install()`."""
    store.declare(_STARTED)
    store.declare(_ELECTED)
    _started.append(Value("counter", _STARTED.name, f"{_STARTED.name}_total", (), (), _STARTED.help))
    store.hooks.add(Phase.ATTACHED, _count_start)


def elected(role: str) -> Value:
    """The value that says whether this process holds `role`."""
    return Value("gauge", _ELECTED.name, _ELECTED.name, _ELECTED.labels, (role,), _ELECTED.help, multiprocess_mode=_ELECTED.mode)


def _count_start() -> None:
    for value in _started:
        value.inc(1.0)
