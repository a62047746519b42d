"""Sessions: writers that do not lose, forks that share nothing, and what is wrong with a database told apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from app.store import migrator
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from app.store.errors import DatabaseAwayError, DatabaseFullError, NotMigratedError
from app.store.models import User
from tests.conftest import ROOT
from tests.postgres import postgresql

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path


def user(name: str) -> User:
    return User(name=name, role="user", active=True, created=time.time())


def run(work: Coroutine[None, None, None]) -> None:
    asyncio.run(work)


WRITER = """
import asyncio, sys, time
from app.store.database import Database
from app.store.models import User
from app.store.database_url import DatabaseLocation
from sqlalchemy import func, select

async def one(database, number):
    async with database.writing() as session:
        known = await session.scalar(select(func.count()).select_from(User))  # reads before it writes
        session.add(User(name=f"{sys.argv[2]}-{number}", role="user", active=bool(known + 1), created=time.time()))

async def main():
    database = Database(DatabaseLocation.parse(sys.argv[1]))
    await asyncio.gather(*(one(database, number) for number in range(50)))
    await database.close()

asyncio.run(main())
"""


def test_many_processes_write_at_once_and_nothing_is_lost(place: DatabaseLocation, environment: dict[str, str]) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, place.url, str(number)], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        for number in range(4)
    ]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()

    async def count() -> None:
        database = Database(place)
        async with database.reading() as session:
            assert await session.scalar(select(func.count()).select_from(User)) == 200
        await database.close()

    run(count())


def test_what_is_raised_inside_a_writing_session_undoes_it(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what is raised inside is the point
            async with database.writing() as session:
                session.add(user("a"))
                await session.flush()
                raise ZeroDivisionError
        async with database.writing() as session:
            session.add(user("a"))
        with pytest.raises(IntegrityError):
            async with database.writing() as session:
                session.add(user("a"))
        async with database.reading() as session:
            assert await session.scalar(select(func.count()).select_from(User)) == 1
        await database.close()

    run(work())


def test_foreign_keys_and_checks_hold(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        statements = (
            "INSERT INTO api_keys (user_id, prefix, digest, created) VALUES (99, 'x', 'x', 1)",
            "INSERT INTO users (name, role, active, created) VALUES ('x', 'emperor', true, 1)",
        )
        for statement in statements:
            with pytest.raises(IntegrityError):
                async with database.writing() as session:
                    await session.execute(text(statement))
        await database.close()

    run(work())


FORKING = """
import asyncio, os, sys
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from sqlalchemy import text

database = Database(DatabaseLocation.parse(sys.argv[1]))

async def ask():
    async with database.reading() as session:
        await session.execute(text("SELECT count(*) FROM users"))
    return database._engine

