"""Users' requests in windows of five minutes, and the totals that closing a window adds to, in the same transaction."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.store.models import Activity, ApiKey, RequestsPerUser, Usage, User

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

WINDOW_SECONDS = 300


@dataclass(frozen=True)
class Figures:
    """What the elected process shows. `users` and `requests` are of all closed windows, by bucket; costs are 10⁻¹² dollars."""

    active_users: int
    active_keys: int
    costs: dict[str, tuple[int, int]]
    """For each endpoint, what was billed in the last window, and for how many calls."""
    users: dict[int, int]
    requests: int


async def add(session: AsyncSession, requests: Mapping[int, int]) -> None:
    """Add these users' requests to the window that is open now."""
    now = time.time()
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = [{"window": int(now // WINDOW_SECONDS), "user_id": user, "requests": number} for user, number in sorted(requests.items())]
    adding = insert(Activity).values(rows)
    added = {"requests": Activity.requests + adding.excluded.requests}
    await session.execute(adding.on_conflict_do_update(index_elements=["window", "user_id"], set_=added))
    await session.execute(update(User).where(User.id.in_(sorted(requests))).values(seen=now))


async def close(session: AsyncSession, bounds: Sequence[float]) -> int:
    """Close every window that is over: each user in it is one observation; give how many there were."""
    over = delete(Activity).where(Activity.window < int(time.time() // WINDOW_SECONDS)).returning(Activity.requests)
    closed = list(await session.scalars(over))
    for requests in closed:
        bucket = bisect_left(bounds, requests)
        row = await session.get(RequestsPerUser, bucket, with_for_update=True)
        if row is None:
            session.add(RequestsPerUser(bucket=bucket, users=1, requests=requests))
            await session.flush()
        else:
            row.users += 1
            row.requests += requests
    return len(closed)


async def figures(session: AsyncSession) -> Figures:
    """Read what is shown."""
    now = time.time()
    good = select(func.count()).select_from(ApiKey).join(User)
    good = good.where(User.active, ApiKey.revoked.is_(None), or_(ApiKey.expires.is_(None), ApiKey.expires > now))
    seen = select(func.count()).select_from(User).where(User.seen > now - WINDOW_SECONDS)
    billed = select(Usage.endpoint, func.sum(Usage.cost), func.count()).where(Usage.created > now - WINDOW_SECONDS).group_by(Usage.endpoint)
    totals = list(await session.scalars(select(RequestsPerUser)))
    return Figures(
        active_users=await session.scalar(seen) or 0,
        active_keys=await session.scalar(good) or 0,
        costs={endpoint: (int(cost), calls) for endpoint, cost, calls in await session.execute(billed)},
        users={row.bucket: row.users for row in totals},
        requests=sum(row.requests for row in totals),
    )
