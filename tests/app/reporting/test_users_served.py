"""Many users (a thousand in `make proof`) over eight workers that are killed: each is one, each request counts once.

The same on two instances."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from app.store import keys
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from app.store.models import Activity
from tests.app.keyed_service import bearer
from tests.conftest import PROVES, ROOT, built_environment
from tests.gunicorn_service import Gunicorn
from tests.processes import send, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession

    from tests.postgres import PostgreSQL

FAMILY = "neurectomy_active_users"
USERS = 1000 if PROVES else 120
KILLS = 4 if PROVES else 2
TAKEOVERS = 50 if PROVES else 2
SETTINGS = {"REQUIRE_API_KEY": "1", "USER_WINDOW_SECONDS": "86400"}


def within(place: DatabaseLocation, work: Callable[[AsyncSession], object]) -> object:
    """Do something with the database, as another instance would."""

    async def done() -> object:
        database = Database(place)
        async with database.writing() as session:
            result = await work(session)  # type: ignore[misc]
        await database.close()
        return result

    return asyncio.run(done())


async def make_keys(session: AsyncSession) -> list[str]:
    return [(await keys.create(session, f"user-{number}"))[0] for number in range(USERS)]


async def requests_in_windows(session: AsyncSession) -> tuple[int, int, int]:
    columns = func.count(), func.count(func.distinct(Activity.user)), func.coalesce(func.sum(Activity.requests), 0)
    row = (await session.execute(select(*columns))).one()
    return int(row[0]), int(row[1]), int(row[2])


async def let_time_pass(session: AsyncSession) -> None:
    await session.execute(update(Activity).values(window=Activity.window - 2))


def shown(gunicorn: Gunicorn, series: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in gunicorn.scrape().splitlines() if line.rpartition(" ")[0] == f"neurectomy_{series}"]


@pytest.fixture
def other(gunicorn: Gunicorn, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Gunicorn]:
    """A second instance."""
    port, metrics_port = free_port(), free_port()
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "other").mkdir()
    environment = {name: value for name, value in gunicorn.environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    environment |= {"BIND": f"127.0.0.1:{port}", "METRICS_BIND": f"127.0.0.1:{metrics_port}", "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    made = Gunicorn(environment, tmp_path / "other", port, metrics_port)
    yield made
    made.end()


def use(started: dict[Gunicorn, int], users: list[str]) -> int:
    """Requests of all users, in any order, to any instance and worker, while workers are killed; gives how many.

    Nobody is killed under a request: whether that one was counted nobody could say.
    """
    asked = [user for user in users for _ in range(random.choice([1, 1, 2, 3]))]
    random.shuffle(asked)

    def request(user: str) -> None:
        gunicorn = random.choice(list(started))
        answer = ask(gunicorn.port, "GET", "/v1/models", headers=bearer(user))
        assert answer.status == 200, answer

    batch = -(-len(asked) // (KILLS + 1))
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, len(asked), batch):
            list(pool.map(request, asked[start : start + batch]))
            if start + batch >= len(asked):
                break
            gunicorn, master = random.choice(list(started.items()))
            for victim in random.sample(gunicorn.workers(master), 2):
                send(victim, 9)
                wait_dead(victim)
    return len(asked)


@pytest.mark.usefixtures("preloaded")
@pytest.mark.parametrize("where", [pytest.param("sqlite", marks=pytest.mark.proof), "postgresql, two instances"])
def test_many_users_are_as_many(gunicorn: Gunicorn, where: str, request: pytest.FixtureRequest) -> None:
    settings, instances = SETTINGS | {"WEB_CONCURRENCY": "8"}, [gunicorn]
    place = DatabaseLocation.of_file(Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db")
    if where != "sqlite":
        server: PostgreSQL = request.getfixturevalue("server")
        settings |= {"DATABASE_URL": server.create(), "WEB_CONCURRENCY": "4"}
        place = DatabaseLocation.parse(settings["DATABASE_URL"])
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=built_environment() | settings, check=True)
        instances.append(request.getfixturevalue("other"))
    users = within(place, make_keys)
    assert isinstance(users, list)
    started = {each: each.start(**settings) for each in instances}
    total = use(started, users)
    for each in started:
        wait_until(lambda each=each: shown(each, "active_users") == [USERS], f"{USERS} active users, not {shown(each, 'active_users')}")
    wait_until(lambda: within(place, requests_in_windows)[2] == total, "all requests are in the database")  # type: ignore[index]
    rows, distinct, _ = within(place, requests_in_windows)  # type: ignore[misc]
    assert distinct == USERS
    assert shown(gunicorn, "users_unnoted_requests_total") == [0]
    within(place, let_time_pass)
    for each in started:
        wait_until(lambda each=each: shown(each, "requests_per_user_sum") == [total], "the window is closed")
        assert shown(each, "requests_per_user_count") == [rows]
        assert shown(each, 'requests_per_user_bucket{le="+Inf"}') == [rows]
    for each, master in started.items():  # whoever shows it dies
        for worker in each.workers(master):
            send(worker, 9)
            wait_dead(worker)
        wait_until(lambda each=each: shown(each, "active_users") == [USERS], "they are shown again")
        assert shown(each, "requests_per_user_count") == [rows]
        assert shown(each, "requests_per_user_sum") == [total]


@pytest.mark.usefixtures("preloaded")
def test_who_shows_them_is_followed_when_it_is_killed(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="4", **SETTINGS)
    users = within(DatabaseLocation.of_file(Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db"), make_keys)
    assert isinstance(users, list)
    for user in users[:7]:
        assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(user)).status == 200
    wait_until(lambda: shown(gunicorn, "active_users") == [7], "seven users")
    stop, seen = threading.Event(), []

    def watch() -> None:
        while not stop.wait(0.01):
            seen.append((time.monotonic(), shown(gunicorn, "active_users")))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(TAKEOVERS):
            wait_until(lambda: len(gunicorn.workers(master)) == 4, "four workers")
            for user in users[:7]:  # they stay active
                assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(user)).status == 200
            victim = gunicorn.showing(master, FAMILY)
            assert victim is not None
            send(victim, 9)
            wait_dead(victim)
            wait_until(lambda victim=victim: gunicorn.showing(master, FAMILY) not in {None, victim}, "another one is elected")
            wait_until(lambda: shown(gunicorn, "active_users") == [7], "another shows them")
    finally:
        stop.set()
        watching.join()
    assert {tuple(values) for _, values in seen} <= {(), (7.0,)}, "one value, or for a moment none"
    last, longest = seen[0][0], 0.0
    for moment, values in seen:
        if values:
            longest, last = max(longest, moment - last), moment
    print(f"{TAKEOVERS} takeovers, the longest without a value {longest:.2f} s")


def test_a_worker_that_never_used_the_database_follows_one_that_did(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="2", REQUIRE_API_KEY="0", USER_WINDOW_SECONDS="86400")
    users = within(DatabaseLocation.of_file(Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db"), make_keys)
    assert isinstance(users, list)
    assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(users[0])).status == 200
    wait_until(lambda: shown(gunicorn, "active_users") == [1], "one user")
    victim = gunicorn.showing(master, FAMILY)
    assert victim is not None
    send(victim, 9)
    wait_dead(victim)
    wait_until(lambda: gunicorn.showing(master, FAMILY) not in {None, victim}, "another one is elected")
    wait_until(lambda: shown(gunicorn, "active_users") == [1], "another shows it")


def test_users_are_noted_while_nobody_can_write(gunicorn: Gunicorn) -> None:
    gunicorn.start(WEB_CONCURRENCY="2", **SETTINGS)
    file = Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db"
    users = within(DatabaseLocation.of_file(file), make_keys)
    assert isinstance(users, list)
    assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(users[0])).status == 200
    wait_until(lambda: shown(gunicorn, "active_users") == [1], "one user")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for user in users[:50]:
            assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(user)).status == 200
        other.execute("ROLLBACK")
    wait_until(lambda: shown(gunicorn, "active_users") == [50], "fifty users")
    wait_until(lambda: within(DatabaseLocation.of_file(file), requests_in_windows)[2] == 51, "all requests")  # type: ignore[index]
    assert shown(gunicorn, "users_unnoted_requests_total") == [0]
