"""Runs migrations, one process at a time: under a lock of the database, in one transaction. A kill leaves the schema unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.store.database import make_engine
from app.store.driver_errors import translated
from app.store.errors import DatabaseAwayError
from app.store.sqlite_migration import make_folder

from . import schema_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.store.database_url import DatabaseLocation

_PATIENCE_SECONDS = 600
_BUSY = 5
_LOCK = 7_041_776_238
"""The number of PostgreSQL's advisory lock, an arbitrary one."""


def config() -> Config:
    """Return alembic's configuration of the migrations."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


async def upgrade(location: DatabaseLocation) -> str:
    """Migrate the database to this version's schema; return its revision. StoreError if that fails.

    Waits for a migration that is already running.
    """
    if location.path is not None:
        make_folder(location.path.parent)
    engine = make_engine(location, patience_seconds=_PATIENCE_SECONDS)
    try:
        with translated(location):
            async with _alone(engine, location) as connection:
                await connection.run_sync(_upgrade)
                return str(await connection.scalar(text(schema_version.QUERY)))
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    settings = config()
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    exists = connection.dialect.has_table(connection, "alembic_version")
    revision = connection.scalar(text(schema_version.QUERY)) if exists else None
    if revision is not None and revision not in known and schema_version.enough(revision):
        return  # a newer version of the service has migrated it
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


@contextlib.asynccontextmanager
async def _alone(engine: AsyncEngine, location: DatabaseLocation) -> AsyncIterator[AsyncConnection]:
    """Return the only connection that may change the schema, in a transaction that is committed at the end."""
    if location.path is not None:
        await asyncio.to_thread(_write_ahead, location.path)
        engine = engine.execution_options(writes=True)  # the transaction starts with the file's lock
    async with engine.begin() as connection:
        if location.path is None:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        yield connection


def _write_ahead(path: Path) -> None:
    """Turn on WAL, which the file remembers. SQLite does not wait for another process that does the same, so retry."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != _BUSY or time.monotonic() > deadline:
                raise DatabaseAwayError(f"the database {path} cannot be created: {error}") from error
            time.sleep(0.05)
        else:
            return
