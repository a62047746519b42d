"""Windows of users' requests: added by many, closed once, with totals that change in the same transaction."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import types
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, func, select, update

from app.store import activity, keys, migrator
from app.store.database import Database
from app.store.database_url import DatabaseLocation
from app.store.models import Activity, Taken
from monitoring.users import Note
from monitoring.users import Taken as Half

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from tests.postgres import PostgreSQL

BOUNDS = (1, 2, 5, 10)
WINDOW = 3600
numbers = itertools.count(1)


def half(requests: Mapping[int, int], *, table: int = 0, half: int = 1, window: int | None = None, seen: float | None = None) -> Half:
    now = time.time()
    place = int(now // WINDOW) if window is None else window
    moment = int((now if seen is None else seen) * 1000)
    return Half(table or next(numbers), half, [Note(user, place, count, moment) for user, count in requests.items()])


async def take(database: Database, *halves: Half) -> None:
    async def one(each: Half) -> None:
        async with database.writing() as session:
            await activity.take(session, each, WINDOW)

    await asyncio.gather(*map(one, halves))


def set_clocks(monkeypatch: pytest.MonkeyPatch, moment: float, *, database: float | None = None) -> None:
    """Let it be this moment by the clock of this machine, and by the database's, which may be another one."""

    async def now(_session: AsyncSession) -> float:
        return moment if database is None else database

    monkeypatch.setattr(activity, "time", types.SimpleNamespace(time=lambda: moment))
    monkeypatch.setattr(activity, "clock", types.SimpleNamespace(now=now))


async def age(database: Database, windows: int = 2) -> None:
    """Let what was added be of a window long before."""
    async with database.writing() as session:
        await session.execute(update(Activity).values(window=Activity.window - windows))


async def close(database: Database) -> int:
    async with database.writing() as session:
        return await activity.close(session, BOUNDS, WINDOW)


async def figures(database: Database) -> activity.Figures:
    async with database.reading() as session:
        return await activity.figures(session)


