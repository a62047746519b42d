"""Recovery of a lease whose lock file was removed, by a cleaner of old files or with the whole directory.

The lock then guards a file that no other process can find, so others could take the same slot and roles. `check` looks at the directory
once per sampling interval. The process takes a slot again: its own if that is still free, otherwise one without files. Counts in files
that were removed are lost.
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
    """Take a slot again if the lock file is not the one of this process's lease. Never raises for errors of the disk."""
    with fork.mutex:
        held, directory = store.held, store.directory
        if held is None or directory is None or held.stands(directory):
            return
        with store.undisturbed():
            try:
                taken = slot_lease.take(directory, former=held.slot)
            except OSError as error:
                store.problems.warn(
                    f"metrics directory {directory}: removed while this process used it: {error}. Counts are lost until it is back"
                )
                return
            _log.warning(
                "%s: removed or replaced while slot %d was held, so that others could take that slot too. "
                "This process continues in slot %d. Keep cleaners of old files away from the metrics directory",
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
    """Return what this process itself has set a gauge to, and when; None for values that continue in the file anyway."""
    if not value.prefix.startswith("gauge_") or not value.attached or removed(value._view[value._i]):
        return None
    own, at = value.get(), value._view[value._i + 1]
    if value.prefix == "gauge_sum":
        if not stays:
            return None  # it stays in the old file, as a dead worker's does
        value.set(0.0)
    return value, own, at
