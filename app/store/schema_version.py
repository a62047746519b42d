"""The schema revision that this version of the service needs, and that of a SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.store.errors import DatabaseAwayError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "0004"
"""The newest revision in `migrations/versions`. Names are numbers of four digits, and a greater one is newer."""

QUERY = "SELECT version_num FROM alembic_version"


def enough(revision: str | None) -> bool:
    """Return whether the service can use a database of this revision. Migrations only add, so it can use a newer one."""
    return revision is not None and revision >= HEAD


def of_file(path: Path) -> str | None:
    """Return the revision of a SQLite file, None if there is none yet; DatabaseAwayError if the file cannot be read.

    The connection is closed when this returns: a master may call it before it forks.
    """
    try:
        if not path.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", timeout=5, uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
                return None
            found = connection.execute(QUERY).fetchone()
    except (sqlite3.Error, OSError) as error:
        raise DatabaseAwayError(f"the database {path} cannot be read: {error}") from error
    return str(found[0]) if found else None
