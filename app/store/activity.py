"""Users' requests in windows of time, and the totals. Closing a window adds it to the totals in the same transaction.

Users are 64-bit keyed hashes here. The key is in the database, so that all its instances compute the same hash.
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
"""A window is closed this long after its end: by then the notes of all workers have been taken."""
_FORGOTTEN_SECONDS = 30 * 86_400
_KEY = "users"
_ROWS = 500
"""Rows at a time. In between the event loop runs."""


@dataclass(frozen=True)
class Figures:
    """The figures that the elected process shows. `users` and `requests` are of all closed windows; costs are 10⁻¹² dollars."""

    active_users: int
    active_keys: int
    costs: dict[str, tuple[int, int]]
    """For each endpoint, the billed cost and the calls of the last window."""
    users: dict[int, int]
    requests: int


async def known_key(session: AsyncSession) -> bytes | None:
    """Return the key of users' hashes, or None if there is none yet."""
    found: bytes | None = await session.scalar(select(Secret.secret).where(Secret.name == _KEY))
    return found


async def key(session: AsyncSession) -> bytes:
    """Return the key of users' hashes; create it if there is none."""
    made = _insert(session, Secret).values(name=_KEY, secret=secrets.token_bytes(32)).on_conflict_do_nothing()
    await session.execute(made)
    found: bytes = (await session.scalars(select(Secret.secret).where(Secret.name == _KEY))).one()
    return found


async def take(session: AsyncSession, half: Half, window_seconds: int) -> None:
    """Add the notes of a worker, unless that was done before."""
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
    # After a long time without the database the window may be closed already. Then the notes count in the open one.
    open_now, oldest = int(now // window_seconds), _closed_before(now, window_seconds)
    requests: dict[tuple[int, int], int] = {}
    seen: dict[int, float] = {}
    for note in half.notes:
        location = (note.window if oldest <= note.window <= open_now else open_now, note.user)
        requests[location] = requests.get(location, 0) + note.requests
        seen[note.user] = max(seen.get(note.user, 0.0), min(note.seen / 1000 - ahead, now))
    await _add(session, requests)
    moments = [{"user": user, "moment": moment} for user, moment in sorted(seen.items())]
    for start in range(0, len(moments), _ROWS):
        setting = _insert(session, Seen)
        # The time never goes back, except that one in the far future is of a clock that was put back. One in the near future is of a worker
        # that read the clock after this one and wrote before it.
        better = or_(setting.excluded.moment > Seen.moment, Seen.moment > now + ACTIVE_SECONDS)
        await session.execute(
            setting.on_conflict_do_update(index_elements=["user"], set_={"moment": setting.excluded.moment}, where=better),
            moments[start : start + _ROWS],
        )


async def elect(session: AsyncSession, role: str, holder: str, seconds: float) -> bool:
    """Take a role of the whole database for `seconds`, unless another holder has it; return whether `holder` has it."""
    now = await clock.now(session)
    row = await session.get(Elected, role, with_for_update=True)
    if row is None:
        made = _insert(session, Elected).values(role=role, holder=holder, until=now + seconds).on_conflict_do_nothing()
        await session.execute(made)
        return bool(await session.scalar(select(Elected.holder).where(Elected.role == role)) == holder)
    # A time further away than any holder asks for is of a clock that was put back.
    if row.holder != holder and now < row.until <= now + 2 * seconds:
        return False
    row.holder, row.until = holder, now + seconds
    return True


async def close(session: AsyncSession, bounds: Sequence[float], window_seconds: int) -> int:
    """Close every window that is over: each user in it is one observation; return their number.

    Windows in the future, left by a clock that was put back, are merged into the open one.
    """
    now = await clock.now(session)
    open_now = int(now // window_seconds)
    # The next one may belong to another instance, whose clock is a little ahead.
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
    # One statement for each bucket, not for each user: on SQLite no other transaction can write in the meantime.
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
    """Return the figures to show."""
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
    # In one order for all workers, which prevents deadlocks.
    rows = [{"window": window, "user": user, "requests": number} for (window, user), number in sorted(requests.items())]
    for start in range(0, len(rows), _ROWS):
        adding = _insert(session, Activity)
        more = {"requests": Activity.requests + adding.excluded.requests}
        await session.execute(adding.on_conflict_do_update(index_elements=["window", "user"], set_=more), rows[start : start + _ROWS])


def _closed_before(now: float, window_seconds: int) -> int:
    """Return the first window that must stay open."""
    return int((now - GRACE_SECONDS) // window_seconds)


def _insert(session: AsyncSession, model: type[Any]) -> Any:
    return (postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert)(model)
