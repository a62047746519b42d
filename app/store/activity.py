"""Users' requests in windows of time, and the totals that closing a window adds to, in the same transaction.

Users are 64-bit keyed hashes here; the key is the database's, so that all instances on it mean the same user.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from app.store import clock
from app.store.models import Activity, ApiKey, Elected, RequestsPerUser, Secret, Seen, Taken, Usage, User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from monitoring.users import Taken as Half

ACTIVE_SECONDS = 300
GRACE_SECONDS = 10
"""A window is closed so long after its end: what workers have noted of it is taken by then."""
_FORGOTTEN_SECONDS = 30 * 86_400
_KEY = "users"
_ROWS = 500
"""At a time: between two such parts the event loop goes on."""


@dataclass(frozen=True)
class Figures:
    """What the elected process shows. `users` and `requests` are of all closed windows, by bucket; costs are 10⁻¹² dollars."""

    active_users: int
    active_keys: int
    costs: dict[str, tuple[int, int]]
    """For each endpoint, what was billed in the last window, and for how many calls."""
    users: dict[int, int]
    requests: int


async def known_key(session: AsyncSession) -> bytes | None:
    """Give the key of users' hashes, where there is one."""
    found: bytes | None = await session.scalar(select(Secret.secret).where(Secret.name == _KEY))
    return found


async def key(session: AsyncSession) -> bytes:
    """Give the key of users' hashes, made where there is none."""
    made = _insert(session, Secret).values(name=_KEY, secret=secrets.token_bytes(32)).on_conflict_do_nothing()
    await session.execute(made)
    found: bytes = (await session.scalars(select(Secret.secret).where(Secret.name == _KEY))).one()
    return found