def test_each_user_of_a_closed_window_is_one_observation(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        async with database.writing() as session:
            for number in range(4):
                await keys.create(session, f"user-{number}")
            await keys.create(session, "idle", lifetime_seconds=0.001)
            _, gone = await keys.create(session, "idle")
            await keys.revoke(session, gone.id)
        await take(database, *(half({11: 1, -12: 2}) for _ in range(3)), *(half({2**62: 50}) for _ in range(2)))
        assert await close(database) == 0
        async with database.reading() as session:
            assert await session.scalar(select(func.sum(Activity.requests))) == 109
        await age(database)
        assert sum(await asyncio.gather(*(close(database) for _ in range(4)))) == 3
        found = await figures(database)
        assert (found.users, found.requests) == ({2: 1, 3: 1, 4: 1}, 109)
        assert (found.active_users, found.active_keys, found.costs) == (3, 4, {})
        await take(database, half({-7: 1, 11: 3}))
        await age(database)
        assert await close(database) == 2
        found = await figures(database)
        assert (found.users, found.requests) == ({0: 1, 2: 2, 3: 1, 4: 1}, 113)
        assert found.active_users == 4
        await database.close()

    time.sleep(max(0.0, 3 - WINDOW + time.time() % WINDOW))  # not over the end of a window
    asyncio.run(work())


def test_a_half_is_taken_once(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        first = half({1: 5}, table=77)
        await take(database, first)
        await take(database, first)
        await take(database, half({1: 7}, table=77, half=2))
        await take(database, first)
        async with database.reading() as session:
            assert await session.scalar(select(func.sum(Activity.requests))) == 12
            assert (await session.get_one(Taken, 77)).half == 2

        # Where it is not kept whole it is not kept at all.
        with contextlib.suppress(ZeroDivisionError):
            async with database.writing() as session:
                await activity.take(session, half({1: 9}, table=77, half=3), WINDOW)
                raise ZeroDivisionError
        await take(database, half({1: 9}, table=77, half=3))
        async with database.reading() as session:
            assert await session.scalar(select(func.sum(Activity.requests))) == 21
        await database.close()

    asyncio.run(work())


def test_more_users_than_one_statement_takes(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        many = {user - 1000: 1 for user in range(2500)}
        await take(database, half(many), half(many))
        assert (await figures(database)).active_users == 2500
        await age(database)
        assert await close(database) == 2500
        found = await figures(database)
        assert (found.users, found.requests) == ({1: 2500}, 5000)
        await database.close()

    asyncio.run(work())


def test_closing_a_window_takes_a_fixed_number_of_statements(place: DatabaseLocation) -> None:
    """On SQLite nobody else writes meanwhile: ten thousand users would keep everybody waiting for ten seconds."""

    async def work() -> None:
        database, statements = Database(place), [0]

        def count(*_: object) -> None:
            statements[0] += 1

        event.listen((await database._opened()).sync_engine, "before_cursor_execute", count)
        taken = []
        for users in (4, 400):
            await take(database, half({user: 1 + user % 4 for user in range(users)}))
            await age(database)
            statements[0] = 0
            assert await close(database) == users
            taken.append(statements[0])
        assert taken[1] <= taken[0]
        assert (await figures(database)).users == {0: 101, 1: 101, 2: 202}
        await database.close()

    asyncio.run(work())


def test_late_requests_count_in_a_window_that_is_open(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        database = Database(place)
        window = int(time.time() // WINDOW)
        now = (window + 0.5) * WINDOW
        set_clocks(monkeypatch, now)
        await take(
            database, half({1: 1}, window=window - 50, seen=now - 50 * WINDOW), half({1: 1, 2: 1}, window=window + 50, seen=now + 10**6)
        )
        async with database.reading() as session:
            found = {(row.window, row.user): row.requests for row in await session.scalars(select(Activity))}
        assert found == {(window, 1): 2, (window, 2): 1}
        assert (await figures(database)).active_users == 2
        await take(database, half({1: 1}, seen=now - 1000))
        assert (await figures(database)).active_users == 2, "a moment never goes back"
        await age(database)
        assert await close(database) == 2
        await database.close()

    asyncio.run(work())


def test_the_last_writer_takes_no_timestamp_back(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        database = Database(place)
        now = (time.time() // WINDOW + 0.5) * WINDOW
        set_clocks(monkeypatch, now)
        await take(database, half({1: 1}, seen=now))
        set_clocks(monkeypatch, now - 0.001)
        await take(database, half({1: 1}, seen=now - 1000))
        assert (await figures(database)).active_users == 1
        await database.close()

    asyncio.run(work())


def test_a_clock_far_ahead_hides_no_user_and_holds_no_window(place: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        database = Database(place)
        now = time.time()
        day = 86_400
        set_clocks(monkeypatch, now + day)
        await take(database, half({1: 3, 2: 1}, window=int((now + day) // WINDOW), seen=now + day))
        assert (await figures(database)).active_users == 2
        set_clocks(monkeypatch, now)  # it is put back
        assert (await figures(database)).active_users == 0
        await take(database, half({1: 1}, window=int(now // WINDOW), seen=now))
        assert (await figures(database)).active_users == 1, "who makes a request now is active now"
        assert await close(database) == 0
        later = now + WINDOW + activity.GRACE_SECONDS
        set_clocks(monkeypatch, later)
        assert await close(database) == 2, "no window waits until that day"
        found = await figures(database)
        assert (found.users, found.requests) == ({0: 1, 2: 1}, 5)
        await database.close()

    asyncio.run(work())


@pytest.mark.parametrize("ahead", [-WINDOW - 60, -400, -60, 60, 400, WINDOW + 60])
def test_an_instance_with_a_wrong_clock_closes_no_window_early(server: PostgreSQL, monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """Only PostgreSQL is of more than one machine."""

    async def work() -> None:
        await migrator.upgrade(place)
        database, users = Database(place), 1
        for skew in (0.0, ahead) * 2:
            wrong = time.time() + skew
            monkeypatch.setattr(activity, "time", types.SimpleNamespace(time=lambda: wrong))  # noqa: B023 - of this turn
            users += 1
            await take(database, half({1: 1, users: 1}, window=int(wrong // WINDOW), seen=wrong))
            async with database.writing() as session:
                assert await activity.elect(session, "role", "wrong" if skew else "right", 60) == (not skew)
            assert await close(database) == 0
            assert (await figures(database)).active_users == users
        await age(database)
        assert await close(database) == users
        assert (await figures(database)).requests == 8
        await database.close()

    place = DatabaseLocation.parse(server.create())
    time.sleep(max(0.0, 60 - WINDOW + time.time() % WINDOW))  # not over the end of a window
    asyncio.run(work())


def test_one_instance_is_elected(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)

        async def elect(holder: str, seconds: float = 3600.0) -> bool:
            async with database.writing() as session:
                return await activity.elect(session, "role", holder, seconds)

        won = await asyncio.gather(*(elect(f"instance-{number}") for number in range(5)))
        assert sum(won) == 1
        holder = f"instance-{won.index(True)}"
        assert await elect(holder)
        assert not await elect("another")
        assert await elect(holder, 0.0)
        assert await elect("another"), "its time is over"
        assert not await elect(holder)
        assert await elect(holder, 1.0), "an hour is more than anybody asks for: a clock was put back"
        await database.close()

    asyncio.run(work())


def test_all_instances_have_one_key(place: DatabaseLocation) -> None:
    async def work() -> None:
        databases = [Database(place) for _ in range(3)]

        async def key(database: Database) -> bytes:
            async with database.writing() as session:
                return await activity.key(session)

        found = set(await asyncio.gather(*map(key, databases)))
        assert len(found) == 1
        assert len(found.pop()) == 32
        for database in databases:
            await database.close()

    asyncio.run(work())
