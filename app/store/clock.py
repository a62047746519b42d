"""The clock that all instances on a database share: PostgreSQL's own, or, for a SQLite file, that of its machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

_MOMENT = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)")


async def now(session: AsyncSession) -> float:
    """Return the present time, in seconds since 1970."""
    if session.get_bind().dialect.name == "postgresql":
        moment: float = (await session.execute(_MOMENT)).scalar_one()
        return moment
    return time.time()
