"""The schema: made by migrations, one at a time, whole or not at all."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.store import migrator, schema_version
from app.store.database import Database, make_engine
from app.store.database_url import DatabaseLocation
from app.store.errors import NotMigratedError, StoreError
from app.store.models import Base
from tests.conftest import ROOT
from tests.processes import is_alive, wait_until

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tests.postgres import PostgreSQL


def command(place: DatabaseLocation, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app.migrate"],
        cwd=ROOT,
        env=environment | {"DATABASE_URL": place.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_newest_revision_is_the_one_that_the_service_asks_for() -> None:
    scripts = ScriptDirectory.from_config(migrator.config())
    assert scripts.get_heads() == [schema_version.HEAD]
    assert schema_version.enough(schema_version.HEAD)
    assert schema_version.enough("9999")
    assert not schema_version.enough("0000")
    assert not schema_version.enough(None)


def test_migrations_make_what_the_models_say(place: DatabaseLocation) -> None:
    async def differences() -> list[object]:
        engine = make_engine(place)

        def compare(connection: Connection) -> list[object]:
            return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata))

        async with engine.connect() as connection:
            found = await connection.run_sync(compare)
        await engine.dispose()
        return found

    assert asyncio.run(differences()) == []


def test_migrations_at_once_wait_for_each_other(empty: DatabaseLocation, environment: dict[str, str]) -> None:
    running = [command(empty, environment) for _ in range(4)]
    for process in running:
        assert process.wait() == 0, process.communicate()
        said, errors = process.communicate()
        assert said == f"app.migrate: {empty} has schema {schema_version.HEAD}\n"
        assert errors == ""


def test_a_second_migration_waits_for_the_lock(tmp_path: Path, environment: dict[str, str]) -> None:
    place = DatabaseLocation.of_file(tmp_path / "neurectomy.db")
    assert place.path is not None
    with sqlite3.connect(place.path, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        second = command(place, environment)

        def opened() -> bool:
            assert second.poll() is None, second.communicate()
            files = Path(f"/proc/{second.pid}/fd").iterdir()
            return f"{place.path}-wal" in {str(path.readlink()) for path in files if path.is_symlink()}

        wait_until(opened, "the second migration has opened the file")
        assert schema_version.of_file(place.path) is None
        other.execute("COMMIT")
    other.close()
    assert second.wait() == 0, second.communicate()
    second.communicate()
    assert schema_version.of_file(place.path) == schema_version.HEAD


def test_a_second_migration_waits_for_the_lock_of_postgresql(server: PostgreSQL, environment: dict[str, str]) -> None:
    place = DatabaseLocation.parse(server.create())
    name = place.url.rpartition("/")[2]

    async def hold() -> int:
        engine = make_engine(place)
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({migrator._LOCK})"))
            second = await asyncio.to_thread(command, place, environment)
            waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
            await asyncio.to_thread(wait_until, lambda: server.query("postgres", waiting), "the second migration waits")
            tables = "SELECT 1 FROM pg_tables WHERE schemaname = 'public'"
            assert not await asyncio.to_thread(server.query, name, tables)
        await engine.dispose()
        code = await asyncio.to_thread(second.wait)
        assert code == 0, second.communicate()
        second.communicate()
        return code

    assert asyncio.run(hold()) == 0


@pytest.mark.parametrize("moment", ["-wal", "-shm", ""])
def test_a_killed_migration_has_changed_nothing_or_all(tmp_path: Path, environment: dict[str, str], moment: str) -> None:
    place = DatabaseLocation.of_file(tmp_path / "neurectomy.db")
    process = command(place, environment)
    wait_until(lambda: Path(f"{place.path}{moment}").exists() or not is_alive(process.pid), "it has begun")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert place.path is not None
    assert schema_version.of_file(place.path) in (None, schema_version.HEAD)
    assert asyncio.run(migrator.upgrade(place)) == schema_version.HEAD


def test_a_newer_schema_is_left_alone(place: DatabaseLocation) -> None:
    async def run() -> str:
        database = Database(place)
        async with database.writing() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await database.require_schema()
        await database.close()
        return await migrator.upgrade(place)

    assert asyncio.run(run()) == "9999"


def test_without_a_schema_every_session_says_which_command_is_missing(empty: DatabaseLocation) -> None:
    async def run() -> None:
        database = Database(empty)
        with pytest.raises(NotMigratedError, match=r"python -m app\.migrate"):
            await database.require_schema()
        with pytest.raises(NotMigratedError):
            async with database.reading() as session:
                await session.execute(text("SELECT name FROM users"))
        await migrator.upgrade(empty)
        await database.require_schema()
        await database.close()

    asyncio.run(run())


def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, environment: dict[str, str], free_port: object) -> None:
    assert callable(free_port)
    (tmp_path / "file").touch()
    places = [
        DatabaseLocation.of_file(tmp_path / "file" / "x.db"),
        DatabaseLocation.parse(f"postgresql+asyncpg://me:pass@127.0.0.1:{free_port()}/x"),
    ]
    (tmp_path / "text.db").write_text("this is no database\n" * 1000)
    places.append(DatabaseLocation.of_file(tmp_path / "text.db"))
    for place in places:
        said, errors = command(place, environment).communicate()
        assert said == ""
        assert errors.startswith(f"app.migrate: the database {place} cannot be "), errors
        assert errors.count("\n") == 1, errors
        assert "pass" not in errors


def test_the_programs_error_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    from app.store import sqlite_migration

    with pytest.raises(StoreError, match="cannot be created"):
        sqlite_migration.migrate(DatabaseLocation.of_file(tmp_path / "file" / "x.db"), None)
