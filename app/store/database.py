"""Sessions of the database. Each process makes its engine at the first use, and never carries it across a fork.

A failure of the database itself is raised as a StoreError; every other exception passes. SQLite's writers take the file's lock at their
start (BEGIN IMMEDIATE), so that none is refused because of a write after its first read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from app.store.driver_errors import translated
from app.store.errors import NotMigratedError, StoreError

from . import schema_version, sqlite_migration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    from app.store.database_url import DatabaseLocation

_PATIENCE_SECONDS = 10
"""The longest wait of a statement for a lock, or for PostgreSQL's answer."""
_CONNECT_SECONDS = 5
_CONNECTIONS = 5
"""The most connections of one process."""


class Database:
    """One database. It can be made in a master and used in its workers."""

    def __init__(self, location: DatabaseLocation) -> None:
        self.location = location
        self._pid = 0
        self._good = False
        self._engine: AsyncEngine | None = None
        self._writer = asyncio.Lock()

    @property
    def used(self) -> bool:
        """Whether this process has had a session."""
        return self._engine is not None and self._pid == os.getpid()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Return a session in a transaction that only reads."""
        async with self._session(writes=False) as session:
            yield session

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Return a session whose transaction is committed at the end, and rolled back after an exception."""
        self._own()
        async with self._writer if self.location.path else contextlib.nullcontext(), self._session(writes=True) as session:
            yield session
            with translated(self.location):
                await session.commit()

    async def require_schema(self) -> None:
        """Return if the database has this version's schema; NotMigratedError if not, another StoreError if that is unknown."""
        self._own()
        if self._good:
            return
        if self.location.path is not None:
            revision = await asyncio.to_thread(schema_version.of_file, self.location.path)
        else:
            revision = await self._revision()
        if not schema_version.enough(revision):
            raise NotMigratedError
        self._good = True

    async def start(self, *, needed: bool) -> StoreError | None:
        """Start a worker: migrate if no master does. With `needed`, also load the modules that the first request needs.

        The returned StoreError is the reason if the database cannot be used yet.
        """
        try:
            await asyncio.to_thread(sqlite_migration.by_worker, self.location)
            if needed:
                await self._opened()
            await self.require_schema()
        except StoreError as error:
            return error
        return None

    async def close(self) -> None:
        """Close all connections."""
        self._own()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    def _own(self) -> None:
        """In a forked child, forget the parent's engine and connections."""
        if self._pid != os.getpid():
            self._engine, self._good, self._writer, self._pid = None, False, asyncio.Lock(), os.getpid()

    async def _revision(self) -> str | None:
        from sqlalchemy import text

        try:
            async with self.reading() as session:
                found: str | None = await session.scalar(text(schema_version.QUERY))
                return found
        except NotMigratedError:
            return None

    async def _opened(self) -> AsyncEngine:
        self._own()
        if self._engine is None:
            await asyncio.to_thread(load)
            if self._engine is None:
                self._engine = make_engine(self.location)
        return self._engine

    @contextlib.asynccontextmanager
    async def _session(self, *, writes: bool) -> AsyncIterator[AsyncSession]:
        from sqlalchemy.ext.asyncio import AsyncSession

        engine = await self._opened()
        with translated(self.location):
            async with AsyncSession(engine.execution_options(writes=writes), expire_on_commit=False) as session:
                await session.connection()
                yield session


def load() -> None:
    """Import SQLAlchemy: in a master that preloads, or in a thread, since the import would block an event loop."""
    import sqlalchemy.ext.asyncio  # noqa: F401 - only to import it


def make_engine(location: DatabaseLocation, patience_seconds: float = _PATIENCE_SECONDS) -> AsyncEngine:
    """Make an engine for this process. Its first statement opens the first connection."""
    from sqlalchemy import event
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import create_async_engine

    if location.path is None:
        return create_async_engine(
            location.url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_PATIENCE_SECONDS,
            pool_pre_ping=True,
            connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": patience_seconds},
        )
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(location.path)),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_PATIENCE_SECONDS,
        connect_args={"timeout": patience_seconds},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions start in `_begin` below
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine
