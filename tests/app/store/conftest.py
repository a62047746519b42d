"""Each test of the database runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.store.database_url import DatabaseLocation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import PostgreSQL

BOTH = ("sqlite", "postgresql")


@pytest.fixture(params=BOTH)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseLocation:
    """Give a database without a schema."""
    if request.param == "postgresql":
        made: PostgreSQL = request.getfixturevalue("server")
        return DatabaseLocation.parse(made.create())
    return DatabaseLocation.of_file(tmp_path / "neurectomy.db")


@pytest.fixture
def place(empty: DatabaseLocation) -> DatabaseLocation:
    """Give a database that is ready."""
    import asyncio

    from app.store import migrator

    asyncio.run(migrator.upgrade(empty))
    return empty
