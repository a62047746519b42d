"""Which workers stand for showing what is in the database: all of an instance of which one has used it in this run.

An instance that never uses its database need not import what that takes, in any of its workers.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from monitoring.multiprocess import paths
from monitoring.multiprocess.linux import file_owner
from monitoring.multiprocess.worker.slot_store import store

if TYPE_CHECKING:
    from app.store.database import Database
    from monitoring.multiprocess.worker.election import Election

_MARK = paths.state_file("database-used")


def elected(database: Database, election: Election) -> bool:
    """Stand for election where this instance has used the database; whether this process holds the role. Not on an event loop."""
    return _used(database) and election.try_hold()


def _used(database: Database) -> bool:
    """Whether this worker has used it, or has been told by one that did, and may be dead."""
    if store.directory is None:
        return database.used
    mark = store.directory / _MARK
    if mark.exists():
        return True
    if database.used:
        with contextlib.suppress(OSError):  # another worker makes it at this moment, or the disk is full
            os.close(file_owner.create(mark, 0o600))
    return database.used
