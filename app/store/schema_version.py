"""Which schema this version of the service needs, and which one a SQLite file has."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.store.errors import DatabaseAwayError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "0004"
"""The newest revision in `migrations/versions`, whose names are numbers of four digits: a greater one is newer."""

QUERY = "SELECT version_num FROM alembic_version"


def enough(revision: str | None) -> bool:
    """Tell whether a database of this revision can be served from. Migrations only add, so a newer one can."""
    return revision is not None and revision >= HEAD


def of_file(path: Path) -> str | None:
    """Give the revision of a SQLite file, None where there is none yet; DatabaseAwayError where it cannot be read.

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
