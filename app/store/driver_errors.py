"""Classifies exceptions of drivers: a failure of the database becomes a StoreError; any other is a bug of the service and passes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from app.store.errors import DatabaseAwayError, DatabaseFullError, NotMigratedError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.exc import DBAPIError

    from app.store.database_url import DatabaseLocation

_SQLITE_FULL = 13
_SQLITE_UNUSABLE = (5, 6, 8, 10, 11, 14, 26)
"""Busy, locked, read-only, I/O error, damaged, cannot be opened, not a database."""
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column")

_POSTGRESQL_FULL = "53100"
_POSTGRESQL_SCHEMA = ("42P01", "42703")
_POSTGRESQL_AWAY = ("", "08", "25", "28", "3D", "40", "53", "57", "58")
"""Classes of SQLSTATE: none, connection, read-only, refused, no database, conflict, no resources, stopping or slow, system."""


@contextlib.contextmanager
def translated(location: DatabaseLocation) -> Iterator[None]:
    """Raise failures of the database itself as a StoreError."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as NoConnectionError

    try:
        yield
    except OSError as error:  # a TimeoutError too
        raise DatabaseAwayError(f"the database {location} cannot be reached: {_line(error)}") from error
    except NoConnectionError as error:
        raise DatabaseAwayError(f"all connections to the database {location} are busy") from error
    except DBAPIError as error:
        meant = _sqlite(location, error) if location.path is not None else _postgresql(location, error)
        if meant is None:
            raise
        raise meant from error
    except Exception as error:
        if not type(error).__module__.startswith("asyncpg"):  # SQLAlchemy passes exceptions of connecting unchanged
            raise
        raise DatabaseAwayError(f"the database {location} refuses connections: {_line(error)}") from error


def _sqlite(location: DatabaseLocation, error: DBAPIError) -> StoreError | None:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code == _SQLITE_FULL:
        return DatabaseFullError(f"the database {location} cannot grow: the disk is full")
    if any(words in str(error.orig) for words in _SQLITE_SCHEMA):
        return NotMigratedError()
    return DatabaseAwayError(f"the database {location} cannot be used: {_line(error.orig)}") if code in _SQLITE_UNUSABLE else None


def _postgresql(location: DatabaseLocation, error: DBAPIError) -> StoreError | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == _POSTGRESQL_FULL:
        return DatabaseFullError(f"the database {location} cannot grow: {_line(error.orig)}")
    if state in _POSTGRESQL_SCHEMA:
        return NotMigratedError()
    if error.connection_invalidated or state[:2] in _POSTGRESQL_AWAY:
        return DatabaseAwayError(f"the database {location} does not answer: {_line(error.orig)}")
    return None


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
