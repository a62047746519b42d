"""The service and its database: who migrates when, and what is said until it is ready."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.store import schema_version
from tests.conftest import ROOT
from tests.processes import wait_dead, wait_until
from tests.server_process import ask, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn
    from tests.postgres import PostgreSQL
    from tests.server_process import Served

MISSING = "/health/ready is 503"


@pytest.fixture
def database(gunicorn: Gunicorn, tmp_path: Path) -> Iterator[Path]:
    """A file that is not there yet, in a folder that is not either."""
    gunicorn.environment["DATA_DIR"] = str(tmp_path / "fresh" / "data")
    return tmp_path / "fresh" / "data" / "neurectomy.db"


def ready(port: int) -> dict[str, object]:
    answer = ask(port, "GET", "/health/ready")
    said: dict[str, object] = json.loads(answer.body)
    if answer.status == 503:
        assert answer.headers["retry-after"] == "5"
    assert answer.status == said.get("status") or (answer.status, said) == (200, {"status": "ready"})
    return said


@pytest.mark.parametrize("preload", ["0", "1"])
def test_the_master_makes_a_fresh_file_before_it_forks(gunicorn: Gunicorn, database: Path, preload: str) -> None:
    gunicorn.start(PRELOAD=preload)
    assert ready(gunicorn.port) == {"status": "ready"}
    assert schema_version.of_file(database) == schema_version.HEAD
    assert MISSING not in gunicorn.log.read_text()
    assert database.parent.stat().st_mode & 0o077 == database.stat().st_mode & 0o077 == 0


def test_no_master_of_usr2_and_no_worker_after_hup_migrates(gunicorn: Gunicorn, database: Path) -> None:
    master = gunicorn.start()
    # The service answers when one worker does; the other must have looked at the database as well before it is spoiled.
    wait_until(lambda: gunicorn.log.read_text().count("Application startup complete") == 2, "both workers have started")
    first = gunicorn.workers(master)
    assert ready(gunicorn.port) == {"status": "ready"}
    with sqlite3.connect(database) as connection:  # as old as can be: whoever migrates would bring it all
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f'DROP TABLE "{name}"')
    connection.close()
    os.kill(master, signal.SIGHUP)
    wait_dead(*first)
    wait_until(lambda: gunicorn.log.read_text().count(MISSING) == 2, "both new workers say so")
    said = ready(gunicorn.port)
    assert said["reason"] == "not_migrated"
    assert "`python -m app.migrate`" in str(said["detail"])
    os.kill(master, signal.SIGUSR2)
    second = gunicorn.pidfile.with_name("pid.2")
    wait_until(lambda: second.exists() and second.read_text().strip(), "a second master")
    wait_until(lambda: gunicorn.log.read_text().count(MISSING) == 4, "its workers say so")
    assert schema_version.of_file(database) is None
    assert ask(gunicorn.port, "GET", "/health/live").status == 200
    gunicorn.compress()
    subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=gunicorn.environment, check=True, capture_output=True)
    assert ready(gunicorn.port) == {"status": "ready"}


def test_a_folder_that_cannot_be_made_costs_what_needs_it(gunicorn: Gunicorn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gunicorn.start(DATA_DIR=str(tmp_path / "file" / "data"))
    assert ready(gunicorn.port)["reason"] == "not_migrated"  # the command says why
    assert ask(gunicorn.port, "GET", "/health/live").status == 200
    gunicorn.compress()
    assert re.search(r"\[ERROR\] the database .*: Not a directory.*; /health/ready is 503 until it is ready", gunicorn.log.read_text())


@pytest.mark.parametrize("url", ["mysql+aiomysql://me:secret@127.0.0.1/x", "sqlite:///x.db", "sqlite+aiosqlite://", "postgresql://x/y"])
def test_another_database_is_refused_in_one_line(gunicorn: Gunicorn, url: str) -> None:
    line = gunicorn.fail(DATABASE_URL=url)
    assert line.startswith("DATABASE_URL=(hidden) is not allowed: it must be sqlite+aiosqlite:///path of a file, or postgresql+asyncpg://")
    assert "secret" not in line


def uvicorn(port: int, *more: str) -> list[str]:
    return ["-m", "uvicorn", "--port", str(port), *more, "app.main:app"]


def test_without_a_master_the_first_worker_does_it(
    environment: dict[str, str], metrics_directory: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
    with serving(uvicorn(port, "--workers", "3"), port, "/health/ready", environment, tmp_path / "log") as served:
        assert ready(served.port) == {"status": "ready"}
        assert MISSING not in served.log.read_text()
    assert schema_version.of_file(tmp_path / "data" / "neurectomy.db") == schema_version.HEAD


def test_on_postgresql_only_the_command_migrates(
    server: PostgreSQL, environment: dict[str, str], metrics_directory: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, url = free_port(), server.create()
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), "DATABASE_URL": url}

    def check(served: Served) -> None:
        assert ready(served.port)["reason"] == "not_migrated"
        assert "`python -m app.migrate`" in str(ready(served.port)["detail"])
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=environment, check=True, capture_output=True)
        assert ready(served.port) == {"status": "ready"}

    with serving(uvicorn(port), port, "/health/live", environment, tmp_path / "log") as served:
        check(served)


def test_a_database_that_is_away_at_the_start_is_awaited(
    environment: dict[str, str], metrics_directory: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    url = f"postgresql+asyncpg://me:secret@127.0.0.1:{free_port()}/x"
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), "DATABASE_URL": url}
    with serving(uvicorn(port), port, "/health/live", environment, tmp_path / "log") as served:
        assert ready(port)["reason"] == "database_away"
        assert ask(port, "GET", "/health/live").status == 200
        assert served.process.poll() is None
    assert "secret" not in (tmp_path / "log").read_text()
