"""What a process does whose lock file was taken away: by a cleaner of old files, or with the whole directory.

Its lock then guards a file that nobody else can find, so that others could take its slot and its roles as well. It is noticed within
one sampling interval: one look at the directory each time. The process takes a slot anew, its own where nobody has taken that
meanwhile, else one without any file, and goes on there. It cannot bring back what was counted into files that are gone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.storage import paths, slot_lease
from monitoring.multiprocess.storage.record_format import removed

from .slot_store import store

if TYPE_CHECKING:
    from pathlib import Path

    from .value import Value

_log = logging.getLogger(__name__)


def check() -> None:
    """Take a slot anew where the lock file is another one than that of this process's lease. Never raises for what the disk says."""
    with fork.mutex:
        held, directory = store.held, store.directory
        if held is None or directory is None or held.stands(directory):
            return
        with store.undisturbed():
            try:
                taken = slot_lease.take(directory, former=held.slot)
            except OSError as error:
                store.problems.warn(
                    f"the metrics directory {directory} was taken away under this process: {error}; what it counts meanwhile is lost"
                )
                return
            _log.warning(
                "%s was removed or replaced under slot %d, so others could take that slot too; this process goes on in slot %d; "
                "keep cleaners of old files away from the metrics directory",
                directory / paths.LOCK,
                held.slot,
                taken.slot,
            )
            _move(directory, held, taken)


def _move(directory: Path, held: slot_lease.Lease, taken: slot_lease.Lease) -> None:
    gauges = [found for value in store.living_values() if (found := _own(value, stays=held.slot == taken.slot))]
    published = (directory / paths.FAMILIES).exists()
    held.release()
    store.renew(taken, again=not published)
    for value, own, at in gauges:
        value.set(own, at)


def _own(value: Value, *, stays: bool) -> tuple[Value, float, float] | None:
    """What this process itself has set a gauge to, and when; None for what continues by itself in the file."""
    if not value.prefix.startswith("gauge_") or not value.attached or removed(value._view[value._i]):
        return None
    own, at = value.get(), value._view[value._i + 1]
    if value.prefix == "gauge_sum":
        if not stays:
            return None  # it stays in the old file, as a dead worker's does
        value.set(0.0)
    return value, own, at
