"""Which workers stand for election: all workers of an instance that has used the database in this run.

In an instance that never uses its database, no worker imports SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import SharedState

if TYPE_CHECKING:
    from app.store.database import Database
    from monitoring.multiprocess import Election

_USED = 1
#: A word that is 1 once a worker has used the database. That worker may be dead.
_state = SharedState("database-used", 2, magic=b"db-used1", subject="the note that the database is used")


def elected(database: Database, election: Election) -> bool:
    """Try to hold the role if this instance has used the database; return whether this process holds it. Blocks."""
    return _used(database) and election.try_hold()


def _used(database: Database) -> bool:
    try:
        with _state.editing() as words:
            words[_USED] |= database.used
            return bool(words[_USED])
    except TimeoutError:  # another process keeps the words: the next round asks again
        return database.used
