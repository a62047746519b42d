"""Users, keys and costs as the elected process shows them, under many workers that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from app.integrations.ryot.stand_in import MODEL
from app.reporting import usage
from app.reporting.usage import Business
from app.store import migrator
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from app.store.models import Activity
from monitoring import metrics
from monitoring.users import CAPACITY, Taken
from tests.app.keyed_service import ADMIN, JSON, bearer
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn


def shown(gunicorn: Gunicorn, series: str) -> float | None:
    name = f"neurectomy_{series}"
    values = [float(line.rpartition(" ")[2]) for line in gunicorn.scrape().splitlines() if line.rpartition(" ")[0] == name]
    return values[0] if values else None


def await_shown(gunicorn: Gunicorn, **wanted: float) -> None:
    wait_until(lambda: {name: shown(gunicorn, name) for name in wanted} == wanted, f"{wanted}, not {gunicorn.scrape()}")


def closed_window(gunicorn: Gunicorn, *requests: int) -> None:
    """Put a window that is over into the database, as workers would have a while ago."""
    with (
        contextlib.closing(sqlite3.connect(Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db", timeout=60)) as connection,
        connection,
    ):
        connection.executemany(
            'INSERT INTO activity ("window", "user", requests) VALUES (?, ?, ?)',
            [(int(time.time() // 300) - 2, user + 1, number) for user, number in enumerate(requests)],
        )


def histogram(gunicorn: Gunicorn) -> dict[str, float | None]:
    bounds = {"one": "1.0", "hundred": "100.0", "all": "+Inf"}
    found = {name: shown(gunicorn, f'requests_per_user_bucket{{le="{bound}"}}') for name, bound in bounds.items()}
    return found | {"sum": shown(gunicorn, "requests_per_user_sum"), "count": shown(gunicorn, "requests_per_user_count")}


@pytest.mark.usefixtures("preloaded")
def test_users_keys_and_costs_are_those_of_all_workers(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="3", REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN)
    admin = bearer(ADMIN) | JSON
    made = [
        json.loads(ask(gunicorn.port, "POST", "/v1/keys", json.dumps({"user": f"u{number % 3}"}).encode(), admin).body)
        for number in range(6)
    ]
    await_shown(gunicorn, api_keys_active=6.0, active_users=0.0)
    price = json.dumps({"prompt": "0", "generated": "100"}).encode()
    assert ask(gunicorn.port, "PUT", "/v1/prices", price, admin).status == 200
    call = json.dumps({"model": MODEL, "prompt": "The", "max_tokens": 4, "seed": 1}).encode()
    generated = 0
    for each in made[:2] * 4:  # two of the three users, on a connection each
        answer = ask(gunicorn.port, "POST", "/v1/completions", call, bearer(each["key"]) | JSON)
        generated += json.loads(answer.body)["usage"]["completion_tokens"]
    await_shown(gunicorn, active_users=2.0)
    wait_until(
        lambda: shown(gunicorn, 'cost_per_request{endpoint="/v1/completions"}') == pytest.approx(generated * 1e-4 / 8), "costs per request"
    )
    assert ask(gunicorn.port, "DELETE", f"/v1/keys/{made[5]['id']}", headers=admin).status == 204
    await_shown(gunicorn, api_keys_active=5.0)

    closed_window(gunicorn, 1, 60, 2000)
    wanted = {"one": 1.0, "hundred": 2.0, "all": 3.0, "sum": 2061.0, "count": 3.0}
    wait_until(lambda: histogram(gunicorn) == wanted, "the closed window")
    before = gunicorn.workers(master)
    for worker in before:  # the elected one too
        os.kill(worker, 9)
    wait_until(lambda: len(set(gunicorn.workers(master)) - set(before)) == 3, "other workers")
    await_shown(gunicorn, api_keys_active=5.0)
    assert histogram(gunicorn) == wanted
    closed_window(gunicorn, 70)
    wait_until(lambda: histogram(gunicorn) == {"one": 1.0, "hundred": 3.0, "all": 4.0, "sum": 2131.0, "count": 4.0}, "the next one")


def test_a_new_run_shows_the_totals_of_the_database_again(gunicorn: Gunicorn) -> None:
    gunicorn.start(REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN)
    admin = bearer(ADMIN) | JSON
    assert ask(gunicorn.port, "POST", "/v1/keys", b'{"user": "x"}', admin).status == 201
    closed_window(gunicorn, 7)
    wait_until(lambda: histogram(gunicorn)["sum"] == 7.0, "the closed window")
    gunicorn.end()
    gunicorn.start(REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN)
    wait_until(lambda: histogram(gunicorn) == {"one": 0.0, "hundred": 1.0, "all": 1.0, "sum": 7.0, "count": 1.0}, "it is back")


def test_what_is_not_known_is_not_shown(gunicorn: Gunicorn) -> None:
    gunicorn.start(REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN)
    assert ask(gunicorn.port, "POST", "/v1/keys", b'{"user": "x"}', bearer(ADMIN) | JSON).status == 201
    await_shown(gunicorn, api_keys_active=1.0)
    database = Path(gunicorn.environment["DATA_DIR"]) / "neurectomy.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("ALTER TABLE activity RENAME TO hidden")
        wait_until(lambda: str(shown(gunicorn, "api_keys_active")) == "nan", "nothing is said")
        assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(ADMIN)).status == 200
        other.execute("ALTER TABLE hidden RENAME TO activity")
    await_shown(gunicorn, api_keys_active=1.0)
    assert gunicorn.log.read_text().count("users and costs are not shown: ") == 1


def test_a_bad_file_in_the_metrics_directory_hides_no_users(gunicorn: Gunicorn, metrics_directory: Path) -> None:
    gunicorn.start(REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN)
    assert ask(gunicorn.port, "POST", "/v1/keys", b'{"user": "x"}', bearer(ADMIN) | JSON).status == 201
    await_shown(gunicorn, api_keys_active=1.0)
    (metrics_directory / "histogram_s77.db").write_bytes(os.urandom(5000))
    (metrics_directory / "histogram_s78.db").mkdir()
    os.mkfifo(metrics_directory / "histogram_s79.db")
    (metrics_directory / "77.users").mkdir()
    closed_window(gunicorn, 7)
    wait_until(lambda: histogram(gunicorn)["sum"] == 7.0, "the closed window")
    await_shown(gunicorn, api_keys_active=1.0)
    assert "users and costs are not shown" not in gunicorn.log.read_text()


def test_a_request_for_which_there_is_no_room_is_counted_at_once(tmp_path: Path) -> None:
    """Whoever waits for the database may be killed before it has written."""

    async def work() -> None:
        worker = Business(Database(DatabaseLocation.of_file(tmp_path / "none.db")), 300)
        worker._key = b"key"
        before = metrics.users_unnoted_requests._value.get()
        for user in range(CAPACITY + 5):
            await worker.seen(user)
        assert metrics.users_unnoted_requests._value.get() - before == 5

    asyncio.run(work())


def test_totals_are_shown_while_requests_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = DatabaseLocation.of_file(tmp_path / "neurectomy.db")

    async def work() -> None:
        await migrator.upgrade(place)
        database = Database(place)
        worker, moved = Business(database, 300), 0
        keep = worker._keep

        async def kept(taken: Taken) -> None:
            nonlocal moved
            moved += 1
            if moved < 20:
                await worker.seen(moved)
            await keep(taken)

        monkeypatch.setattr(worker, "_keep", kept)
        await worker.seen(1)
        await worker._add()
        assert moved <= 2
        await worker._add()
        await worker._add()
        async with database.reading() as session:
            assert await session.scalar(select(func.sum(Activity.requests))) == moved
        await database.close()

    asyncio.run(work())


def test_who_stops_while_it_adds_to_the_histogram_ends_that_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next elected process adds what is missing: it must not find what is still being added."""
    place = DatabaseLocation.of_file(tmp_path / "neurectomy.db")
    begun, go_on = threading.Event(), threading.Event()

    def catch_up(_figures: object) -> None:
        begun.set()
        assert go_on.wait(600)

    async def work() -> None:
        await migrator.upgrade(place)
        database = Database(place)
        monkeypatch.setattr(usage, "_catch_up", catch_up)
        showing = asyncio.create_task(Business(database, 300)._show())
        assert await asyncio.to_thread(begun.wait, 600)
        showing.cancel()
        await asyncio.wait([showing], timeout=0.2)
        try:
            assert not showing.done()
        finally:
            go_on.set()
        await asyncio.wait([showing])
        assert showing.cancelled()
        await database.close()

    asyncio.run(work())