loop = asyncio.new_event_loop()
before = loop.run_until_complete(ask())
sockets = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
child = os.fork()
if not child:
    code = 1
    try:
        after = asyncio.run(ask())
        code = 0 if after is not before and after is not None else 3
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert loop.run_until_complete(ask()) is before  # the parent's connection still answers
loop.run_until_complete(database.close())
"""


def test_a_forked_child_opens_its_own_connections(place: DatabaseLocation, environment: dict[str, str]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, place.url]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_opened_or_imported_before_the_first_session(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import os, sys, app.main; descriptors = len(os.listdir('/proc/self/fd'));"
        "sys.exit('sqlalchemy' in sys.modules or 'alembic' in sys.modules or 'aiosqlite' in sys.modules)"
    )
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "DATA_DIR": str(tmp_path / "none")}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    place = DatabaseLocation.of_file(tmp_path / "x.db")

    async def work() -> None:
        await migrator.upgrade(place)
        database = Database(place)
        with pytest.raises(DatabaseFullError, match="disk is full"):  # noqa: PT012 - in one transaction
            async with database.writing() as session:
                await session.execute(text("PRAGMA max_page_count=1"))  # SQLite's own limit fails as a disk does
                rows = [{"name": f"{number:060}", "role": "user", "active": True, "created": 1.0} for number in range(5000)]
                await session.execute(insert(User), rows)
        await database.close()
        async with database.reading() as session:
            assert await session.scalar(select(func.count()).select_from(User)) == 0
        await database.close()

    run(work())


def test_a_file_that_is_no_database_or_is_locked_for_too_long_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from app.store import database as module

    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.1)
    (tmp_path / "text.db").write_text("this is no database\n" * 1000)
    place = DatabaseLocation.of_file(tmp_path / "x.db")

    async def work() -> None:
        for method in (Database.reading, Database.writing):
            with pytest.raises(DatabaseAwayError):
                async with method(database := Database(DatabaseLocation.of_file(tmp_path / "text.db"))) as session:
                    await session.execute(text("SELECT 1 FROM users"))
            await database.close()
        await migrator.upgrade(place)
        assert place.path is not None
        with contextlib.closing(sqlite3.connect(place.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            database = Database(place)
            with pytest.raises(DatabaseAwayError, match="locked"):
                async with database.writing() as session:
                    await session.execute(text("SELECT 1"))
            async with database.reading() as session:  # readers go on
                assert await session.scalar(select(func.count()).select_from(User)) == 0
            await database.close()

    run(work())


def test_all_connections_busy_is_away(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.store import database as module

    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.1)

    async def work() -> None:
        database = Database(place)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(module._CONNECTIONS):
                await held.enter_async_context(database.reading())
            with pytest.raises(DatabaseAwayError, match="busy"):
                async with database.reading():
                    pass
        async with database.reading():
            pass
        await database.close()

    run(work())


def test_postgresql_that_ends_and_comes_back() -> None:
    with postgresql() as server:
        place = DatabaseLocation.parse(server.create())

        async def work() -> None:
            await migrator.upgrade(place)
            database = Database(place)
            await database.require_schema()
            async with database.writing() as session:
                session.add(user("a"))
            await asyncio.to_thread(server.stop)
            for _ in range(3):
                with pytest.raises(DatabaseAwayError):
                    async with database.reading() as session:
                        await session.execute(text("SELECT 1"))
            await asyncio.to_thread(server.start)
            async with database.reading() as session:
                assert await session.scalar(select(func.count()).select_from(User)) == 1
            with pytest.raises(DatabaseAwayError):  # noqa: PT012 - in one session
                async with database.reading() as session:
                    await asyncio.to_thread(server.stop)
                    await session.execute(text("SELECT 1"))
            await database.close()
            missing = Database(DatabaseLocation.parse(place.url + "_missing"))
            await asyncio.to_thread(server.start)
            with pytest.raises(DatabaseAwayError, match="does not exist"):
                async with missing.reading():
                    pass
            await missing.close()

        run(work())


def test_an_old_schema_is_told_from_a_mistake(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        for statement in ("SELECT x FROM users", "SELECT 1 FROM wishes"):
            with pytest.raises(NotMigratedError):
                async with database.reading() as session:
                    await session.execute(text(statement))
        with pytest.raises(Exception, match=r"(?i)syntax"):
            async with database.reading() as session:
                await session.execute(text("SELEKT"))
        await database.close()

    run(work())


def test_places(tmp_path: Path) -> None:
    assert DatabaseLocation.parse("sqlite+aiosqlite:////a/b.db").path == (tmp_path / "/a/b.db")
    assert str(DatabaseLocation.parse("sqlite+aiosqlite:///b.db").path) == f"{os.getcwd()}/b.db"
    assert str(DatabaseLocation.parse("postgresql+asyncpg://me:secret@db.local:5433/x?ssl=require")) == "db.local:5433/x"
    assert str(DatabaseLocation.parse("postgresql+asyncpg:///x?host=/run/postgresql")) == "the local PostgreSQL/x"
    shutil.rmtree(tmp_path)


def test_a_file_whose_name_would_mean_something_in_an_address(tmp_path: Path) -> None:
    place = DatabaseLocation.of_file(tmp_path / "a?b#c%20" / "x.db")

    async def work() -> None:
        await migrator.upgrade(place)
        database = Database(place)
        await database.require_schema()
        async with database.reading() as session:
            assert await session.scalar(select(func.count()).select_from(User)) == 0
        await database.close()

    run(work())
    assert place.path is not None
    assert place.path.exists()
