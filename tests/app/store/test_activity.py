"""Windows of users' requests: added by many, closed once, with totals that change in the same transaction."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from app.store import activity, keys
from app.store.database import Database
from app.store.models import Activity

if TYPE_CHECKING:
    from app.store.place import Place

BOUNDS = (1, 2, 5, 10)


async def age(database: Database) -> None:
    """Let what was added be of the window before."""
    async with database.writing() as session:
        await session.execute(update(Activity).values(window=Activity.window - 1))


def test_each_user_of_a_closed_window_is_one_observation(place: Place) -> None:
    async def work() -> None:
        database = Database(place)
        async with database.writing() as session:
            owners = [(await keys.create(session, f"user-{number}"))[1].user_id for number in range(4)]
            await keys.create(session, "idle", lifetime_seconds=0.001)
            _, gone = await keys.create(session, "idle")
            await keys.revoke(session, gone.id)

        async def add(requests: dict[int, int]) -> None:
            async with database.writing() as session:
                await activity.add(session, requests)

        await asyncio.gather(*(add({owners[0]: 1, owners[1]: 2}) for _ in range(3)), *(add({owners[2]: 50}) for _ in range(2)))
        async with database.writing() as session:
            closed = await activity.close(session, BOUNDS)
            open_now = await session.scalar(select(func.sum(Activity.requests)))
        assert closed + (open_now or 0) > 0
        if closed == 0:  # else the hour changed just now, and they are closed already
            assert open_now == 109
            await age(database)

        async def close() -> int:
            async with database.writing() as session:
                return await activity.close(session, BOUNDS)

        again = await asyncio.gather(*(close() for _ in range(4)))
        assert sum(again) + closed == 3
        async with database.reading() as session:
            found = await activity.figures(session)
        assert (found.users, found.requests) == ({2: 1, 3: 1, 4: 1}, 109)
        assert (found.active_users, found.active_keys, found.costs) == (3, 4, {})
        await add({owners[3]: 1, owners[0]: 3})
        await age(database)
        assert await close() == 2
        async with database.reading() as session:
            found = await activity.figures(session)
        assert (found.users, found.requests) == ({0: 1, 2: 2, 3: 1, 4: 1}, 113)
        assert found.active_users == 4
        await database.close()

    time.sleep(max(0.0, 3 - activity.WINDOW_SECONDS + time.time() % activity.WINDOW_SECONDS))  # not over the end of a window
    asyncio.run(work())