async def take(session: AsyncSession, half: Half, window_seconds: int) -> None:
    """Add what a worker has noted, unless that was done before."""
    known = await session.get(Taken, half.table, with_for_update=True)
    if known is not None and known.half >= half.half:
        return
    now = await clock.now(session)
    ahead = time.time() - now
    if known is None:
        session.add(Taken(number=half.table, half=half.half, moment=now))
    else:
        known.half, known.moment = half.half, now
    await session.flush()
    # What comes when its window may be closed already, as after a long time without the database, is of the window that is open.
    open_now, oldest = int(now // window_seconds), _closed_before(now, window_seconds)
    requests: dict[tuple[int, int], int] = {}
    seen: dict[int, float] = {}
    for note in half.notes:
        place = (note.window if oldest <= note.window <= open_now else open_now, note.user)
        requests[place] = requests.get(place, 0) + note.requests
        seen[note.user] = max(seen.get(note.user, 0.0), min(note.seen / 1000 - ahead, now))
    await _add(session, requests)
    moments = [{"user": user, "moment": moment} for user, moment in sorted(seen.items())]
    for start in range(0, len(moments), _ROWS):
        setting = _insert(session, Seen)
        # A moment never goes back, but one of the far future is that of a clock that was put back. A near one is that of who looked
        # at the clock after us and was written before.
        better = or_(setting.excluded.moment > Seen.moment, Seen.moment > now + ACTIVE_SECONDS)
        await session.execute(
            setting.on_conflict_do_update(index_elements=["user"], set_={"moment": setting.excluded.moment}, where=better),
            moments[start : start + _ROWS],
        )


async def elect(session: AsyncSession, role: str, holder: str, seconds: float) -> bool:
    """Have a role of the whole database for so many seconds, if nobody else has it; whether `holder` has it."""
    now = await clock.now(session)
    row = await session.get(Elected, role, with_for_update=True)
    if row is None:
        made = _insert(session, Elected).values(role=role, holder=holder, until=now + seconds).on_conflict_do_nothing()
        await session.execute(made)
        return bool(await session.scalar(select(Elected.holder).where(Elected.role == role)) == holder)
    # A time that is further away than any holder asks for is that of a clock that was put back.
    if row.holder != holder and now < row.until <= now + 2 * seconds:
        return False
    row.holder, row.until = holder, now + seconds
    return True


async def close(session: AsyncSession, bounds: Sequence[float], window_seconds: int) -> int:
    """Close every window that is over: each user in it is one observation; give how many there were.

    Windows of a future, which a clock has left that was put back, go on in the one that is open.
    """
    now = await clock.now(session)
    open_now = int(now // window_seconds)
    # The next one may be that of another instance, whose clock is a little ahead.
    ahead = delete(Activity).where(Activity.window > open_now + 1).returning(Activity.user, Activity.requests)
    requests_ahead: dict[tuple[int, int], int] = {}
    for user, requests in await session.execute(ahead):
        requests_ahead[open_now, user] = requests_ahead.get((open_now, user), 0) + requests
    await _add(session, requests_ahead)
    over = delete(Activity).where(Activity.window < _closed_before(now, window_seconds)).returning(Activity.requests)
    closed = list(await session.scalars(over))
    totals: dict[int, tuple[int, int]] = {}
    for requests in closed:
        bucket = bisect_left(bounds, requests)
        users, sum_of_requests = totals.get(bucket, (0, 0))
        totals[bucket] = users + 1, sum_of_requests + requests
    # A statement for each bucket, not for each user: on SQLite nobody else writes meanwhile.
    for bucket, (users, sum_of_requests) in sorted(totals.items()):
        row = await session.get(RequestsPerUser, bucket, with_for_update=True)
        if row is None:
            session.add(RequestsPerUser(bucket=bucket, users=users, requests=sum_of_requests))
            await session.flush()
        else:
            row.users += users
            row.requests += sum_of_requests
    if closed:
        await session.execute(delete(Seen).where(Seen.moment < now - _FORGOTTEN_SECONDS))
        await session.execute(delete(Taken).where(Taken.moment < now - _FORGOTTEN_SECONDS))
    return len(closed)


async def figures(session: AsyncSession) -> Figures:
    """Read what is shown."""
    now = await clock.now(session)
    good = select(func.count()).select_from(ApiKey).join(User)
    good = good.where(User.active, ApiKey.revoked.is_(None), or_(ApiKey.expires.is_(None), ApiKey.expires > now))
    seen = select(func.count()).select_from(Seen).where(Seen.moment > now - ACTIVE_SECONDS, Seen.moment <= now + ACTIVE_SECONDS)
    billed = select(Usage.endpoint, func.sum(Usage.cost), func.count()).group_by(Usage.endpoint)
    billed = billed.where(Usage.created > now - ACTIVE_SECONDS, Usage.created <= now + ACTIVE_SECONDS)
    totals = list(await session.scalars(select(RequestsPerUser)))
    return Figures(
        active_users=await session.scalar(seen) or 0,
        active_keys=await session.scalar(good) or 0,
        costs={endpoint: (int(cost), calls) for endpoint, cost, calls in await session.execute(billed)},
        users={row.bucket: row.users for row in totals},
        requests=sum(row.requests for row in totals),
    )


async def _add(session: AsyncSession, requests: dict[tuple[int, int], int]) -> None:
    """Add requests, by window and user."""
    # In one order for all, so that nobody waits for somebody who waits for it.
    rows = [{"window": window, "user": user, "requests": number} for (window, user), number in sorted(requests.items())]
    for start in range(0, len(rows), _ROWS):
        adding = _insert(session, Activity)
        more = {"requests": Activity.requests + adding.excluded.requests}
        await session.execute(adding.on_conflict_do_update(index_elements=["window", "user"], set_=more), rows[start : start + _ROWS])


def _closed_before(now: float, window_seconds: int) -> int:
    """Give the first window that is not to be closed yet."""
    return int((now - GRACE_SECONDS) // window_seconds)


def _insert(session: AsyncSession, model: type[Any]) -> Any:
    return (postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert)(model)
